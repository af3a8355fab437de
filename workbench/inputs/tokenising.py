"""From text to ids: one pair through one tokeniser, and all that can be wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workbench.errors import BadInput
from workbench.inputs.paired import PairedInputs
from workbench.inputs.rows import Pair, Span

#: Tokens in a message before it is cut.
_PREVIEW = 12


@dataclass(frozen=True)
class Encoded:
    """One pair's ids, as `PairedInputs` keeps them."""

    clean: list[int]
    corrupt: list[int]
    answer: tuple[int, ...]
    wrong: tuple[int, ...]
    options: tuple[int, ...]
    positions: dict[str, int]


def encode(pair: Pair, tokenizer: Any, max_length: int | None = None) -> Encoded:
    """The pair's ids, its named positions as token indices (always with ``"end"``).

    An answer is one token *in context*: ``tokenize(prompt + answer) == tokenize(prompt) + [id]``, after both prompts.

    Raises:
        BadInput: clean and corrupt of unequal length or of the same tokens, longer than `max_length`, an answer that is
            not one token or that the tokeniser does not know, or a position that falls on another token in the corrupt
            prompt; its `column` is the field at fault.
    """
    clean, corrupt = _ids(tokenizer, pair.clean, "clean"), _ids(tokenizer, pair.corrupt, "corrupt")
    for name, ids in (("clean", clean), ("corrupt", corrupt)):
        if max_length is not None and len(ids) > max_length:
            counts = f"{len(ids):,} tokens, and the model's context length is {max_length:,}"
            raise BadInput(f"{name} has {counts}. Shorten the prompt.", column=name)
    if len(clean) != len(corrupt):
        raise _unequal(tokenizer, clean, corrupt)
    if clean == corrupt:
        do = "Use words that this tokeniser tells apart."
        raise BadInput(f"clean and corrupt are the same tokens here. {do}", column="corrupt")

    def answers(words: Sequence[str], what: str) -> tuple[int, ...]:
        ids = tuple(_one_token(tokenizer, pair.clean, clean, word, what) for word in words)
        if clean[-1] != corrupt[-1]:  # else the last token, and so the way an answer joins it, is the same
            for word in words:
                _one_token(tokenizer, pair.corrupt, corrupt, word, what)
        return ids

    answer, wrong = answers(pair.answer, "answer"), answers(pair.wrong, "wrong")
    if set(answer) & set(wrong):
        both = f"answer {pair.answer} and wrong {pair.wrong}"
        raise BadInput(f"{both} share a token. Choose words that differ.", column="wrong")
    options = answers(pair.options, "option")
    return Encoded(clean, corrupt, answer, wrong, options, _positions(pair, tokenizer, len(clean)))


def gather(
    name: str,
    pairs: Sequence[Pair],
    encoded: Sequence[Encoded],
    tokenizer: Any,
    dropped: int = 0,
    seed: int | None = None,
    meta: Mapping[str, object] | None = None,
    where: Sequence[str] = (),
) -> PairedInputs:
    """`PairedInputs` of encoded pairs."""
    return PairedInputs(
        name=name,
        clean=tuple(torch.tensor(e.clean, dtype=torch.long) for e in encoded),
        corrupt=tuple(torch.tensor(e.corrupt, dtype=torch.long) for e in encoded),
        answer=tuple(e.answer for e in encoded),
        wrong=tuple(e.wrong for e in encoded),
        options=tuple(e.options for e in encoded),
        positions=tuple(e.positions for e in encoded),
        texts=tuple((pair.clean, pair.corrupt) for pair in pairs),
        dropped=dropped,
        bos=default_bos(tokenizer),
        seed=seed,
        meta=meta or {},
        where=tuple(where),
    )


def default_bos(tokenizer: Any) -> str | None:
    """The beginning-of-sequence token that the tokeniser puts before every text by itself, or None."""
    first = tokenizer("a")["input_ids"][0]
    return tokenizer.bos_token if tokenizer.bos_token_id is not None and first == tokenizer.bos_token_id else None


def is_unknown(tokenizer: Any, token: int, text: str) -> bool:
    """Whether `token` stands for whatever the tokeniser does not know, and `text` is not that token itself."""
    return token == tokenizer.unk_token_id and text.strip() != tokenizer.unk_token


def _ids(tokenizer: Any, text: str, column: str = "") -> list[int]:
    ids = list(tokenizer(text)["input_ids"])
    if not ids:
        raise BadInput(f"{text!r:.60} has no tokens. Write a longer prompt.", column=column)
    return ids


def _preview(tokenizer: Any, ids: Sequence[int]) -> str:
    cut = [tokenizer.decode([i]) for i in ids[:_PREVIEW]]
    return f"{cut}" if len(ids) <= _PREVIEW else f"{cut} and {len(ids) - _PREVIEW} more"


def _unequal(tokenizer: Any, clean: list[int], corrupt: list[int]) -> BadInput:
    before, after = _shared_ends(clean, corrupt)
    parts = [_preview(tokenizer, ids[before : len(ids) - after]) for ids in (clean, corrupt)]
    return BadInput(
        f"clean has {len(clean)} tokens and corrupt {len(corrupt)}; they must have the same number. Where they differ, "
        f"clean has {parts[0]} and corrupt {parts[1]}. Use words with the same number of tokens.",
        column="corrupt",
    )


def _shared_ends(a: Sequence[Any], b: Sequence[Any]) -> tuple[int, int]:
    """How many entries two sequences share at their start, and, of the rest, at their end."""
    shorter = min(len(a), len(b))
    before = next((i for i in range(shorter) if a[i] != b[i]), shorter)
    after = next((i for i in range(shorter - before) if a[-1 - i] != b[-1 - i]), shorter - before)
    return before, after


def _one_token(tokenizer: Any, prompt: str, ids: list[int], word: str, what: str) -> int:
    """The token that `word` adds after the prompt, whose own ids must stay as they are."""
    whole, column = list(tokenizer(prompt + word)["input_ids"]), "options" if what == "option" else what
    follows = whole[len(ids) :]
    if whole[: len(ids)] == ids and len(follows) == 1:
        if is_unknown(tokenizer, follows[0], word):
            unknown = f"{what} {word!r} is {tokenizer.unk_token!r}: this tokeniser does not know it"
            raise BadInput(f"{unknown}. Choose a word that it knows.", column=column)
        return follows[0]
    is_end = ids[-1] in tokenizer.all_special_ids and ids[-1] != tokenizer.unk_token_id
    if is_end and tokenizer("a")["input_ids"][-1] == ids[-1]:
        raise BadInput(
            f"this tokeniser ends every text with {tokenizer.decode([ids[-1]])!r}, so no answer can follow a prompt. "
            "Load it without its end token (add_eos_token=False)."
        )
    if whole[: len(ids)] == ids:
        problem = f"{what} {word!r} is {len(follows)} tokens: {_preview(tokenizer, follows)}"
    else:
        joined = whole[_shared_ends(ids, whole)[0] :]
        problem = f"{what} {word!r} merges with the end of the prompt, as {_preview(tokenizer, joined)}"
    advice = _advice(tokenizer, prompt, word)
    raise BadInput(f"{problem}; it must be one token after the prompt. {advice}", column=column)


def lacks_spaces(pair: Pair, tokenizer: Any) -> bool:
    """Whether no answer of a pair begins with a space where most tokenisers would have one: after a letter, and with a
    space each is one token too."""
    words, prompt = (*pair.answer, *pair.wrong), pair.clean
    if not prompt[-1:].isalpha() or any(not word[:1].isalpha() for word in words):
        return False
    ids = _ids(tokenizer, prompt)
    for word in words:
        whole = list(tokenizer(f"{prompt} {word}")["input_ids"])
        if whole[: len(ids)] != ids or len(whole) != len(ids) + 1 or is_unknown(tokenizer, whole[-1], word):
            return False
    return True


def _advice(tokenizer: Any, prompt: str, word: str) -> str:
    bare, spaced = prompt.rstrip(" "), f" {word.lstrip(' ')}"
    if bare and (bare, spaced) != (prompt, word):
        ids = _ids(tokenizer, bare)
        whole = list(tokenizer(bare + spaced)["input_ids"])
        if whole[: len(ids)] == ids and len(whole) == len(ids) + 1:
            move = "Remove the space from the end of the prompt: with" if bare != prompt else "With"
            return f"{move} a leading space, {spaced!r}, it is one token."
    return "Choose a word that is one token."


def _positions(pair: Pair, tokenizer: Any, length: int) -> dict[str, int]:
    indices: dict[str, int] = {}
    if pair.positions:
        if not tokenizer.is_fast:
            why = "named positions need a fast tokeniser, which maps tokens to characters"
            raise BadInput(f"{why}. Leave them out.", column="positions")
        clean, corrupt = _offsets(tokenizer, pair.clean), _offsets(tokenizer, pair.corrupt)
        for name, span in pair.positions.items():
            indices[name] = _token_at(clean, span, name)
            other = pair.corrupt_positions.get(name) or _counterpart(span, pair.clean, pair.corrupt)
            if other and (corrupt_index := _token_at(corrupt, other, name)) != indices[name]:
                raise BadInput(
                    f"position {name!r} is token {indices[name]} in clean and {corrupt_index} in corrupt. Replace "
                    "words by others with the same number of tokens.",
                    column="positions",
                )
    return {**indices, "end": length - 1}


def _offsets(tokenizer: Any, text: str) -> list[Span]:
    return [tuple(edges) for edges in tokenizer(text, return_offsets_mapping=True)["offset_mapping"]]


def _token_at(offsets: Sequence[Span], span: Span, name: str) -> int:
    """Index of the last token that overlaps the characters `span`."""
    hits = [i for i, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]
    if not hits:
        problem = f"position {name!r}: no token covers the characters {span[0]} to {span[1]}"
        raise BadInput(f"{problem}. Choose others.", column="positions")
    return hits[-1]


def _counterpart(span: Span, clean: str, corrupt: str) -> Span | None:
    """The same characters in the corrupt text, when they lie before or after all that differs."""
    before, after = _shared_ends(clean, corrupt)
    if span[1] <= before:
        return span
    shift = len(corrupt) - len(clean)
    return (span[0] + shift, span[1] + shift) if span[0] >= len(clean) - after else None
