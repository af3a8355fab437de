"""From texts to ids: the tokeniser, and batches of prompts and of copies."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from .prompts import Example

UNKNOWN = "<unk>"


def make_tokenizer(texts: list[str], context: int) -> PreTrainedTokenizerFast:
    """Word-level, byte-level spelling: ``" Mary"`` is the one token ``ĠMary``; what is unknown becomes ``<unk>``."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    words = sorted({piece for text in texts for piece, _ in splitter.pre_tokenize_str(text)})
    vocabulary = {word: i for i, word in enumerate([UNKNOWN, *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    inner.pre_tokenizer = splitter
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token=UNKNOWN, model_max_length=context)


@dataclass(frozen=True)
class Question:
    """An example as ids: the prompt, and the answers that are right after it."""

    ids: list[int]
    right: list[int]


def questions(tokenizer: PreTrainedTokenizerFast, prompts: list[Example]) -> list[Question]:
    """The prompts as ids."""
    ids = {answer: tokenizer(answer)["input_ids"] for answer in {a for e in prompts for a in e.answers}}
    rows = tokenizer([e.text for e in prompts])["input_ids"]
    return [Question(row, [ids[a][0] for a in e.answers]) for e, row in zip(prompts, rows, strict=True)]


def question_batch(prompts: list[Question], rng: random.Random) -> Batch:
    """The target of a prompt is one of its right answers, at its last position."""
    return Batch.of([q.ids for q in prompts], [{len(q.ids) - 1: rng.choice(q.right)} for q in prompts])


@dataclass(frozen=True)
class Batch:
    """Ids ``[example, pos]``, padded on the right; `positions` are flat indices whose next token is `targets`."""

    ids: Tensor
    positions: Tensor
    targets: Tensor

    @classmethod
    def of(cls, rows: list[list[int]], targets: list[dict[int, int]]) -> Batch:
        """Of rows of ids and, for each row, position → target."""
        longest = max(map(len, rows))
        flat = {i * longest + position: goal for i, row in enumerate(targets) for position, goal in row.items()}
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        return cls(padded, torch.tensor(list(flat)), torch.tensor(list(flat.values())))


def induction_batch(n: int, length: int, alphabet: Tensor, generator: torch.Generator) -> Batch:
    """`length` distinct random tokens of the alphabet, twice. Targets: the second copy from its second token on."""
    copy = alphabet[torch.rand(n, len(alphabet), generator=generator).topk(length).indices]
    ids = torch.cat([copy, copy], dim=1)
    within = torch.arange(length, 2 * length - 1)
    positions = (torch.arange(n)[:, None] * 2 * length + within).flatten()
    return Batch(ids, positions, ids[:, within + 1].flatten())
