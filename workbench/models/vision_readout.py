"""What the outputs of a vision model read of its last layer, found out on the model itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.models.precision import close
from workbench.models.resumable_layers import LayersRun, ResumableLayers
from workbench.models.resumption import FAILURES

if TYPE_CHECKING:
    from workbench.models.vision import HookedViT


def choose_readout(model: HookedViT, base: LayersRun) -> None:
    """Find out whether it is enough to embed one image, as the layers are left out anyway; whether the first
    positions alone are read, and whether the last layer then gives them alone."""
    outputs, entering, leaving = _read(model, base, base.streams[-1]), base.streams[-2], base.streams[-1]
    model.embeds_one = True
    model.embeds_one = _gives(outputs, lambda: _read(model, base, leaving))
    rows, resumable = torch.arange(base.size), ResumableLayers(model, causal=False)
    for n in sorted({1, len(model.added_positions)} & set(range(1, base.length))):
        model.reads_first = n
        if _gives(outputs, lambda n=n: _read(model, base, leaving[:, :n])) and _gives(
            leaving[:, :n],
            lambda: resumable.block(base, model.n_layers - 1, rows, 0, (entering,), lambda *_: {})[0],
        ):
            return
    model.reads_first = 0


def _read(model: HookedViT, base: LayersRun, stream: Tensor) -> Tensor:
    return model.read_out(base.inputs, stream, None, base.rest)


def _gives(expected: Tensor, compute: Callable[[], Tensor]) -> bool:
    """Whether something gives what is expected, and does not fail."""
    try:
        value = compute()
    except FAILURES:
        return False
    return value.shape == expected.shape and close(value, expected)
