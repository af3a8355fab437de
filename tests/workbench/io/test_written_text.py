"""A prompt's text in pieces: joined they are what the tokeniser decodes, and none cuts a character."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import workbench as wb
from workbench.io import written_text
from workbench.io.token_text import token_text
from workbench.io.written_text import Piece, pieces_of_labels, written_pieces
from workbench.testing.tokenizers import merging

FAMILY = "\N{WOMAN}\u200d\N{WOMAN}\u200d\N{GIRL}"
FLAG = "\N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E}"
TEXTS = {
    "plain": "When Mary and John went to the store,",
    "chinese": "我爱北京天安门。 Tiananmen",
    "emoji": f"the {FAMILY} ok {FLAG}\N{HEAVY BLACK HEART}\ufe0f",
    "arabic": "مرحبا بالعالم and back",
    "marks": "e\u0301tude n\u0303 ส\u0e49ม",
    "white space": "  a\n\n\tb\r\n  c \n",
    "replacement": "a \ufffd b\ufffd",
}


@cache
def byte_level() -> Any:
    return wb.load().tokenizer  # SmolLM2's: byte-level BPE


@cache
def metaspace(strip: bool) -> PreTrainedTokenizerFast:
    """Characters and a few words with ▁ for spaces and bytes for the rest, as in Llama 2 (`strip`) and Gemma."""
    words = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz,e"]
    words += ["▁a", "an", "▁an", "and", "▁and", "to", "▁to", "th", "the", "▁the", "我", "安"]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    merges = [("▁", "a"), ("a", "n"), ("▁a", "n"), ("an", "d"), ("▁an", "d"), ("t", "o"), ("▁", "to")]
    merges += [("t", "h"), ("th", "e"), ("▁", "the")]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    if strip:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\0", "isolated")
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strip else steps)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")


TOKENIZERS = {
    "byte-level": byte_level,
    "metaspace": lambda: metaspace(False),
    "metaspace, first space stripped": lambda: metaspace(True),
    "single bytes": lambda: merging("å ®", "Ġ m"),
}


def check(tokenizer: Any, ids: list[int]) -> tuple[Piece, ...]:
    """The pieces of ids, of which everything holds that is said of them."""
    pieces, text = written_pieces(tokenizer, ids), tokenizer.decode(ids)
    assert "".join(piece.text for piece in pieces) == text
    assert [i for piece in pieces for i in piece.positions] == list(range(len(ids)))
    for piece in pieces:
        assert len(piece.starts) == len(piece.positions) and piece.starts[0] == 0
        assert list(piece.starts) == sorted(piece.starts) and piece.starts[-1] <= max(len(piece.text) - 1, 0)
    return pieces


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("name", TEXTS)
def test_the_joined_pieces_are_the_text_as_it_is_decoded(kind: str, name: str) -> None:
    tokenizer, text = TOKENIZERS[kind](), TEXTS[name]
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == text
    pieces = check(tokenizer, ids)
    # A piece of several tokens is one character: what the tokens of it would be alone is no text.
    joined = [piece for piece in pieces if len(piece.positions) > 1]
    assert all(len(piece.text.strip()) == 1 or name in ("emoji", "marks", "white space") for piece in joined)


def test_tokens_of_one_character_are_one_piece_and_are_named_by_bytes() -> None:
    tokenizer = byte_level()
    ids = tokenizer(f"安 {FAMILY} e\u0301").input_ids
    pieces = check(tokenizer, ids)
    assert [piece.text for piece in pieces] == ["安", f" {FAMILY}", " e\u0301"]
    assert [token_text(tokenizer, ids[i]) for i in pieces[0].positions] == ["<0xE5><0xAE>", "<0x89>"]
    # The accent is a character of its own to the tokeniser: its first token begins at index 2 of " é".
    assert pieces[2].starts == (0, 2, 2)


def test_a_token_begins_where_the_bytes_say() -> None:
    """Against the bytes of each token, which the names of a byte-level tokeniser's tokens spell out."""
    tokenizer = merging("å ®", "Ġ m", "® ī")
    letters = {letter: byte for byte, letter in _letters().items()}
    ids = tokenizer("m安æ m").input_ids
    data = [bytes(letters[letter] for letter in tokenizer.convert_ids_to_tokens(i)) for i in ids]
    for piece in check(tokenizer, ids):
        before = 0
        for position, start in zip(piece.positions, piece.starts, strict=True):
            characters = piece.text.encode()[:before].decode(errors="ignore")
            assert start == len(characters)
            before += len(data[position])


def _letters() -> dict[int, str]:
    """GPT-2's table of letters for bytes, from the paper's code."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def test_special_tokens_and_tokens_that_write_nothing_have_pieces() -> None:
    tokenizer = byte_level()
    ids = tokenizer("<|im_start|>user\nhi<|im_end|>").input_ids
    assert [piece.text for piece in check(tokenizer, ids)] == ["<|im_start|>", "user", "\n", "hi", "<|im_end|>"]
    stripped = metaspace(True)
    pieces = check(stripped, [stripped.vocab[token] for token in ("▁", "▁and", "▁")])
    assert [piece.text for piece in pieces] == ["", " and", " "]


def test_bytes_that_never_become_a_character_are_one_mark() -> None:
    tokenizer = byte_level()
    first, second = tokenizer("安").input_ids
    assert [piece.text for piece in check(tokenizer, [first])] == ["\ufffd"]
    assert [piece.positions for piece in check(tokenizer, [first, first, second])] == [(0,), (1, 2)]
    single = merging()
    ids = single("安").input_ids
    assert [piece.positions for piece in check(single, ids[:2])] == [(0, 1)]


@given(st.text(max_size=60), st.sampled_from(sorted(TOKENIZERS)))
def test_any_text(text: str, kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    if ids := tokenizer(text, add_special_tokens=False).input_ids:
        check(tokenizer, ids)


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=80), st.sampled_from(sorted(TOKENIZERS)))
def test_any_ids(ids: list[int], kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    check(tokenizer, [i % len(tokenizer) for i in ids])


def test_long_prompts_are_cut_alike_in_chunks_and_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level()
    ids = tokenizer(" ".join(TEXTS.values()) * 3).input_ids
    in_chunks = check(tokenizer, ids)
    monkeypatch.setattr(written_text, "CHUNK", len(ids))
    assert len(ids) > 8 * 32 and written_pieces(tokenizer, ids) == in_chunks


def test_without_a_text_every_label_is_a_piece() -> None:
    assert pieces_of_labels(["cls", "0,1"]) == (Piece("cls", (0,), (0,)), Piece("0,1", (1,), (0,)))
