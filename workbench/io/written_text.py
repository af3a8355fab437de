"""A prompt as people write it: its text in pieces of whole characters, each with the positions of its tokens.

Byte-level tokenisers cut characters such as 安 into several tokens, which cannot be read one by one: here they are
one piece. The joined pieces are the text, exactly as the tokeniser decodes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from workbench.io.token_text import REPLACEMENT

#: Tokens that are decoded together to find where each begins.
CHUNK = 32


@dataclass(frozen=True)
class Piece:
    """A part of a prompt's text that is shown as one: a token, or the tokens that share a character.

    Attributes:
        text: as it is written; empty for a token that writes nothing.
        positions: of its tokens, consecutive.
        starts: for each position, the index of the character in `text` in which its token begins.
    """

    text: str
    positions: tuple[int, ...]
    starts: tuple[int, ...]


def written_pieces(tokenizer: Any, ids: Sequence[int]) -> tuple[Piece, ...]:
    """The pieces of a prompt, in order; ``"".join(piece.text for piece in pieces) == tokenizer.decode(ids)``.

    A token begins where the text of the tokens before it ends. Two tokens are in one piece where that is inside a
    character as people see it, an extended grapheme cluster
    (`UAX 29 <https://www.unicode.org/reports/tr29/>`_): an emoji of several code points, a letter with its accents.

    Args:
        tokenizer: of Hugging Face's kind: ``decode(ids)`` gives the text.

    Examples:
        >>> model = wb.load("tiny")
        >>> [piece.text for piece in written_pieces(model.tokenizer, model.to_tokens("Then, Mary")[0].tolist())]
        ['Then', ',', ' Mary']
    """
    ids = list(ids)
    text = str(tokenizer.decode(ids))
    ends, is_whole, first = [0], [True], 0
    for end in range(1, len(ids)):
        before, rest = str(tokenizer.decode(ids[first:end])), text[ends[first] :]
        shared = len(before) if rest.startswith(before) else _shared_characters(before, rest)
        ends.append(max(ends[first] + shared, ends[-1]))
        is_whole.append(shared == len(before))
        if end - first >= CHUNK and is_whole[-1] and str(tokenizer.decode(ids[end:])) == text[ends[-1] :]:
            first = end  # from here the text does not depend on earlier tokens
    ends.append(len(text))
    is_whole.append(True)
    return _joined(text, ends, is_whole)


def pieces_of_labels(labels: Sequence[str]) -> tuple[Piece, ...]:
    """A piece for each label, where there is no text."""
    return tuple(Piece(label, (i,), (0,)) for i, label in enumerate(labels))


def _shared_characters(a: str, b: str) -> int:
    """How many characters two texts share before they differ."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _joined(text: str, ends: Sequence[int], is_whole: Sequence[bool]) -> tuple[Piece, ...]:
    """The pieces.

    Args:
        ends: where the text before each token ends, and at last that of all.
        is_whole: whether these texts are whole characters.
    """
    import regex

    borders = {0, *(match.end() for match in regex.finditer(r"\X", text))}
    firsts: list[int] = []
    for i, start in enumerate(ends[:-1]):
        end = ends[is_whole.index(True, i + 1)]
        # The rest of bytes that are no character: the decoder wrote one mark for all of them.
        is_rest = start == end and start > 0 and text[start - 1] == REPLACEMENT
        if not firsts or (is_whole[i] and start in borders and not is_rest):
            firsts.append(i)
    pieces = []
    for first, after in zip(firsts, [*firsts[1:], len(ends) - 1], strict=True):
        part = text[ends[first] : ends[after]]
        starts = tuple(min(start - ends[first], max(len(part) - 1, 0)) for start in ends[first:after])
        pieces.append(Piece(part, tuple(range(first, after)), starts))
    return tuple(pieces)
