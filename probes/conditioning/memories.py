"""Protocols played to associative memories, and to Rescorla and Wagner's own model."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..memory.memory import Memory
from .protocols import Protocol, cues_at


def answers(
    rule: str, protocol: Protocol, step: float, cues: Float[Tensor, "cue size"] | None = None
) -> Float[Tensor, " time"]:
    """What a memory answers to the cue in question before the first trial (0) and after each one.

    Args:
        rule: ``"delta"``, whose β is the step, or ``"hebbian"``, which writes `step` times the outcome.
        cues: vectors of A, B and C; orthonormal by default.
    """
    cues = cues_at() if cues is None else cues
    keys, values, test = protocol.present(cues), protocol.outcomes()[:, None], protocol.test_vector(cues)[None]
    memory = Memory(rule, beta=step) if rule == "delta" else Memory(rule)
    values = values if rule == "delta" else step * values
    read = [torch.zeros(1, dtype=torch.float64)]
    for key, value in zip(keys[:, None], values[:, None], strict=True):
        read.append(memory.write(key, value).read(test)[0])
    return torch.cat(read)


def last_answer(rule: str, protocol: Protocol, step: float, cues: Float[Tensor, "cue size"] | None = None) -> float:
    """The last of `answers`, with all trials written at once."""
    cues = cues_at() if cues is None else cues
    memory = Memory(rule, beta=step) if rule == "delta" else Memory(rule)
    values = protocol.outcomes()[:, None] * (1 if rule == "delta" else step)
    return memory.write(protocol.present(cues), values).read(protocol.test_vector(cues)[None]).item()


def rescorla_wagner(protocol: Protocol, step: float) -> float:
    """What the cue in question is worth in the end, by ``ΔV_i = step (λ − Σ V)`` for every cue i that is present, the
    sum over these (Rescorla and Wagner 1972, with equal saliences)."""
    worth = dict.fromkeys("ABC", 0.0)
    for letters, outcome in protocol.trials:
        error = outcome - sum(worth[letter] for letter in letters)
        for letter in letters:
            worth[letter] += step * error
    return worth[protocol.test]
