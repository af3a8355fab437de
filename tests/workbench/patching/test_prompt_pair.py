"""Two prompts as a pair: its answers are Hugging Face's own likeliest next tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import workbench as wb
from workbench.errors import WorkbenchError

CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"


@pytest.fixture(scope="module")
def tiny() -> Any:
    return wb.load("tiny")


def likeliest(model: Any, text: str) -> list[str]:
    with torch.no_grad():
        logits = model.hf(torch.tensor([model.tokenizer(text)["input_ids"]])).logits[0, -1]
    return [model.tokenizer.decode([i]) for i in logits.topk(5).indices.tolist()]


def test_the_answers_are_the_likeliest_next_tokens(tiny: Any) -> None:
    pairs = wb.prompt_pair(tiny, CLEAN, CORRUPT)
    (pair,) = pairs.items
    first, second = likeliest(tiny, CLEAN), likeliest(tiny, CORRUPT)
    assert (pair.clean, pair.corrupt, pair.answer) == (CLEAN, CORRUPT, (first[0],))
    assert pair.wrong == (next(word for word in second if word != first[0]),)
    assert len(wb.sweep(tiny, pairs, cache=False).values[0, 0]) == 1


def test_answers_that_are_given_stay(tiny: Any) -> None:
    (pair,) = wb.prompt_pair(tiny, CLEAN, CORRUPT, wrong=likeliest(tiny, CLEAN)[0]).items
    assert pair.wrong == (likeliest(tiny, CLEAN)[0],) and pair.answer == (likeliest(tiny, CLEAN)[1],)
    (pair,) = wb.prompt_pair(tiny, CLEAN, CORRUPT, answer=" Mary", wrong=" John").items
    assert (pair.answer, pair.wrong) == ((" Mary",), (" John",))


@pytest.mark.parametrize(
    ("clean", "corrupt", "answer", "message"),
    [
        (CLEAN, CLEAN + " the", None, "they must have the same number"),
        (CLEAN, CLEAN, None, "are the same tokens"),
        ("", CLEAN, None, "clean='': expected"),
        (CLEAN, CORRUPT, " Mary and John", "it must be one token"),
    ],
)
def test_what_is_no_pair_is_refused_in_one_line(
    tiny: Any, clean: str, corrupt: str, answer: str | None, message: str
) -> None:
    with pytest.raises(WorkbenchError) as error:
        wb.prompt_pair(tiny, clean, corrupt, answer=answer, wrong=answer and " Paul")
    assert message in str(error.value) and "\n" not in str(error.value)
