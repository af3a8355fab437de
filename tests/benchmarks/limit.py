"""The matrix-work limit of a sweep over heads: the cone's matrix products and nothing else.

A row that leaves the base run at layer l passes through layers l, l+1, …, so layer l (from 0) works on
``heads × (l + 1)`` rows of ``P = length − first difference`` positions, one prompt at a time. For each layer the
products ``[rows · P, d_in] × [d_in, d_out]`` of q, k, v, o, gate, up and down are timed, with the layer's own weights,
on random numbers. Not included: attention itself, norms, rotation, activation functions, residual additions, copying
rows, the base and source runs, the readout, tokenisation and statistics.

The last layer can be had for less: only keys and values are needed at every position there, the rest at the answer's
alone. `tight` counts it so; `full` takes all positions, as in the formula ``2 w H B P L (L + 1) / 2`` flop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Limit:
    """Seconds and flop of the matrix work of one sweep over heads."""

    full: float
    tight: float
    flop: float


def matrix_work(hf: Any, n_heads: int, positions: int, n_prompts: int) -> Callable[[], Limit]:
    """A function that times the matrix work once, on this model's weights."""
    layers = [_weights(layer) for layer in hf.model.layers]
    most = n_heads * len(layers) * positions
    widths = {weight.shape[1] for layer in layers for _, weight in layer}
    inputs = {width: torch.randn(most, width) for width in widths}
    flop = sum(
        2 * weight.numel() * n_heads * (at + 1) * positions for at, layer in enumerate(layers) for _, weight in layer
    )

    def work(at: int, answer_only: bool = False) -> None:
        rows = n_heads * (at + 1)
        for name, weight in layers[at]:
            everywhere = not answer_only or name.endswith(("k_proj", "v_proj"))
            F.linear(inputs[weight.shape[1]][: rows * (positions if everywhere else 1)], weight)

    @torch.no_grad()
    def measure() -> Limit:
        below = last = last_tight = 0.0
        for _ in range(n_prompts):
            below += _seconds(lambda: [work(at) for at in range(len(layers) - 1)])
            last += _seconds(lambda: work(len(layers) - 1))
            last_tight += _seconds(lambda: work(len(layers) - 1, answer_only=True))
        return Limit(below + last, below + last_tight, float(flop * n_prompts))

    return measure


def _weights(layer: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, module.weight) for name, module in layer.named_modules() if isinstance(module, nn.Linear)]


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
