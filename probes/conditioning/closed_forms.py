"""What the delta rule and Hebb's answer at the end of a protocol, for orthonormal cues and outcomes 0 and 1.

b is the step, N the trials of a phase. One cue that is met N times with outcome λ goes from V to
``λ + (V − λ)(1 − b)^N``; two cues together lose their common error twice as fast, ``(1 − 2b)^N``, half of it each.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .protocols import PHASE


def acquired(b: float, n: int) -> float:
    """``1 − (1 − b)^n``."""
    return 1 - (1 - b) ** n


def inhibition(b: float, alternations: int) -> float:
    """B after n alternations of A with 1 and AB with 0: ``u = M u + c`` from 0, so ``(I − Mⁿ)(I − M)⁻¹ c``."""
    alone, together = np.diag([1 - b, 1.0]), np.eye(2) - b * np.ones((2, 2))
    both, constant = together @ alone, together @ [b, 0.0]
    fixed = np.linalg.solve(np.eye(2) - both, constant)
    return float((fixed - np.linalg.matrix_power(both, alternations) @ fixed)[1])


def overexpectation(b: float, each: int, together: int) -> float:
    """A after it and B were met alone and then together: ``½ + (V − ½)(1 − 2b)^n``."""
    return 0.5 + (acquired(b, each) - 0.5) * (1 - 2 * b) ** together


def delta(b: float, n: int = PHASE) -> Mapping[str, float]:
    """By protocol, phases of n trials (overexpectation: n / 2 of each cue and of both; inhibition: n alternations)."""
    overshadowed = acquired(2 * b, n) / 2
    return {
        "acquisition": acquired(b, n),
        "extinction": acquired(b, n) * (1 - b) ** n,
        "overshadowing": overshadowed,
        "blocking": (1 - b) ** n * overshadowed,
        "control of blocking": overshadowed,
        "overexpectation": overexpectation(b, n // 2, n // 2),
        "conditioned inhibition": inhibition(b, n),
    }


def hebb(b: float, n: int = PHASE) -> Mapping[str, float]:
    """By protocol: b for each trial of the cue with outcome 1, whatever else is present."""
    return {
        "acquisition": b * n,
        "extinction": b * n,
        "overshadowing": b * n,
        "blocking": b * n,
        "control of blocking": b * n,
        "overexpectation": b * 2 * (n // 2),
        "conditioned inhibition": 0.0,
    }
