"""`check_task`: what every task must do, as messages for its author."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workbench.errors import BadInput, UsageError
from workbench.inputs.pairs import Pair, Task, task
from workbench.testing.problems import raise_problems

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Different pairs that a task must be able to draw: findings take several disjoint samples.
PAIRS = 150
#: Draws after which a task that gave fewer is taken to have no more.
DRAWS = 5000
STAGES = ("logits", "mover-value", "mover-query", "earlier")
#: Relations to IOI of a new task; and those that are one task's own.
RELATIONS = ("near", "distant", "other")
RESERVED = {"ioi": "ioi", "studied": "colored-objects"}


def check_task(subject: Task | str, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
    """Check a task, with each value of each of its settings, as the test suite checks those of ``data/tasks``.

    It describes itself; it draws at least 150 different pairs, from the generator that it is given and nothing else;
    each pair has options and the declared positions, which stand at their words in both prompts; answers are one token;
    every stage of path patching is taken where the prompts differ.

    Args:
        subject: a task, or the name of one.
        tokenizer: with which its pairs are read; by default one in which the task's own words are one token each.

    Raises:
        AssertionError: everything that is wrong, each with what to write instead.

    Examples:
        >>> wb.testing.check_task("ioi")
        >>> wb.testing.check_task(wb.task("induction", corruption="copied"))
    """
    subject = task(subject) if isinstance(subject, str) else subject
    if not isinstance(subject, Task):
        raise AssertionError(f"check_task takes a wb.Task or the name of one, not {type(subject).__name__}.")
    problems = [*_describes_itself(subject)]
    for label, variant in _variants(subject):
        problems += [f"{label}{problem}" for problem in _check_variant(variant, tokenizer)]
    raise_problems(f"The task {subject.name!r}", problems)


def _variants(subject: Task) -> Iterator[tuple[str, Task]]:
    """The task with each value of each of its settings, and what to call it."""
    if not subject.variants:
        yield "", subject
    chosen = {setting: next(iter(values)) for setting, values in subject.variants.items()} | dict(subject.settings)
    for setting, values in subject.variants.items():
        for value, changes in values.items():
            try:
                variant = replace(subject, settings={**chosen, setting: value}, **changes)
            except TypeError as error:
                raise AssertionError(
                    f"variants[{setting!r}][{value!r}] sets fields that a task does not have: {error}."
                ) from None
            yield f"with {setting}={value!r}: ", variant


def _check_variant(subject: Task, tokenizer: Any) -> Iterator[str]:
    pairs, failure = _draw(subject)
    if failure:
        yield failure
        return
    if len(pairs) < PAIRS:
        yield f"draws {len(pairs)} different pairs, and a task needs {PAIRS}. Draw from more words or templates."
    yield from _is_fixed_by_its_seed(subject, len(pairs))
    wrong = list(_pairs_are_complete(subject, pairs))
    yield from wrong
    wrong_stages = list(_stages_are_named(subject))
    yield from wrong_stages
    if not wrong:
        yield from _can_be_read(subject, pairs, tokenizer, stages=not wrong_stages)


def _draw(subject: Task) -> tuple[list[Pair], str]:
    """Up to `PAIRS` different pairs, as `Task` draws them, or what keeps it from drawing."""
    rng, pairs = random.Random(f"{subject.name}/0"), {}
    for _ in range(DRAWS):
        try:
            pair = subject.draw(rng, **subject.settings)
        except UsageError as error:
            return [], f"draw makes an invalid pair. {error}"
        except Exception as error:
            settings = "".join(f", {name}" for name in subject.settings)
            return [], f"draw(rng{settings}) raises {type(error).__name__}: {error}. It must return a Pair."
        if not isinstance(pair, Pair):
            return [], f"draw returns {type(pair).__name__}. It must return a Pair."
        pairs.setdefault((pair.clean, pair.corrupt), pair)
        if len(pairs) == PAIRS:
            break
    return list(pairs.values()), ""


def _describes_itself(subject: Task) -> Iterator[str]:
    if not isinstance(subject.title, str) or not subject.title:
        yield "title is empty. Write a few words for headings."
    if not isinstance(subject.question, str) or not subject.question.endswith("?"):
        yield f"question={subject.question!r} is not a question. Write one that ends in '?'."
    if subject.relation not in RELATIONS and RESERVED.get(subject.relation) != subject.name:
        yield f"relation={subject.relation!r}: expected {' or '.join(RELATIONS)}. It says how close the task is to IOI."


def _is_fixed_by_its_seed(subject: Task, most: int) -> Iterator[str]:
    size = max(1, min(40, most // 2))
    before = random.getstate()
    first = replace(subject, n=size, seed=7).examples()
    if random.getstate() != before:
        yield "draw uses Python's global random numbers. Draw only from the rng that it is given."
    if replace(subject, n=size, seed=7).examples() != first:
        yield "draw gives different pairs for the same seed. Draw only from the rng that it is given."
    elif replace(subject, n=max(1, size // 4), seed=7).examples() != first[: max(1, size // 4)]:
        yield "the first pairs of a long draw are not those of a short one. Keep no state between draws."
    if most > 1 and replace(subject, n=size, seed=8).examples() == first:
        yield "draw gives the same pairs for every seed. Draw from the rng that it is given."


def _pairs_are_complete(subject: Task, pairs: Sequence[Pair]) -> Iterator[str]:
    """What is wrong with the texts of the first pair that is wrong, each kind once."""
    kinds: dict[Callable[[Task, Pair], str], str] = {}
    for number, pair in enumerate(pairs, start=1):
        for check in (_texts, _answers, _options, _positions):
            if check not in kinds and (problem := check(subject, pair)):
                kinds[check] = f"pair {number} {problem}"
    yield from kinds.values()


def _texts(_: Task, pair: Pair) -> str:
    return "has the same clean and corrupt prompt. Patching moves their difference." * (pair.clean == pair.corrupt)


def _answers(_: Task, pair: Pair) -> str:
    both = set(pair.answer) & set(pair.wrong)
    return f"has {min(both)!r} both as an answer and as a wrong answer. They must differ." if both else ""


def _options(_: Task, pair: Pair) -> str:
    candidates = tuple(dict.fromkeys((*pair.answer, *pair.wrong)))
    if not pair.options:
        return f"has no options. Give all candidate answers, right and wrong: options={candidates}."
    if missing := [word for word in candidates if word not in pair.options]:
        return f"lacks {missing[0]!r} among its options {pair.options}. Give all candidate answers."
    return ""


def _positions(subject: Task, pair: Pair) -> str:
    declared = set(subject.positions)
    if "end" not in declared or "end" in pair.positions:
        return (
            f"has positions {sorted(pair.positions)}, and the task declares positions={subject.positions}. "
            'Name "end", the last token, in the task and not in the pairs.'
        )
    if {*pair.positions, "end"} != declared:
        return (
            f"has positions {sorted(pair.positions)}, and the task declares positions={subject.positions}. "
            'Declare those of the pairs, and "end".'
        )
    if set(pair.corrupt_positions) != set(pair.positions):
        return (
            "does not say where its positions are in the corrupt prompt. Give corrupt_positions, or use minimal_pair."
        )
    return ""


def _stages_are_named(subject: Task) -> Iterator[str]:
    if subject.stages.get("logits") != "end":
        others = [name for name in subject.positions if name != "end"]
        more = f', "mover-value": {others[0]!r}' if others else ""
        yield (
            f"stages={dict(subject.stages)} does not say where path patching starts. Name the position at which the "
            f'senders of each stage are patched: stages={{"logits": "end", "mover-query": "end"{more}}}. Leave out '
            "stages that the task does not have."
        )
    for stage, position in subject.stages.items():
        if stage not in STAGES:
            yield f"stages names {stage!r}. The stages are {', '.join(STAGES)}."
        if position not in subject.positions:
            yield f"stages[{stage!r}]={position!r} is not in positions={subject.positions}. Name one of these."


def _can_be_read(subject: Task, pairs: Sequence[Pair], tokenizer: Any, stages: bool) -> Iterator[str]:
    """Through a tokeniser: one-token answers, positions at their words, stages where something can change."""
    subject = replace(subject, n=min(100, len(pairs)), seed=0)
    if tokenizer is None:
        from workbench.testing.tokenizers import for_texts

        tokenizer = for_texts(subject, [text for p in pairs for text in (p.clean, p.corrupt, *p.options)])
    try:
        inputs, readable = subject.inputs(tokenizer), subject.examples(tokenizer)
    except (BadInput, UsageError) as error:
        yield f"cannot be read by the tokeniser. {error}"
        return
    for i, pair in enumerate(readable):
        for text, ids in ((pair.clean, inputs.clean[i].tolist()), (pair.corrupt, inputs.corrupt[i].tolist())):
            continued = tokenizer([text + word for word in pair.options])["input_ids"]
            for word, row, token in zip(pair.options, continued, inputs.options[i], strict=True):
                if row != [*ids, token]:
                    yield f"the option {word!r} of {text!r:.60} is not one token after the prompt."
                    return
        if problem := _misplaced(pair, tokenizer, inputs.positions[i], (inputs.clean[i], inputs.corrupt[i])):
            yield problem
            return
    for stage, position in subject.stages.items() if stages else ():
        for i, first in enumerate(inputs.first_difference):
            if inputs.positions[i][position] < first:
                yield (
                    f"stages[{stage!r}]={position!r} comes before the first token that differs, in "
                    f"{readable[i].clean!r:.60}: nothing can change there. Name a later position, or leave the stage "
                    "out."
                )
                break


def _misplaced(pair: Pair, tokenizer: Any, positions: Any, runs: Sequence[Any]) -> str:
    """A named position whose token is not the end of its word, in either prompt."""
    places = ((pair.clean, pair.positions), (pair.corrupt, pair.corrupt_positions))
    for (text, spans), ids in zip(places, runs, strict=True):
        for name, (start, end) in spans.items():
            token = str(tokenizer.decode(ids[positions[name] : positions[name] + 1].tolist())).strip()
            if not token or not text[start:end].endswith(token):
                return f"the position {name!r} of {text!r:.60} is at {token!r}, and its word is {text[start:end]!r}."
    return ""
