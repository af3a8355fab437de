"""The delta rule is Rescorla and Wagner's: closed forms of conditioning with orthonormal cues, which Hebb's misses."""

from __future__ import annotations

import torch
from torch import Tensor

from probes.memory.memory import Memory

A, B, X = torch.eye(3, dtype=torch.float64)
STEP = 0.1


def responses(rule: str, *trials: tuple[int, Tensor, float]) -> tuple[float, ...]:
    """What A, B and X answer after phases of so many trials of a cue and its outcome."""
    cues = torch.cat([cue.expand(count, -1) for count, cue, _ in trials])
    outcomes = torch.cat([torch.full((count, 1), outcome, dtype=torch.float64) for count, _, outcome in trials])
    memory = Memory(rule).write(cues, outcomes if rule.startswith("delta") else STEP * outcomes)
    return tuple(memory.read(torch.stack([A, B, X]))[:, 0].tolist())


PROTOCOLS = {
    "acquisition": ((20, A, 1.0),),
    "extinction": ((20, A, 1.0), (20, A, 0.0)),
    "overshadowing": ((20, A + B, 1.0),),
    "blocking": ((20, A, 1.0), (20, A + B, 1.0)),
    "overexpectation": ((100, A, 1.0), (100, B, 1.0), (100, A + B, 1.0)),
    "inhibition": ((1, A, 1.0), (1, A + X, 0.0)) * 2000,
}


def test_the_delta_rule_has_the_closed_forms() -> None:
    delta = {name: responses(f"delta(beta={STEP})", *trials) for name, trials in PROTOCOLS.items()}
    left = 1 - STEP
    overshadowed = (1 - (1 - 2 * STEP) ** 20) / 2
    torch.testing.assert_close(delta["acquisition"][0], 1 - left**20, rtol=0, atol=1e-12)
    torch.testing.assert_close(delta["extinction"][0], (1 - left**20) * left**20, rtol=0, atol=1e-12)
    torch.testing.assert_close(delta["overshadowing"][1], overshadowed, rtol=0, atol=1e-12)
    torch.testing.assert_close(delta["blocking"][1], left**20 * overshadowed, rtol=0, atol=1e-12)
    torch.testing.assert_close(delta["overexpectation"][:2], (0.5, 0.5), rtol=0, atol=1e-4)
    torch.testing.assert_close(delta["inhibition"], (1.0, 0.0, -1.0), rtol=0, atol=1e-4)
    assert [round(delta[name][i], 4) for name, i in (("extinction", 0), ("blocking", 1))] == [0.1068, 0.0601]


def test_the_hebbian_memory_misses_them() -> None:
    hebb = {name: responses("hebbian", *trials) for name, trials in PROTOCOLS.items()}
    torch.testing.assert_close(hebb["extinction"][0], 2.0)
    torch.testing.assert_close(hebb["blocking"][1], 2.0)
    torch.testing.assert_close(hebb["overexpectation"][:2], (20.0, 20.0))
    assert hebb["inhibition"][2] == 0
