"""Which kernel computed each layer's attention in the last run, and why."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from torch import nn

#: The attention function that the model came with.
OWN = "the model's own"

_NOTES: WeakKeyDictionary[nn.Module, tuple[str, str]] = WeakKeyDictionary()


def note_kernel(module: nn.Module, kernel: str, why: str) -> None:
    """Note what an attention module uses in this run."""
    _NOTES[module] = kernel, why


def forget_kernel(module: nn.Module) -> None:
    """Before a run."""
    _NOTES.pop(module, None)


def kernel_of(module: nn.Module) -> tuple[str, str]:
    """What it used in the last run, and why."""
    return _NOTES.get(module, (OWN, "nothing is hooked"))
