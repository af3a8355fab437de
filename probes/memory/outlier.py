"""What an outlier, a value that is much longer than the others, does to what is read of these.

``laws.hebbian_outlier_mse`` and ``laws.delta_outlier_mse`` are the closed forms.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from .criteria import mse
from .draws import draw, keys_of, pieces
from .memory import Memory


@torch.no_grad()
def outlier_errors(
    rule: str, n: int, d: int, lengths: Sequence[float], trials: int, seed: int
) -> Float[np.ndarray, "length trial"]:
    """The mean squared error of n − 1 items with values of length one, where the last of n values has each of the
    `lengths`; keys and values are random directions of d dimensions.

    Args:
        rule: such as ``"delta"``, also with settings.
    """
    parts = []
    for some in pieces(trials, 2 * n * d + d * d):
        k, v = draw(keys_of("random"), some, n, d, d, seed)
        errors = []
        for length in lengths:
            memory = Memory(rule).write(k, torch.cat([v[:, :-1], length * v[:, -1:]], 1))
            errors.append(mse(memory.read(k[:, :-1]), v[:, :-1]))
        parts.append(torch.stack(errors))
    return torch.cat(parts, 1).numpy().astype(np.float64)
