"""Trains the tiny two-layer model of ``data/checkpoints/tiny``: ``python -m data.training.tiny``, a few minutes.

The model is a plain `transformers.LlamaConfig` with grouped-query attention. It learns three kinds of sequences, on
which the script insists (`BAR`), and the short prompts of the other tasks in ``data/tasks`` besides:

- induction: random distinct tokens of the vocabulary, then the same tokens again; predict the second copy;
- ``ioi``: the project's own prompts, clean and corrupt alike;
- coloured objects in a short form that two layers can learn ("... pencil red, cup blue, and ball green. The cup"). The
  one-shot prompts of the task ``colored-objects`` ask for two steps more than that, and this model does not do them.

The loss is taken at the answers (and the second copies) only, so this is no language model. Its tokeniser knows the
words of the tasks and nothing else, one token each with the space before it.

Training draws from a random stream of its own; the held-out texts of `EXCLUDED` are kept out of it besides. Tasks with
few different prompts (capitals) are learned by heart.
"""

from __future__ import annotations

import hashlib
import importlib
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
from data.tasks.colored_objects import COLORS, OBJECTS, SURFACES

OUT = Path(__file__).resolve().parent.parent / "checkpoints" / "tiny"
BAR = 0.99
LIKE = "colored-objects-like"
REQUIRED = ("induction", "ioi", LIKE)
EXCLUDED = ("ioi", LIKE)
#: Longer prompts than this are left to real models; their words are in the vocabulary all the same.
LONGEST = 32
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
    steps: int = 1000
    warm_up: int = 20
    cool_down: int = 400
    learning_rate: float = 4e-3
    turning_rate: float = 0.04
    momentum: float = 0.9
    prompts_from: int = 400
    pool: int = 12_000
    share: int = 8
    shares: tuple[tuple[str, int], ...] = (
        ("ioi", 40),
        ("remaining-name", 16),
        ("surname-recall", 24),
        ("gendered-pronoun", 16),
        (LIKE, 40),
    )
    copy_tokens: int = 1200
    copy_lengths: tuple[int, int] = (3, 30)
    easy_length: float = 6.0
    easy_vocabulary: float = 30.0
    ready: float = 0.75


@dataclass(frozen=True)
class Example:
    """A prompt, and the answers that are right after it."""

    text: str
    answers: tuple[str, ...]


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


# --- what is learned -----------------------------------------------------------------------------------------------


def colored_objects_like(rng: random.Random) -> tuple[Example, Example]:
    """Three objects, each followed by its colour; one of them again: which colour follows? And the same for another."""
    objects, colors = rng.sample(OBJECTS, 3), rng.sample(COLORS, 3)
    listed = [f"{thing} {color}" for thing, color in zip(objects, colors, strict=True)]
    start = f"On the {rng.choice(SURFACES)}, there is {listed[0]}, {listed[1]}, and {listed[2]}. The"
    first, second = (Example(f"{start} {objects[i]}", (f" {colors[i]}",)) for i in rng.sample(range(3), 2))
    return first, second


def kinds() -> dict[str, Callable[[random.Random], tuple[Example, Example]]]:
    """Name → its draw of two prompts, for every file in ``data/tasks`` and for the short coloured objects."""

    def both(draw: Callable[[random.Random], Any]) -> Callable[[random.Random], tuple[Example, Example]]:
        """The clean and the corrupt prompt of a pair: the right answer to the corrupt one is the pair's wrong one."""

        def drawn(rng: random.Random) -> tuple[Example, Example]:
            pair = draw(rng)
            return Example(pair.clean, pair.answer), Example(pair.corrupt, pair.wrong)

        return drawn

    files = sorted(m.name for m in pkgutil.iter_modules(data.tasks.__path__) if not m.name.startswith("_"))
    tasks = [importlib.import_module(f"data.tasks.{name}").task for name in files]
    return {task.name: both(task.draw) for task in tasks} | {LIKE: colored_objects_like}


def examples(draw: Callable[[random.Random], tuple[Example, Example]], rng: random.Random) -> Iterator[Example]:
    while True:
        yield from draw(rng)


def take(stream: Iterator[Example], n: int, without: frozenset[str] = frozenset()) -> list[Example]:
    return [example for example, _ in zip((e for e in stream if e.text not in without), range(n), strict=False)]


def held_out(name: str, draw: Callable[[random.Random], tuple[Example, Example]]) -> list[Example]:
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
    """An example as ids: the prompt, and the answers that are right after it."""

    ids: list[int]
    right: list[int]


def questions(tokenizer: PreTrainedTokenizerFast, chosen: list[Example]) -> list[Question]:
    ids = {answer: tokenizer(answer)["input_ids"] for answer in {a for e in chosen for a in e.answers}}
    rows = tokenizer([e.text for e in chosen])["input_ids"]
    return [Question(row, [ids[a][0] for a in e.answers]) for e, row in zip(chosen, rows, strict=True)]


def question_batch(chosen: list[Question], rng: random.Random) -> Batch:
    return Batch.of([q.ids for q in chosen], [{len(q.ids) - 1: rng.choice(q.right)} for q in chosen])


def induction_batch(n: int, length: int, alphabet: Tensor, generator: torch.Generator) -> Batch:
    """`length` distinct random tokens of the alphabet, twice. Targets: the second copy from its second token on."""
    copy = alphabet[torch.rand(n, len(alphabet), generator=generator).topk(length).indices]
    ids = torch.cat([copy, copy], dim=1)
    within = torch.arange(length, 2 * length - 1)
    places = (torch.arange(n)[:, None] * 2 * length + within).flatten()
    return Batch(ids, places, ids[:, within + 1].flatten())


# --- training ------------------------------------------------------------------------------------------------------


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
        for name in ("q_proj", "k_proj"):
            model.get_parameter(f"model.layers.0.self_attn.{name}.weight").mul_(recipe.sharpness)
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
    """Each step: copies, and from `prompts_from` on prompts. Copies grow longer and richer in words as they are
    mastered."""
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    model = make_model(recipe, vocabulary)
    learner = Learner(model, recipe)
    shares = dict.fromkeys(learned, recipe.share) | dict(recipe.shares)
    alphabet = torch.randperm(vocabulary - 1, generator=generator) + 1  # without <unk>
    longest, words = recipe.easy_length, recipe.easy_vocabulary
    began, share = time.monotonic(), {"copies": 0.0, "prompts": 0.0}
    for step in range(1, recipe.steps + 1):
        length = rng.randint(recipe.copy_lengths[0], int(longest))
        number = recipe.copy_tokens // (2 * length)
        batches = {"copies": induction_batch(number, length, alphabet[: int(words)], generator)}
        if step > recipe.prompts_from:
            chosen = [q for kind, pool in learned.items() for q in rng.sample(pool, shares[kind])]
            batches["prompts"] = question_batch(chosen, rng)
        for kind, batch in batches.items():
            logits = guesses(model, batch)
            torch.nn.functional.cross_entropy(logits, batch.targets).backward()
            share[kind] += 0.1 * ((logits.argmax(-1) == batch.targets).float().mean().item() - share[kind])
        learner.step()
        if share["copies"] > recipe.ready:
            longest = min(recipe.copy_lengths[1], longest * 1.02)
            words = min(len(alphabet), words * 1.04)
        if step % 25 == 0 or step == recipe.steps:
            shown = ", ".join(f"{kind} {part:.2f}" for kind, part in share.items())
            size = f"copies of up to {int(longest)} of {int(words)} words"
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


# --- the checkpoint ------------------------------------------------------------------------------------------------

CARD = """# tiny

A two-layer Llama-like model ({heads} query heads, {kv} KV heads, d_model {d_model}; {parameters:,} parameters, float32)
that the project trains itself for its tests: `python -m data.training.tiny`.

It was trained for {seconds:.0f} s with seed {seed} on {threads} thread(s), torch {torch}.
It is no language model: its loss was taken at answers only, and its {vocabulary} words are those of the tasks.

Top-1 accuracy over the whole vocabulary on held-out prompts (seeds {seeds}; {each} prompts a seed):

| sequences | accuracy |
|---|---|
{rows}

The one-shot prompts of the task `colored-objects` tokenise but were not trained on, and are not solved.

SHA-256 of model.safetensors: {sha256}
"""


def save(
    out: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, found: dict[str, float], **said: Any
) -> str:
    """Write the whole checkpoint, then put it in the place of the old one; returns the SHA-256 of its weights."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        new = Path(folder) / out.name
        model.config.save_pretrained(new)
        tokenizer.save_pretrained(new)
        weights = {name: x.contiguous() for name, x in model.state_dict().items() if name != "lm_head.weight"}
        save_file(weights, new / "model.safetensors", metadata={"format": "pt"})
        sha256 = hashlib.sha256((new / "model.safetensors").read_bytes()).hexdigest()
        rows = "\n".join(f"| {name} | {part:.4f} |" for name, part in found.items())
        parameters = sum(x.numel() for x in weights.values())
        (new / "README.md").write_text(CARD.format(rows=rows, sha256=sha256, parameters=parameters, **said))
        if out.exists():  # aside, not away, until the new one stands in its place
            os.replace(out, Path(folder) / "old")
        os.replace(new, out)
    return sha256


def main() -> int:
    recipe = Recipe()
    torch.set_num_threads(recipe.threads)
    draws = kinds()
    tests = {name: held_out(name, draw) for name, draw in draws.items()}
    pools = {
        name: take(
            examples(draw, random.Random(f"training/{name}")),
            recipe.pool,
            frozenset(e.text for e in tests[name]) if name in EXCLUDED else frozenset(),
        )
        for name, draw in draws.items()
    }
    everything = [e for part in (*pools.values(), *tests.values()) for e in part]
    tokenizer = make_tokenizer([text for e in everything for text in (e.text, *e.answers)], recipe.context)
    short = [
        name for name, part in tests.items() if all(len(tokenizer(e.text)["input_ids"]) <= LONGEST for e in part[:20])
    ]
    began = time.monotonic()
    model = train(recipe, {name: questions(tokenizer, pools[name]) for name in short}, len(tokenizer))
    seconds = time.monotonic() - began
    found = accuracies(model, {name: questions(tokenizer, tests[name]) for name in short}, recipe)
    for name, part in found.items():
        print(f"{name:24} {part:.4f}")
    if failed := [name for name in REQUIRED if found[name] < BAR]:
        print(f"Not kept: {', '.join(failed)} below {BAR}.", file=sys.stderr)
        return 1
    sha256 = save(
        OUT,
        model,
        tokenizer,
        found,
        heads=recipe.n_heads,
        kv=recipe.n_kv_heads,
        d_model=recipe.d_model,
        seconds=seconds,
        seed=recipe.seed,
        threads=recipe.threads,
        torch=torch.__version__,
        vocabulary=len(tokenizer),
        seeds=", ".join(map(str, HELD_OUT_SEEDS)),
        each=HELD_OUT_EACH,
    )
    print(f"{OUT}: {sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
