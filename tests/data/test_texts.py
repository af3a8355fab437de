"""Texts: how many there are, and that they are whole."""

from __future__ import annotations

import pytest

import workbench as wb
from data.texts import names, passages
from workbench.errors import UnknownName, UsageError


@pytest.mark.parametrize("name", names())
def test_every_set_has_24_different_passages_of_whole_sentences(name: str) -> None:
    texts = passages(name, 24)
    assert len(set(texts)) == 24 and passages(name, 12) == texts[:12]
    for text in texts:
        assert 1_500 < len(text) < 2_300 and text == " ".join(text.split())
        assert text[-1] in '.!?"”', text[-20:]


def test_a_passage_has_enough_tokens_of_the_tiny_model() -> None:
    tokenizer = wb.load("tiny").tokenizer
    assert (
        min(len(tokenizer(text, truncation=True, max_length=256)["input_ids"]) for text in passages("novel", 24)) == 256
    )


def test_what_there_is_not_is_said() -> None:
    with pytest.raises(UnknownName, match=r"texts='nowel': .*novel"):
        passages("nowel", 1)
    with pytest.raises(UsageError, match="n=25: expected a whole number from 1 to 24"):
        passages("novel", 25)
