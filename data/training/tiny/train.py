"""The training loop, and the accuracy on held-out prompts."""

from __future__ import annotations

import random
import time

import torch
from transformers import LlamaForCausalLM

from .batches import Batch, Question, induction_batch, question_batch
from .learner import Learner
from .model import logits_at_places, make_model
from .recipe import Recipe


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
            prompts = [q for kind, pool in learned.items() for q in rng.sample(pool, shares[kind])]
            batches["prompts"] = question_batch(prompts, rng)
        for kind, batch in batches.items():
            logits = logits_at_places(model, batch)
            torch.nn.functional.cross_entropy(logits, batch.targets).backward()
            share[kind] += 0.1 * ((logits.argmax(-1) == batch.targets).float().mean().item() - share[kind])
        learner.step()
        if share["copies"] > recipe.ready:
            longest = min(recipe.copy_lengths[1], longest * 1.02)
            words = min(len(alphabet), words * 1.04)
        if step % 25 == 0 or step == recipe.steps:
            shares_right = ", ".join(f"{kind} {part:.2f}" for kind, part in share.items())
            size = f"copies of up to {int(longest)} of {int(words)} words"
            print(f"step {step}/{recipe.steps} {time.monotonic() - began:4.0f} s: {shares_right} ({size})", flush=True)
    return model.eval()


@torch.no_grad()
def accuracies(model: LlamaForCausalLM, tests: dict[str, list[Question]], recipe: Recipe) -> dict[str, float]:
    """Top-1 accuracy over the whole vocabulary, on held-out prompts."""
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    alphabet = torch.arange(1, model.config.vocab_size)
    shortest, longest = recipe.copy_lengths
    batches = [induction_batch(20, length, alphabet, generator) for length in range(shortest, longest + 1)]
    hits = torch.cat([logits_at_places(model, batch).argmax(-1) == batch.targets for batch in batches])
    result = {"induction": hits.float().mean().item()}
    for kind, prompts in tests.items():
        batch = Batch.of([q.ids for q in prompts], [{len(q.ids) - 1: 0} for q in prompts])
        best = logits_at_places(model, batch).argmax(-1).tolist()
        result[kind] = sum(guess in q.right for guess, q in zip(best, prompts, strict=True)) / len(prompts)
    return result
