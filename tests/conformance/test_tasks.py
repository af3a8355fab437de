"""What every task in the folder must do. A new file is tested the moment it exists."""

import functools
import random
import re
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tests.byte_tokenizers import merging, trained
from workbench.errors import BadInput
from workbench.inputs.pairs import Task, task
from workbench.registry import TASKS

NAMES = TASKS.names()
STAGES = {"logits", "mover-value", "mover-query", "earlier"}


def variants() -> list[tuple[str, dict[str, Any]]]:
    """Every task with each value of each of its settings."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name in NAMES:
        settings = [{key: value} for key, values in task(name).variants.items() for value in values]
        found += [(name, chosen) for chosen in settings or [{}]]
    return found


EVERY = pytest.mark.parametrize(("name", "settings"), variants(), ids=str)


@functools.cache
def vocabulary(digits: int) -> PreTrainedTokenizerFast:
    """The tasks' own words are mostly one token in it, as in the models' vocabularies; so are so many digits."""
    texts = [
        text
        for name, settings in variants()
        for pair in task(name, n=150, **settings).examples()
        for text in (pair.clean, pair.corrupt, *pair.options)
    ]
    return trained(texts, size=3000, digits=digits)


def tokenizer(drawn: Task) -> PreTrainedTokenizerFast:
    """A vocabulary for the task: digits are single ones, as in the default model's, or go in twos if it must be."""
    return vocabulary(1 if drawn.applies(vocabulary(1)) is None else 2)


def test_the_tasks_of_the_first_study_are_there() -> None:
    study = "ioi remaining-name answered-by surname-recall password-copying capital-of-country subject-verb-agreement"
    assert {*study.split(), "gendered-pronoun", "colored-objects"} <= set(NAMES)


def test_the_tasks_of_other_published_circuits_are_there() -> None:
    assert {"induction", "greater-than", "docstring"} <= set(NAMES)


@EVERY
def test_every_drawn_pair_can_be_asked(name: str, settings: dict[str, Any]) -> None:
    drawn = task(name, n=100, **settings)
    read = tokenizer(drawn)
    inputs = drawn.inputs(read)
    assert len(set(inputs.texts)) == len(inputs) == 100
    for i, (clean, corrupt) in enumerate(inputs.texts):
        assert len(inputs.clean[i]) == len(inputs.corrupt[i])
        assert clean != corrupt
        assert {*inputs.answer[i], *inputs.wrong[i]} <= set(inputs.options[i])
        assert not set(inputs.answer[i]) & set(inputs.wrong[i])
    for i, pair in enumerate(drawn.examples(read)):
        for text, ids in ((pair.clean, inputs.clean[i]), (pair.corrupt, inputs.corrupt[i])):
            for word, token in zip(pair.options, inputs.options[i], strict=True):
                assert read(text + word)["input_ids"] == [*ids.tolist(), token]


@EVERY
def test_named_positions_point_at_their_words(name: str, settings: dict[str, Any]) -> None:
    drawn = task(name, n=30, **settings)
    read = tokenizer(drawn)
    inputs = drawn.inputs(read)
    for i, pair in enumerate(drawn.examples(read)):
        assert set(inputs.positions[i]) == set(drawn.positions) == {*pair.positions, "end"}
        assert inputs.positions[i]["end"] == len(inputs.clean[i]) - 1
        texts = ((pair.clean, pair.positions, inputs.clean), (pair.corrupt, pair.corrupt_positions, inputs.corrupt))
        for text, spans, ids in texts:
            assert set(spans) == set(pair.positions)
            for place, (start, end) in spans.items():
                index = inputs.positions[i][place]
                token = str(read.decode(ids[i][index : index + 1].tolist())).strip()
                assert token
                assert text[start:end].endswith(token)


@EVERY
def test_every_stage_has_something_to_measure(name: str, settings: dict[str, Any]) -> None:
    drawn = task(name, n=30, **settings)
    inputs = drawn.inputs(tokenizer(drawn))
    assert drawn.stages["logits"] == "end"
    assert set(drawn.stages) <= STAGES
    for stage, place in drawn.stages.items():
        # Before the first difference both runs are the same, so that patching there is no edit at all.
        for positions, first in zip(inputs.positions, inputs.first_difference, strict=True):
            assert positions[place] >= first, stage


@EVERY
def test_draws_are_fixed_by_the_seed_alone(name: str, settings: dict[str, Any]) -> None:
    random.seed(3)
    before = random.getstate()
    first = task(name, n=40, seed=7, **settings).examples()
    assert random.getstate() == before
    assert task(name, n=40, seed=7, **settings).examples() == first
    assert task(name, n=10, seed=7, **settings).examples() == first[:10]
    assert task(name, n=40, seed=8, **settings).examples() != first


@pytest.mark.parametrize("name", NAMES)
def test_a_task_describes_itself(name: str) -> None:
    found: Task = task(name)
    assert found.name == name
    assert found.title
    assert found.question.endswith("?")
    assert found.relation in {"ioi", "near", "distant", "studied", "other"}


@pytest.mark.parametrize("name", NAMES)
def test_a_task_says_when_it_does_not_apply(name: str) -> None:
    assert task(name).applies(vocabulary(1)) is None
    # Single bytes, of which no word is one, and numbers that run on to three digits.
    tens = [f"1 {digit}" for digit in range(10)]
    bytes_alone = merging(*tens, *(f"{ten.replace(' ', '')} {digit}" for ten in tens for digit in range(10)))
    assert "does not apply to this tokeniser" in (task(name).applies(bytes_alone) or "")
    with pytest.raises(BadInput, match="The first reason: "):
        task(name).inputs(bytes_alone)


def test_a_task_is_a_dataset() -> None:
    table = task("ioi", n=5).dataset(vocabulary(1))
    assert table.column_names == ["clean", "corrupt", "answer", "wrong", "options", "positions"]
    pair = task("ioi", n=5).examples(vocabulary(1))[2]
    assert table[2]["clean"] == pair.clean
    assert table[2]["options"] == list(pair.options)
    assert {p["name"]: (p["start"], p["end"]) for p in table[2]["positions"]} == pair.positions


def test_colored_objects_keeps_the_published_grammar() -> None:
    item = r"an? (\w+) (\w+)"
    listed = rf"(?:there is|you see|I see) {item}, {item}, and {item}\."
    shot = rf"Q: On the (?:table|desk|floor), {listed} What color is the (\w+)\?\nA:"
    for pair in task("colored-objects", n=200).examples():
        found = re.fullmatch(rf"{shot} (\w+)\n{shot}", pair.clean)
        assert found
        first, shown, second = found.groups()[:7], found[8], found.groups()[8:]
        assert dict(zip(first[1:6:2], first[0:6:2], strict=True))[first[6]].title() == shown
        assert dict(zip(second[1:6:2], second[0:6:2], strict=True))[second[6]].title() == pair.answer[0].strip()
        assert len({*first[:6], *second[:6]}) == 12  # six colours and six objects: the shots share none
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", pair.clean)
        assert pair.corrupt.rsplit("What", 1)[0] == pair.clean.rsplit("What", 1)[0]
        asked = re.search(r"is the (\w+)\?\nA:$", pair.corrupt)
        assert asked
        assert dict(zip(second[1:6:2], second[0:6:2], strict=True))[asked[1]].title() == pair.wrong[0].strip()


def test_ioi_has_both_orders_and_both_corruptions() -> None:
    drawn = task("ioi", n=100).examples()
    io_first = sum(pair.positions["IO"] < pair.positions["S1"] for pair in drawn)
    assert 30 < io_first < 70
    for pair in drawn:
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
    asked = {digits: task("greater-than", digits=digits) for digits in ("one", "two")}
    assert asked["one"].applies(vocabulary(1)) is None
    assert "is 2 tokens: ['4', '5']" in (asked["two"].applies(vocabulary(1)) or "")
    assert asked["two"].applies(vocabulary(2)) is None
    for drawn in asked.values():
        assert "does not apply to this tokeniser" in (drawn.applies(vocabulary(3)) or "")


def test_docstring_asks_for_the_next_argument() -> None:
    grammar = re.compile(
        r'\ndef \w+\(self, ([\w, ]+)\):\n    """\w+ \w+ \w+\n\n((?:    :param \w+: \w+ \w+\n)+)    :param'
    )
    for pair in task("docstring", n=200).examples():
        for text, follows in ((pair.clean, pair.answer), (pair.corrupt, pair.wrong)):
            found = grammar.fullmatch(text)
            assert found
            arguments, described = found[1].split(", "), re.findall(r":param (\w+):", found[2])
            assert len(set(arguments)) == 6
            at = arguments.index(described[0])
            assert arguments[at : at + 2] == described
            assert follows == (f" {arguments[at + 2]}",)
            assert {f" {argument}" for argument in arguments} < {*pair.options}
        assert pair.wrong[0] not in pair.clean
