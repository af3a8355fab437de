"""The keys and values of trials.

Pair i of a trial is the same whatever the loads, the rule and the number of trials are: the loads of a curve are the
first pairs of one sequence, and curves of one seed are of the same pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from workbench.attention.settings import Setting, complete, parse, written
from workbench.errors import UnknownName

#: Kinds of keys, all of length one, with their settings.
KEYS: Mapping[str, Mapping[str, Setting]] = {
    "random": {},  # uniform on the sphere
    "spectrum": {
        "exponent": Setting(1.0, "number", "direction i has a variance of i^−exponent", at_least=0, at_most=4)
    },
    "shared-mean": {
        "share": Setting(0.25, "number", "the mean's squared length over the total variance", at_least=0, at_most=100)
    },
}


class Keys(NamedTuple):
    """A kind of keys with its settings. ``str()`` is what a user types for it."""

    kind: str
    settings: Mapping[str, Any]

    def __str__(self) -> str:
        return written(self.kind, self.settings, KEYS[self.kind])


def keys_of(text: str) -> Keys:
    """``"random"``, ``"spectrum(exponent=1)"`` or ``"shared-mean(share=0.25)"``.

    Raises:
        UnknownName: no such kind or setting.
        UsageError: a setting that is not possible.
    """
    kind, values = parse(text, "keys", "spectrum(exponent=1)")
    if kind not in KEYS:
        raise UnknownName("kind of keys", kind, KEYS, argument="keys", expected=f"one of {', '.join(KEYS)}")
    return Keys(kind, complete(kind, KEYS[kind], values))


def pieces(trials: int, numbers: int, together: int = 2**23) -> Iterator[range]:
    """The trials in ranges, each of so few that no more than `together` numbers are held at once where one trial has
    `numbers`."""
    size = max(1, together // numbers)
    for start in range(0, trials, size):
        yield range(start, min(trials, start + size))


def draw(keys: Keys, trials: Iterable[int], n: int, d: int, d_value: int, seed: int) -> tuple[Tensor, Tensor]:
    """Keys ``[trial, n, d]`` and values ``[trial, n, d_value]`` of length one, independent, in float32; values of one
    dimension are −1 or 1."""
    means, rows = [], []
    for trial in trials:
        rng = np.random.default_rng([seed, trial])
        means.append(rng.standard_normal(d))
        rows.append(rng.standard_normal((n, d + d_value)))
    mean, both = torch.from_numpy(np.stack(means)), torch.from_numpy(np.stack(rows))
    k, v = both.split([d, d_value], -1)
    if keys.kind == "spectrum":
        k = k * torch.arange(1, d + 1, dtype=k.dtype) ** (-keys.settings["exponent"] / 2)
    if keys.kind == "shared-mean":
        k = k + unit(mean)[:, None] * (d * keys.settings["share"]) ** 0.5
    return unit(k).float(), unit(v).float()


def unit(x: Tensor) -> Tensor:
    """Of length one."""
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)
