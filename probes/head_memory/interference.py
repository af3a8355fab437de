"""What memories return for the keys of a recorded head: interference by law and as measured, with values at random and
with the head's own.

All errors are ``‖y_i − v_i‖²``, the mean over the pairs i of one text, of values of length one: 1 is the error of an
empty memory. Keys are of length one, the stored keys are the queries, and the first position is left out.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..memory.memory import Memory
from .spectra import centred, unit

#: Draws of random values whose mean error is compared with the law.
DRAWS = 20

Keys = Float[Tensor, "head pos d_key"]
Values = Float[Tensor, "head pos d_value"]
Errors = Float[Tensor, "head"]


def measured(rule: str, keys: Keys, values: Values) -> Errors:
    """The error of a memory of that rule, each head a memory of its own."""
    read = Memory(rule).write(keys, values).read(keys)
    return (read - values).square().sum(-1).mean(-1)


def in_expectation(rule: str, keys: Keys) -> Errors:
    """The same over independent values of length one and mean 0, exactly: with the values one-hot the memory returns
    its weights A, and the expectation is the mean over i of ``Σ_j (A_ij − δ_ij)²``. Of rules that are linear in the
    values."""
    n = keys.shape[1]
    return measured(rule, keys, torch.eye(n, dtype=keys.dtype).expand(len(keys), -1, -1))


def with_random_values(rule: str, keys: Keys, values: Float[Tensor, "draw pos d_value"]) -> Errors:
    """The mean error over draws of values, the same for every head. Of rules that are linear in the values, and in
    single precision: all draws are written at once, side by side."""
    together = values.float().transpose(0, 1).flatten(1).expand(len(keys), -1, -1)
    return measured(rule, keys.float(), together).to(keys.dtype) / len(values)


def random_values(n: int, d_value: int, draws: int, rng: np.random.Generator) -> Float[Tensor, "draw pos d_value"]:
    """Values that are uniform on the sphere."""
    return unit(torch.from_numpy(rng.standard_normal((draws, n, d_value))))


def interference(keys: Keys, values: Values, rng: np.random.Generator, draws: int = DRAWS) -> dict[str, Errors]:
    """Every error of one text, by name.

    - ``random_centred``, ``random_uncentred``: the Hebbian memory with random values, the mean over draws, for centred
      keys and for keys as they are: what ``n / PR − 1`` predicts.
    - ``real_centred``, ``real_uncentred``: the same with the head's own values, both centred or both as they are;
      ``real_values_centred``: the values alone are centred; ``shuffled``: both are, and the values stand at other
      positions.
    - ``delta``: the delta rule, each pair once, with centred keys and one draw of random values; ``softmax``: softmax
      attention with an inverse temperature of √d and centred keys, in expectation over random values; ``softmax_real``:
      with the centred values.

    Args:
        keys, values: without the first position, as recorded.
    """
    k, c = unit(keys), unit(centred(keys))
    v, own = unit(values), unit(centred(values))
    random, order = (
        random_values(values.shape[1], values.shape[2], draws, rng),
        torch.from_numpy(rng.permutation(keys.shape[1])),
    )
    return {
        "random_centred": with_random_values("hebbian", c, random),
        "random_uncentred": with_random_values("hebbian", k, random),
        "real_centred": measured("hebbian", c, own),
        "real_values_centred": measured("hebbian", k, own),
        "real_uncentred": measured("hebbian", k, v),
        "shuffled": measured("hebbian", c, own[:, order]),
        "delta": with_random_values("delta(beta=1)", c, random[:1]),
        "softmax": in_expectation("softmax", c),
        "softmax_real": measured("softmax", c, own),
    }
