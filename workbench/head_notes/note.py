"""`Note`: what is noted of one head, and what tags, texts and links may be."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from workbench import arguments
from workbench.core import Head
from workbench.errors import BadInput, UsageError

#: Characters of a tag, a text and a link at most, and tags of a head.
MAX_TAG, MAX_TEXT, MAX_LINK, MAX_TAGS = 40, 10_000, 30_000, 20
FIELDS = ("head", "tags", "text", "changed", "link")
_ADDRESS = re.compile(r"https?://[A-Za-z0-9_.~:@%\[\]-]+(?:/[A-Za-z0-9_.~%/-]*)?")


@dataclass(frozen=True, order=True)
class Note:
    """What is noted of one head.

    Attributes:
        head: the head.
        tags: in the order in which they were given.
        text: plain text.
        changed: when, in UTC, as ISO 8601; empty for a head of which nothing is noted.
        link: where the explorer shows what the note is about: a path and a query, relative to the explorer's address.
    """

    head: Head
    tags: tuple[str, ...] = ()
    text: str = ""
    changed: str = ""
    link: str = ""

    def __bool__(self) -> bool:
        return bool(self.tags or self.text)

    def row(self, address: str = "") -> dict[str, Any]:
        """A row of `Notes.table`, with the link of an explorer at `address`."""
        return {**self.json(), "tags": ", ".join(self.tags), "link": self.link and address + self.link}

    def json(self) -> dict[str, Any]:
        """Plain JSON."""
        values = (str(self.head), list(self.tags), self.text, self.changed, self.link)
        return dict(zip(FIELDS, values, strict=True))

    @classmethod
    def from_json(cls, data: Any, what: str) -> Note:
        """The inverse of `json`, of untrusted input; raises `BadInput`, naming `what`."""
        if not isinstance(data, dict) or set(data) != set(FIELDS):
            raise BadInput(f"{what}: a note must have the fields {', '.join(FIELDS)}, and no other.")
        if not isinstance(data["tags"], list):
            raise BadInput(f"{what}: the tags of a note must be a list.")
        try:
            head = Head.parse(data["head"])
            result = cls(head, check_tags(data["tags"]), check_text(data["text"]), link=check_link(data["link"]))
            object.__setattr__(result, "changed", _time(data["changed"]))
        except UsageError as error:
            raise BadInput(f"{what}: {str(data['head'])[:20]!r}: {error}") from None
        if not result:
            raise BadInput(f"{what}: the note of {head} is empty.")
        return result


class ChangedElsewhere(UsageError):
    """A text of a note that is not the one that was read (exit code 2): another process, or another tab, changed it.

    Attributes:
        note: the note as it is now.
    """

    def __init__(self, note: Note) -> None:
        self.note = note
        done = f"it was changed at {note.changed}" if note.text else "it was removed"
        super().__init__(
            f"The text of head {note.head} is not the one that was read: {done}. Read it, and write again."
        )


def check_tags(tags: Any) -> tuple[str, ...]:
    """One tag or a list of them, each once, without the spaces around them.

    Raises:
        UsageError: no tag, too many, too long, or with a character that a tag cannot have.
    """
    entries = (tags,) if isinstance(tags, str) else arguments.sequence("tags", tags, "tags, one or a list of them")
    expected = f"tags of 1 to {MAX_TAG} printable characters without a comma"
    names = []
    for entry in entries:
        name = unicodedata.normalize("NFC", entry).strip() if isinstance(entry, str) else ""
        if not 0 < len(name) <= MAX_TAG or not name.isprintable() or "," in name:
            raise arguments.refusal("tags", entry, expected)
        names.append(name)
    return at_most(tuple(dict.fromkeys(names)))


def at_most(tags: tuple[str, ...]) -> tuple[str, ...]:
    """The tags of a head, where they are not too many."""
    if len(tags) > MAX_TAGS:
        raise arguments.refusal("tags", list(tags), f"at most {MAX_TAGS} tags for a head")
    return tags


def check_text(text: Any) -> str:
    """A note's text, with ``\\n`` at the end of its lines and no space after its last.

    Raises:
        UsageError: too long, or with control characters.
    """
    text = arguments.text("text", text, "a text", empty=True)
    text = text.replace("\r\n", "\n").replace("\r", "\n").rstrip()
    if len(text) > MAX_TEXT:
        raise UsageError(f"text: {len(text):,} characters, and the limit is {MAX_TEXT:,}. Shorten it.")
    if wrong := next((c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"), ""):
        raise UsageError(f"text: it has the control character U+{ord(wrong):04X}. Take it out.")
    return text


def check_link(link: Any) -> str:
    """A path with a query, relative to the explorer's address.

    Raises:
        UsageError: another address, or something that is none.
    """
    link = arguments.text("link", link, "a link", empty=True)
    is_local = link.startswith("/") and not link.startswith("//")
    if link and not (is_local and link.isascii() and link.isprintable() and not set(link) & set(' \\"<>')):
        raise arguments.refusal("link", link, "a link into the explorer, such as '/?model=tiny&head=1.3'")
    if len(link) > MAX_LINK:
        raise UsageError(f"link: {len(link):,} characters, and the limit is {MAX_LINK:,}.")
    return link


def check_address(address: Any) -> str:
    """Where an explorer is, without a slash at the end; empty where that is not known.

    Raises:
        UsageError: something that is no address of a web page.
    """
    address = arguments.text("address", address, "an address", empty=True)
    if address and not _ADDRESS.fullmatch(address):
        raise arguments.refusal("address", address, "the address of an explorer, such as 'http://127.0.0.1:8501'")
    return address.rstrip("/")


def _time(text: Any) -> str:
    try:
        if isinstance(text, str) and datetime.fromisoformat(text).utcoffset() is not None:
            return text
    except ValueError:
        pass
    raise arguments.refusal("changed", text, "a time in ISO 8601, with its offset from UTC")


def joined(own: Note, imported: Note) -> Note:
    """One note of two on the same head: all tags, and both texts where they differ.

    Raises:
        UsageError: together they are too long.
    """
    tags = at_most(tuple(dict.fromkeys((*own.tags, *imported.tags))))
    block = f"[imported, of {imported.changed}]\n{imported.text}"
    if not imported.text or imported.text == own.text or f"\n\n{block}" in own.text:
        text = own.text
    else:
        text = f"{own.text}\n\n{block}" if own.text else imported.text
    return Note(own.head, tags, check_text(text), own.changed, own.link or imported.link)


def by_head(notes: Sequence[Note], what: str, n_layers: int, n_heads: int) -> dict[Head, Note]:
    """Notes by head, each once and each of a head that the model has; raises `BadInput`, naming `what`."""
    result: dict[Head, Note] = {}
    for note in notes:
        if note.head in result:
            raise BadInput(f"{what}: head {note.head} has two notes.")
        if note.head.layer >= n_layers or note.head.index >= n_heads:
            raise BadInput(f"{what}: there is no head {note.head} among {n_layers} layers of {n_heads} heads.")
        result[note.head] = note
    return result
