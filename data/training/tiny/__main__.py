"""Train the model and write its checkpoint."""

from __future__ import annotations

import random
import sys
import time

import torch

from .batches import make_tokenizer, questions
from .checkpoint import OUT, save
from .prompts import draws, examples, first, held_out
from .recipe import BAR, EXCLUDED, HELD_OUT_EACH, HELD_OUT_SEEDS, LONGEST, REQUIRED, Recipe
from .train import accuracies, train


def main() -> int:
    recipe = Recipe()
    torch.set_num_threads(recipe.threads)
    kinds = draws()
    tests = {name: held_out(name, draw) for name, draw in kinds.items()}
    pools = {
        name: first(
            examples(draw, random.Random(f"training/{name}")),
            recipe.pool,
            frozenset(e.text for e in tests[name]) if name in EXCLUDED else frozenset(),
        )
        for name, draw in kinds.items()
    }
    everything = [e for part in (*pools.values(), *tests.values()) for e in part]
    tokenizer = make_tokenizer([text for e in everything for text in (e.text, *e.answers)], recipe.context)
    short = [
        name for name, part in tests.items() if all(len(tokenizer(e.text)["input_ids"]) <= LONGEST for e in part[:20])
    ]
    began = time.monotonic()
    model = train(recipe, {name: questions(tokenizer, pools[name]) for name in short}, len(tokenizer))
    seconds = time.monotonic() - began
    accuracy = accuracies(model, {name: questions(tokenizer, tests[name]) for name in short}, recipe)
    for name, part in accuracy.items():
        print(f"{name:24} {part:.4f}")
    if failed := [name for name in REQUIRED if accuracy[name] < BAR]:
        print(f"Not written: {', '.join(failed)} below {BAR}.", file=sys.stderr)
        return 1
    sha256 = save(
        OUT,
        model,
        tokenizer,
        accuracy,
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
