"""What every task in the folder must do (`wb.testing.check_task`). A new file is tested the moment it exists, and what
is wrong with one task fails the tests of no other."""

import re

import pytest
from transformers import PreTrainedTokenizerFast

import workbench as wb
from workbench.errors import BadInput
from workbench.inputs.pairs import Task, task
from workbench.registry import TASKS
from workbench.testing.tokenizers import merging, trained

NAMES = TASKS.names()


def vocabulary(subject: Task, digits: int = 1) -> PreTrainedTokenizerFast:
    """The task's own words are mostly one token in it, as in the models' vocabularies; so are so many digits."""
    texts = [text for pair in subject.examples() for text in (pair.clean, pair.corrupt, *pair.options)]
    return trained(texts, size=3000, digits=digits)


@pytest.mark.parametrize("name", NAMES)
def test_a_task_passes_its_checks(name: str) -> None:
    wb.testing.check_task(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_task_says_when_it_does_not_apply(name: str) -> None:
    assert task(name, n=150).applies(vocabulary(task(name, n=150))) is None
    # Single bytes, of which no word is one, and numbers that run on to three digits.
    tens = [f"1 {digit}" for digit in range(10)]
    bytes_alone = merging(*tens, *(f"{ten.replace(' ', '')} {digit}" for ten in tens for digit in range(10)))
    assert "does not apply to this tokeniser" in (task(name).applies(bytes_alone) or "")
    with pytest.raises(BadInput, match="The first reason: "):
        task(name).inputs(bytes_alone)


def test_the_tasks_of_the_first_study_are_there() -> None:
    study = "ioi remaining-name answered-by surname-recall password-copying capital-of-country subject-verb-agreement"
    assert {*study.split(), "gendered-pronoun", "colored-objects"} <= set(NAMES)


def test_the_tasks_of_other_published_circuits_are_there() -> None:
    assert {"induction", "greater-than", "docstring"} <= set(NAMES)


def test_a_task_is_a_dataset() -> None:
    ioi = task("ioi", n=5)
    tokenizer = vocabulary(task("ioi", n=150))
    table = ioi.dataset(tokenizer)
    assert table.column_names == ["clean", "corrupt", "answer", "wrong", "options", "positions"]
    pair = ioi.examples(tokenizer)[2]
    assert table[2]["clean"] == pair.clean
    assert table[2]["options"] == list(pair.options)
    assert {p["name"]: (p["start"], p["end"]) for p in table[2]["positions"]} == pair.positions


def test_colored_objects_keeps_the_published_grammar() -> None:
    item = r"an? (\w+) (\w+)"
    listed = rf"(?:there is|you see|I see) {item}, {item}, and {item}\."
    shot = rf"Q: On the (?:table|desk|floor), {listed} What color is the (\w+)\?\nA:"
    for pair in task("colored-objects", n=200).examples():
        match = re.fullmatch(rf"{shot} (\w+)\n{shot}", pair.clean)
        assert match
        first, answer, second = match.groups()[:7], match[8], match.groups()[8:]
        assert dict(zip(first[1:6:2], first[0:6:2], strict=True))[first[6]].title() == answer
        assert dict(zip(second[1:6:2], second[0:6:2], strict=True))[second[6]].title() == pair.answer[0].strip()
        assert len({*first[:6], *second[:6]}) == 12  # six colours and six objects: the shots share none
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", pair.clean)
        assert pair.corrupt.rsplit("What", 1)[0] == pair.clean.rsplit("What", 1)[0]
        queried = re.search(r"is the (\w+)\?\nA:$", pair.corrupt)
        assert queried
        assert dict(zip(second[1:6:2], second[0:6:2], strict=True))[queried[1]].title() == pair.wrong[0].strip()


def test_ioi_has_both_orders_and_both_corruptions() -> None:
    pairs = task("ioi", n=100).examples()
    io_first = sum(pair.positions["IO"] < pair.positions["S1"] for pair in pairs)
    assert 30 < io_first < 70
    for pair in pairs:
        (start, end), io, s = pair.positions["S2"], pair.answer[0].strip(), pair.wrong[0].strip()
        assert pair.clean[start:end] == s
        assert pair.corrupt == pair.clean[:start] + io + pair.clean[end:]
    for pair in task("ioi", n=100, corruption="abc").examples():
        names = {pair.corrupt[start:end] for name, (start, end) in pair.corrupt_positions.items() if name != "S1+1"}
        assert len(names) == 3
        assert not names & {option.strip() for option in pair.options}


@pytest.mark.parametrize(("corruption", "differing"), [("swapped", 2), ("copied", 1)])
def test_induction_asks_for_what_followed_the_last_word(corruption: str, differing: int) -> None:
    for pair in task("induction", n=200, corruption=corruption).examples():
        clean, corrupt = pair.clean.split(), pair.corrupt.split()
        for words, follows in ((clean, pair.answer), (corrupt, pair.wrong)):
            assert words.count(words[-1]) == 2
            assert (f" {words[words.index(words[-1]) + 1]}",) == follows
            # What follows comes only once, and the words before it do not point elsewhere.
            assert words.count(follows[0].strip()) == 1
        assert clean[-3:] == corrupt[-3:]
        assert sum(a != b for a, b in zip(clean, corrupt, strict=True)) == differing
        assert " ".join(clean).count(" ".join(clean[-3:])) == 2


@pytest.mark.parametrize(("digits", "least", "most"), [("one", 1, 9), ("two", 10, 99)])
def test_greater_than_is_right_about_what_is_greater(digits: str, least: int, most: int) -> None:
    grammar = re.compile(r"The \w+ lasted from the year (\d\d)(\d\d) to the year (\d\d)")
    for pair in task("greater-than", n=300, digits=digits).examples():
        clean, corrupt = grammar.fullmatch(pair.clean), grammar.fullmatch(pair.corrupt)
        assert clean
        assert corrupt
        assert len({*clean.group(1, 3), *corrupt.group(1, 3)}) == 1
        start, dummy = int(clean[2]), int(corrupt[2])
        # The years that the clean prompt's answers can begin, and those that the wrong ones can.
        width = 10 if digits == "one" else 1
        later = {int(word) for word in pair.answer}
        sooner = {int(word) for word in pair.wrong}
        assert all(width * ending > start for ending in later)
        assert all(width * ending + width - 1 <= start for ending in sooner)
        unsure = {start // 10} if digits == "one" else set()
        assert later | sooner | unsure == set(range(least, most + 1))
        assert not unsure & (later | sooner)
        assert {*pair.options} == {*pair.answer, *pair.wrong}
        # The corrupt year rules none of them out.
        assert all(width * ending + width - 1 > dummy for ending in later | sooner)
        assert pair.corrupt_positions == pair.positions
        start_of, end_of = pair.positions["YY"]
        assert pair.clean[:start_of] + pair.clean[end_of:] == pair.corrupt[:start_of] + pair.corrupt[end_of:]


def test_greater_than_goes_with_the_digits_of_the_vocabulary() -> None:
    one, two = (task("greater-than", n=150, digits=digits) for digits in ("one", "two"))
    assert one.applies(vocabulary(one, 1)) is None
    assert "is 2 tokens: ['4', '5']" in (two.applies(vocabulary(one, 1)) or "")
    assert two.applies(vocabulary(two, 2)) is None
    for subject in (one, two):
        assert "does not apply to this tokeniser" in (subject.applies(vocabulary(subject, 3)) or "")


def test_docstring_asks_for_the_next_argument() -> None:
    grammar = re.compile(
        r'\ndef \w+\(self, ([\w, ]+)\):\n    """\w+ \w+ \w+\n\n((?:    :param \w+: \w+ \w+\n)+)    :param'
    )
    for pair in task("docstring", n=200).examples():
        for text, follows in ((pair.clean, pair.answer), (pair.corrupt, pair.wrong)):
            match = grammar.fullmatch(text)
            assert match
            arguments, described = match[1].split(", "), re.findall(r":param (\w+):", match[2])
            assert len(set(arguments)) == 6
            at = arguments.index(described[0])
            assert arguments[at : at + 2] == described
            assert follows == (f" {arguments[at + 2]}",)
            assert {f" {argument}" for argument in arguments} < {*pair.options}
        assert pair.wrong[0] not in pair.clean
