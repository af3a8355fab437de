"""How an error grows through the memories of a network: a query that is not the key, a chain of layers, several heads.

All memories are Hebbian. Keys are independent random directions. Each function gives the mean squared error of the
items of every trial, beside which `laws` has `noisy_query_mse`, `chain_mse` and `heads_mse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .criteria import mse
from .draws import draw, keys_of, pieces, unit
from .memory import Memory

Errors = Float[np.ndarray, "point trial"]
RANDOM = keys_of("random")


@torch.no_grad()
def noisy_query_errors(n: int, d: int, lengths: Sequence[float], trials: int, seed: int) -> Errors:
    """Of queries ``k + length · u`` with u a random direction, for each of the lengths; n pairs, keys and values of d
    dimensions."""
    parts = []
    for some in pieces(trials, 3 * n * d):
        k, v = draw(RANDOM, some, n, 2 * d, d, seed)
        k, noise = (unit(half) for half in k.split(d, -1))  # the two halves of a random direction are independent
        memory = Memory("hebbian").write(k, v)
        parts.append(torch.stack([mse(memory.read(k + length * noise), v) for length in lengths]))
    return _joined(parts)


@torch.no_grad()
def chain_errors(n: int, d: int, layers: int, trials: int, seed: int) -> Errors:
    """After 1, 2 … memories of the same n items: what one memory reads is the query of the next, whose keys are the
    values of the one before."""
    parts = []
    for some in pieces(trials, (layers + 1) * n * d):
        codes, _ = draw(RANDOM, some, (layers + 1) * n, d, 1, seed)
        codes = codes.unflatten(1, (layers + 1, n)).unbind(1)
        read, errors = codes[0], []
        for k, v in pairwise(codes):
            read = Memory("hebbian").write(k, v).read(read)
            errors.append(mse(read, v))
        parts.append(torch.stack(errors))
    return _joined(parts)


@torch.no_grad()
def head_errors(n: int, d_model: int, d_key: int, heads: Sequence[int], trials: int, seed: int) -> Errors:
    """Of the mean of H heads, for each H of `heads` (ascending): each head stores the same n pairs, with its own random
    projection of keys of d_model dimensions to d_key (entries of variance 1 / d_key). Values have d_key dimensions."""
    parts = []
    for some in pieces(trials, n * (d_model + d_key) + heads[-1] * d_model * d_key):
        k, v = draw(RANDOM, some, n, d_model, d_key, seed)
        projections, total, errors = _projections(some, heads[-1], d_model, d_key, seed), torch.zeros_like(v), []
        for head in range(heads[-1]):
            keys = k @ projections[:, head]
            total = total + Memory("hebbian").write(keys, v).read(keys)
            if head + 1 in heads:
                errors.append(mse(total / (head + 1), v))
        parts.append(torch.stack(errors))
    return _joined(parts)


def _projections(
    trials: range, heads: int, d_model: int, d_key: int, seed: int
) -> Float[Tensor, "trial head d_model d_key"]:
    draws = [np.random.default_rng([seed, trial, 1]).standard_normal((heads, d_model, d_key)) for trial in trials]
    return torch.from_numpy(np.stack(draws) / np.sqrt(d_key)).float()


def _joined(parts: list[Tensor]) -> Errors:
    return torch.cat(parts, 1).numpy().astype(np.float64)
