"""Trains the tiny two-layer model of ``data/checkpoints/tiny``: ``python -m data.training.tiny``, about two minutes.

The model is a plain `transformers.LlamaConfig` with grouped-query attention. It learns three kinds of sequences, on which
the script insists (`BAR`), and whatever else lies in ``data/tasks``:

- induction: random distinct tokens of the vocabulary, then the same tokens again; predict the second copy;
- ``ioi`` and ``colored-objects``: the project's own prompts, clean and corrupt alike.

The loss is taken at the answers (and the second copies) only, so this is no language model. Its tokeniser knows the words
of the tasks and nothing else, one token each with the space before it.

No prompt of a task's numbered seeds is trained on by draw: training has a random stream of its own. For `EXCLUDED` tasks
the held-out texts are kept out of training besides; tasks with few different prompts (capitals) are learned by heart.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import math
import os
import pkgutil
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import data.tasks

OUT = Path(__file__).resolve().parent.parent / "checkpoints" / "tiny"
BAR = 0.99
REQUIRED = ("induction", "ioi", "colored-objects")
EXCLUDED = ("ioi", "colored-objects")
HELD_OUT_SEEDS = (0, 1, 2)
HELD_OUT_EACH = 200
UNKNOWN = "<unk>"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, besides the versions of the libraries and the machine's arithmetic.

    `shares` holds prompts a step for the tasks that are named; the others get `share` each.
    """

    seed: int = 0
    threads: int = 2
    d_model: int = 64
    d_head: int = 16
    n_layers: int = 2
    n_heads: int = 8
    n_kv_heads: int = 4
    d_mlp: int = 128
    context: int = 128
    rope_theta: float = 100.0
    initial_std: float = 0.08
    common: float = 0.6
    sharpness: float = 3.0
    steps: int = 1100
    warm_up: int = 20
    cool_down: int = 400
    learning_rate: float = 4e-3
    turning_rate: float = 0.04
    momentum: float = 0.9
    long_from: int = 400
    short_from: int = 650
    hinted: int = 1000
    hints: tuple[tuple[str, str], ...] = (("colored-objects", "query"),)
    pool: int = 12_000
    share: int = 8
    shares: tuple[tuple[str, int], ...] = (
        ("ioi", 40),
        ("remaining-name", 16),
        ("surname-recall", 24),
        ("gendered-pronoun", 16),
        ("colored-objects", 40),
    )
    copy_tokens: int = 1200
    copy_lengths: tuple[int, int] = (3, 30)
    easy_length: float = 6.0
    easy_vocabulary: float = 30.0
    ready: float = 0.75
    mastered: float = 0.85


@dataclass(frozen=True)
class Example:
    """A prompt, the answers that are right after it, and the character from which on they could be known, if hinted."""

    text: str
    answers: tuple[str, ...]
    hint: int | None = None


@dataclass(frozen=True)
class Batch:
    """Ids ``[example, pos]``, padded on the right; `places` are flat indices whose next token is `targets`."""

    ids: Tensor
    places: Tensor
    targets: Tensor

    @classmethod
    def of(cls, rows: list[list[int]], targets: list[dict[int, int]]) -> Batch:
        """Of rows of ids and, for each row, place → target."""
        longest = max(map(len, rows))
        flat = {i * longest + place: goal for i, row in enumerate(targets) for place, goal in row.items()}
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        return cls(padded, torch.tensor(list(flat)), torch.tensor(list(flat.values())))


# --- what is learned ---------------------------------------------------------------------------------------------------


def task_draws() -> dict[str, Callable[[random.Random], Any]]:
    """Task name → its draw of one pair, for every file in ``data/tasks``."""
    found = sorted(m.name for m in pkgutil.iter_modules(data.tasks.__path__) if not m.name.startswith("_"))
    tasks = [importlib.import_module(f"data.tasks.{name}").task for name in found]
    return {task.name: task.draw for task in tasks}


def examples(draw: Callable[[random.Random], Any], rng: random.Random, hint: str = "") -> Iterator[Example]:
    """Clean and corrupt prompts by turns; the right answer to a corrupt prompt is its pair's wrong one."""
    while True:
        pair = draw(rng)
        yield Example(pair.clean, pair.answer, pair.positions[hint][0] if hint else None)
        yield Example(pair.corrupt, pair.wrong, pair.corrupt_positions[hint][0] if hint else None)


def take(stream: Iterator[Example], n: int, without: frozenset[str] = frozenset()) -> list[Example]:
    return [example for example, _ in zip((e for e in stream if e.text not in without), range(n), strict=False)]


def held_out(name: str, draw: Callable[[random.Random], Any]) -> list[Example]:
    """Prompts of the task's numbered seeds, drawn as the workbench draws them."""
    streams = [examples(draw, random.Random(f"{name}/{seed}")) for seed in HELD_OUT_SEEDS]
    return [example for stream in streams for example in take(stream, HELD_OUT_EACH)]


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
    """An example as ids: the prompt, the answers that are right after it, the first place where they could be known."""

    ids: list[int]
    right: list[int]
    known: int

    @property
    def end(self) -> int:
        return len(self.ids) - 1


def questions(tokenizer: PreTrainedTokenizerFast, chosen: list[Example]) -> list[Question]:
    ids = {answer: tokenizer(answer)["input_ids"] for answer in {a for e in chosen for a in e.answers}}
    encoded = tokenizer([e.text for e in chosen])
    return [
        Question(
            row,
            [ids[answer][0] for answer in example.answers],
            len(row) - 1 if example.hint is None else encoded.char_to_token(i, example.hint),
        )
        for i, (example, row) in enumerate(zip(chosen, encoded["input_ids"], strict=True))
    ]


def question_batch(chosen: list[Question], rng: random.Random, reach: int | None = None) -> Batch:
    """The answer after the last token; with a reach, already so many places after the first where it could be known."""
    lasts = [q.end if reach is None else min(q.known + reach, q.end) for q in chosen]
    firsts = [last if reach is None else max(q.known, last - 1) for q, last in zip(chosen, lasts, strict=True)]
    targets = [
        dict.fromkeys(range(first, last + 1), rng.choice(q.right))
        for q, first, last in zip(chosen, firsts, lasts, strict=True)
    ]
    return Batch.of([q.ids for q in chosen], targets)


def induction_batch(n: int, length: int, alphabet: Tensor, generator: torch.Generator) -> Batch:
    """`length` distinct random tokens of the alphabet, twice. Targets: the second copy from its second token on."""
    copy = alphabet[torch.rand(n, len(alphabet), generator=generator).topk(length).indices]
    ids = torch.cat([copy, copy], dim=1)
    within = torch.arange(length, 2 * length - 1)
    places = (torch.arange(n)[:, None] * 2 * length + within).flatten()
    return Batch(ids, places, ids[:, within + 1].flatten())


# --- training ----------------------------------------------------------------------------------------------------------


def make_model(recipe: Recipe, vocabulary: int) -> LlamaForCausalLM:
    """Random weights. All embeddings share a component, so that attention by position alone is easy to learn."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.d_model,
        intermediate_size=recipe.d_mlp,
        num_hidden_layers=recipe.n_layers,
        num_attention_heads=recipe.n_heads,
        num_key_value_heads=recipe.n_kv_heads,
        head_dim=recipe.d_head,
        max_position_embeddings=recipe.context,
        rope_parameters={"rope_type": "default", "rope_theta": recipe.rope_theta},
        initializer_range=recipe.initial_std,
        tie_word_embeddings=True,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, :4].add_(recipe.common)
        for projection in (model.model.layers[0].self_attn.q_proj, model.model.layers[0].self_attn.k_proj):
            projection.weight.mul_(recipe.sharpness)
    return model


def guesses(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Logits ``[place, token]`` at the batch's places only: the unembedding of all others would be wasted."""
    hidden = model.model(input_ids=batch.ids).last_hidden_state
    return model.lm_head(hidden.flatten(0, 1)[batch.places])


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest orthogonal matrix: five Newton-Schulz steps with the coefficients of Muon (Jordan 2024)."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Learner:
    """Muon in float32 for the layers' matrices, AdamW for the embedding and the gains.

    torch's own Muon orthogonalises in bfloat16, which is slow on most CPUs. On these data it learns induction in a
    fraction of the steps that AdamW takes alone.
    """

    def __init__(self, model: LlamaForCausalLM, recipe: Recipe):
        self.recipe, self.model, self.step_number = recipe, model, 0
        self.matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
        self.moving = [torch.zeros_like(p) for p in self.matrices]
        others = [p for p in model.parameters() if not any(p is m for m in self.matrices)]
        self.adam = torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.01)

    def pace(self) -> float:
        """Linear up, constant, linear down to nothing."""
        left = self.recipe.steps - self.step_number
        return min(1.0, self.step_number / self.recipe.warm_up, left / self.recipe.cool_down)

    @torch.no_grad()
    def step(self) -> None:
        self.step_number += 1
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.adam.param_groups:
            group["lr"] = self.recipe.learning_rate * self.pace()
        self.adam.step()
        rate = self.recipe.turning_rate * self.pace()
        for matrix, moving in zip(self.matrices, self.moving, strict=True):
            assert matrix.grad is not None
            moving.mul_(self.recipe.momentum).add_(matrix.grad)
            turn = orthogonal(matrix.grad + self.recipe.momentum * moving)
            matrix.mul_(1 - 0.05 * rate).add_(turn, alpha=-rate * max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5)
        self.model.zero_grad()


def train(recipe: Recipe, learned: dict[str, list[Question]], vocabulary: int) -> LlamaForCausalLM:
    """Each step: copies, short prompts, long prompts. Copies grow longer and richer in words as they are mastered."""
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    model = make_model(recipe, vocabulary)
    learner = Learner(model, recipe)
    shares = dict.fromkeys(learned, recipe.share) | dict(recipe.shares)
    alphabet = torch.randperm(vocabulary - 1, generator=generator) + 1  # without <unk>
    longest, words, reach = recipe.easy_length, recipe.easy_vocabulary, 0
    began, share = time.monotonic(), {"copies": 0.0, "short": 0.0, "long": 0.0}
    for step in range(1, recipe.steps + 1):
        length = rng.randint(recipe.copy_lengths[0], int(longest))
        number = recipe.copy_tokens // (2 * length)
        batches = {"copies": induction_batch(number, length, alphabet[: int(words)], generator)}
        chosen = [q for kind, pool in learned.items() for q in rng.sample(pool, shares[kind])]
        if step > recipe.long_from:
            hinted = reach if step <= recipe.hinted else None
            batches["long"] = question_batch([q for q in chosen if len(q.ids) > 32], rng, hinted)
        if step > recipe.short_from:
            batches["short"] = question_batch([q for q in chosen if len(q.ids) <= 32], rng)
        for kind, batch in batches.items():
            logits = guesses(model, batch)
            torch.nn.functional.cross_entropy(logits, batch.targets).backward()
            share[kind] += 0.1 * ((logits.argmax(-1) == batch.targets).float().mean().item() - share[kind])
        learner.step()
        if share["copies"] > recipe.ready:
            longest = min(recipe.copy_lengths[1], longest * 1.02)
            words = min(len(alphabet), words * 1.04)
        if share["long"] > recipe.mastered:
            reach, share["long"] = reach + 1, 0.5
        if step % 25 == 0 or step == recipe.steps:
            shown = ", ".join(f"{kind} {part:.2f}" for kind, part in share.items())
            size = f"copies of up to {int(longest)} of {int(words)} words, hints {reach}"
            print(f"step {step}/{recipe.steps} {time.monotonic() - began:4.0f} s: {shown} ({size})", flush=True)
    return model.eval()


@torch.no_grad()
def accuracies(model: LlamaForCausalLM, tests: dict[str, list[Question]], recipe: Recipe) -> dict[str, float]:
    """Top-1 accuracy over the whole vocabulary, on held-out prompts."""
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    alphabet = torch.arange(1, model.config.vocab_size)
    shortest, longest = recipe.copy_lengths
    batches = [induction_batch(20, length, alphabet, generator) for length in range(shortest, longest + 1)]
    hits = torch.cat([guesses(model, batch).argmax(-1) == batch.targets for batch in batches])
    found = {"induction": hits.float().mean().item()}
    for kind, asked in tests.items():
        batch = Batch.of([q.ids for q in asked], [{len(q.ids) - 1: 0} for q in asked])
        best = guesses(model, batch).argmax(-1).tolist()
        found[kind] = sum(guess in q.right for guess, q in zip(best, asked, strict=True)) / len(asked)
    return found
