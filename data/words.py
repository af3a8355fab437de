"""Word lists that several tasks draw from.

Every word is one token after a space in the vocabularies of GPT-2 and SmolLM2; other tokenisers drop what they split.
"""


def word_list(words: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(words.split())


WOMEN = word_list(
    "Mary Sarah Emma Anna Alice Laura Julia Jessica Jennifer Emily Kate Amy Lisa Rachel Michelle Elizabeth Susan Karen "
    "Linda Nancy Maria Jane Helen Rebecca Amanda Melissa Nicole Katie Lauren Angela Victoria Samantha Stephanie "
    "Christina Anne Ruth Barbara Patricia Margaret Sandra Diana Claire Lucy Sophie Hannah Olivia Sophia Charlotte "
    "Caroline Martha Catherine Allison Erin Heather"
)
MEN = word_list(
    "John James Robert Michael William David Richard Thomas Charles Daniel Matthew Mark Paul Steven Andrew Kevin Brian "
    "George Edward Ryan Jacob Eric Jonathan Stephen Justin Scott Benjamin Samuel Frank Jack Patrick Peter Simon Adam "
    "Aaron Tom Joe Henry Nathan Sean Jason Jeff Tim Dan Ben Sam Luke Philip Martin Greg Josh Fred Bob Jim Tony"
)
FIRST_NAMES = WOMEN + MEN

SURNAMES = word_list(
    "Smith Jones Brown Johnson Williams Miller Davis Wilson Anderson Taylor Moore Jackson White Harris Thompson "
    "Robinson Clark Lewis Walker Hall Young King Wright Hill Green Adams Baker Nelson Carter Mitchell Roberts Turner "
    "Phillips Campbell Parker Evans Edwards Collins Stewart Morris Murphy Cook Rogers Cooper Peterson Reed Bailey "
    "Howard Ward Cox Watson Brooks Bennett Gray Hughes Price Sanders Fisher Hunter Butler Foster Russell Sullivan "
    "Graham Wallace Stone Marshall Hamilton Murray"
)

PLACES = word_list("park store school station office garden museum library market theater hospital beach")
OBJECTS = word_list("ball book drink ring letter key gift map ticket camera cake phone")

# Concrete words that have little to do with one another.
WORDS = word_list(
    "tiger apple river silver dragon castle orange purple garden winter summer forest eagle rabbit coffee butter "
    "guitar piano rocket planet bridge window candle diamond hammer lemon mirror ocean pepper pirate shadow spider "
    "thunder turtle velvet violet yellow monkey bottle cherry engine island jacket kitchen ladder market needle"
)
