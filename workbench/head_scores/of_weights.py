"""Scores of heads from weights alone, as arrays: what `workbench.scores` takes of a model of any modality."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.errors import UsageError
from workbench.head_scores import weights

SIZES = ("ov_norm", "ov_rank", "qk_norm", "qk_rank")
#: Arrays of `weight_arrays`: a number for each head, and of q, k and v one for each two heads.
NAMES = ("copy_score", *SIZES, *weights.KINDS)

Arrays = dict[str, np.ndarray]


@torch.no_grad()
def weight_arrays(model: Any) -> Arrays:
    """Everything of `NAMES`, ``[head]`` or ``[reader, writer]``; NaN where a model has no such weights
    (`weights.why_not`, `why_no_copy_score`)."""
    n = model.n_layers * model.n_heads
    scores = {"copy_score": torch.full((n,), torch.nan)}
    try:
        heads = weights.HeadWeights.of(model)
    except UsageError:
        scores |= {name: torch.full((n,), torch.nan) for name in SIZES}
        return as_arrays(scores | {kind: torch.full((n, n), torch.nan) for kind in weights.KINDS})
    if model.modality == "language":
        with suppress(UsageError):
            scores["copy_score"] = weights.copy_score(model, heads)
    return as_arrays(scores | weights.circuit_sizes(weights.spectra(heads)) | weights.composition(heads))


def weight_values(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """One number a head: of composition the largest with an earlier head."""
    values = {"copy_score": arrays["copy_score"]}
    values |= {f"{kind}_composition": largest(arrays[kind]) for kind in weights.KINDS}
    return values | {name: arrays[name] for name in SIZES}


def largest(pairs: np.ndarray) -> np.ndarray:
    """The largest entry of each row; NaN where there is none."""
    best = np.where(np.isfinite(pairs), pairs, -np.inf).max(1)
    return np.where(np.isfinite(best), best, np.nan)


def as_arrays(tensors: Mapping[str, Tensor]) -> Arrays:
    """In float64, on the CPU."""
    return {name: x.detach().cpu().double().numpy() for name, x in tensors.items()}
