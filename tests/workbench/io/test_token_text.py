"""Tokens that are single bytes of a character say which byte they are."""

from __future__ import annotations

import pytest

from workbench.io.token_text import token_text
from workbench.testing.tokenizers import merging


def test_bytes_of_a_character_are_written_out() -> None:
    tokenizer = merging("å ®", "Ġ m")
    texts = [token_text(tokenizer, i) for i in tokenizer("æ安 m").input_ids]
    assert texts == ["<0xC3>", "<0xA6>", "<0xE5><0xAE>", "<0x89>", " m"]


@pytest.mark.parametrize(("name", "text"), [("<0xE6>", "<0xE6>"), ("▁?", "\ufffd"), (" \ufffd", "\ufffd")])
def test_names_of_other_tokenisers(name: str, text: str) -> None:
    class Tokenizer:
        def decode(self, token: int) -> str:
            return "\ufffd"

        def convert_ids_to_tokens(self, token: int) -> str:
            return name

    assert token_text(Tokenizer(), 0) == text
