"""What a layer with another operator has at hand while it runs, by thread: two threads may run one model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from torch import Tensor, nn


@dataclass
class LayerRun:
    """Of one module in the run that is going on.

    Attributes:
        x: what enters the attention module, ``[batch, pos, d_model]``.
        reading: while the layer is called for its queries and keys alone: what takes them, ``[batch, head, pos, d]``.
        read: the queries and keys that were taken, positions first.
        entering: what entered the first layer.
    """

    x: Tensor | None = None
    reading: Callable[[Tensor, Tensor], None] | None = None
    read: tuple[Tensor, Tensor] | None = None
    entering: Tensor | None = None


class _Runs(threading.local):
    def __init__(self) -> None:
        self.of: WeakKeyDictionary[nn.Module, LayerRun] = WeakKeyDictionary()


_RUNS = _Runs()


def run_of(module: nn.Module) -> LayerRun:
    """What this thread's run has of a module."""
    return _RUNS.of.setdefault(module, LayerRun())
