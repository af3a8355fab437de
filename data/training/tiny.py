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

    `mix` holds sequences a step and kind; kinds that are not named get `others` each.
    """

    seed: int = 0
    threads: int = 2
    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 8
    n_kv_heads: int = 4
    d_mlp: int = 192
    context: int = 128
    rope_theta: float = 10_000.0
    initial_std: float = 0.08
    steps: int = 800
    warm_up: int = 40
    learning_rate: float = 4e-3
    weight_decay: float = 0.1
    pool: int = 20_000
    others: int = 16
    mix: tuple[tuple[str, int], ...] = (("induction", 48), ("ioi", 64), ("colored-objects", 48))
    shortest_copy: int = 4
    longest_copy: int = 30


@dataclass(frozen=True)
class Example:
    """A prompt and the answers that are right after it."""

    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Batch:
    """Ids ``[example, pos]``, padded on the right; `places` are flat indices whose next token is `targets`."""

    ids: Tensor
    places: Tensor
    targets: Tensor


# --- what is learned ---------------------------------------------------------------------------------------------------


def task_draws() -> dict[str, Callable[[random.Random], Any]]:
    """Task name → its draw of one pair, for every file in ``data/tasks``."""
    found = sorted(m.name for m in pkgutil.iter_modules(data.tasks.__path__) if not m.name.startswith("_"))
    tasks = [importlib.import_module(f"data.tasks.{name}").task for name in found]
    return {task.name: task.draw for task in tasks}


def examples(draw: Callable[[random.Random], Any], rng: random.Random) -> Iterator[Example]:
    """Clean and corrupt prompts by turns; the right answer to a corrupt prompt is its pair's wrong one."""
    while True:
        pair = draw(rng)
        yield Example(pair.clean, pair.answer)
        yield Example(pair.corrupt, pair.wrong)


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
class Pool:
    """Prompts ``[example, pos]`` padded on the right, the place of the last token, and which answers are right.

    `right` is ``[example, answer]``, padded by repeating the first answer.
    """

    ids: Tensor
    last: Tensor
    right: Tensor

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast, chosen: list[Example]) -> Pool:
        rows = tokenizer([e.text for e in chosen])["input_ids"]
        longest, most = max(map(len, rows)), max(len(e.answers) for e in chosen)
        answers = [[tokenizer(a)["input_ids"][0] for a in e.answers] for e in chosen]
        return cls(
            torch.tensor([row + [0] * (longest - len(row)) for row in rows]),
            torch.tensor([len(row) - 1 for row in rows]),
            torch.tensor([a + a[:1] * (most - len(a)) for a in answers]),
        )

    def batch(self, n: int, generator: torch.Generator) -> Batch:
        rows = torch.randint(len(self.ids), (n,), generator=generator)
        column = torch.randint(self.right.shape[1], (n,), generator=generator)
        places = torch.arange(n) * self.ids.shape[1] + self.last[rows]
        return Batch(self.ids[rows], places, self.right[rows, column])


def induction_batch(n: int, length: int, vocabulary: int, generator: torch.Generator) -> Batch:
    """`length` distinct random tokens, twice. Targets: the second copy from its second token on."""
    copy = torch.rand(n, vocabulary - 1, generator=generator).topk(length).indices + 1  # 0 is <unk>
    ids = torch.cat([copy, copy], dim=1)
    within = torch.arange(length, 2 * length - 1)
    places = (torch.arange(n)[:, None] * 2 * length + within).flatten()
    return Batch(ids, places, ids[:, within + 1].flatten())


# --- training ----------------------------------------------------------------------------------------------------------


def make_model(recipe: Recipe, vocabulary: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.d_model,
        intermediate_size=recipe.d_mlp,
        num_hidden_layers=recipe.n_layers,
        num_attention_heads=recipe.n_heads,
        num_key_value_heads=recipe.n_kv_heads,
        max_position_embeddings=recipe.context,
        rope_parameters={"rope_type": "default", "rope_theta": recipe.rope_theta},
        initializer_range=recipe.initial_std,
        tie_word_embeddings=True,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)


def guesses(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Logits ``[place, token]`` at the batch's places only: the unembedding of all others would be wasted."""
    hidden = model.model(input_ids=batch.ids).last_hidden_state
    return model.lm_head(hidden.flatten(0, 1)[batch.places])


def optimizer_for(model: LlamaForCausalLM, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    gains = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": gains, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


def pace(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine down to 1 % of the learning rate."""
    if step < recipe.warm_up:
        return (step + 1) / recipe.warm_up
    done = (step - recipe.warm_up) / max(1, recipe.steps - recipe.warm_up)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def train(recipe: Recipe, pools: dict[str, Pool], vocabulary: int) -> LlamaForCausalLM:
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    lengths = random.Random(recipe.seed)
    model = make_model(recipe, vocabulary)
    optimizer = optimizer_for(model, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: pace(step, recipe))
    sizes = dict.fromkeys(pools, recipe.others) | dict(recipe.mix)
    began, seen = time.monotonic(), {}
    for step in range(1, recipe.steps + 1):
        for kind, n in sizes.items():
            if kind == "induction":
                length = lengths.randint(recipe.shortest_copy, recipe.longest_copy)
                batch = induction_batch(n, length, vocabulary, generator)
            else:
                batch = pools[kind].batch(n, generator)
            logits = guesses(model, batch)
            weight = n / sum(sizes.values())
            (weight * torch.nn.functional.cross_entropy(logits, batch.targets)).backward()
            right = (logits.argmax(-1) == batch.targets).float().mean().item()
            seen[kind] = 0.9 * seen.get(kind, 0.0) + 0.1 * right
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 50 == 0 or step == recipe.steps:
            shown = "  ".join(f"{kind} {share:.2f}" for kind, share in seen.items())
            print(f"step {step}/{recipe.steps}  {time.monotonic() - began:4.0f} s  {shown}", flush=True)
    return model.eval()


@torch.no_grad()
def accuracies(model: LlamaForCausalLM, tests: dict[str, Pool], recipe: Recipe) -> dict[str, float]:
    """Top-1 accuracy over the whole vocabulary, on held-out prompts."""
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    found: dict[str, float] = {}
    lengths = range(recipe.shortest_copy, recipe.longest_copy + 1)
    batches = [induction_batch(10, length, model.config.vocab_size, generator) for length in lengths]
    hits = torch.cat([guesses(model, batch).argmax(-1) == batch.targets for batch in batches])
    found["induction"] = hits.float().mean().item()
    for kind, pool in tests.items():
        batch = Batch(pool.ids, torch.arange(len(pool.ids)) * pool.ids.shape[1] + pool.last, pool.right[:, 0])
        hits = (guesses(model, batch).argmax(-1)[:, None] == pool.right).any(-1)
        found[kind] = hits.float().mean().item()
    return found
