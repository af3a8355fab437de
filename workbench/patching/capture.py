"""Take activations out of one run of some inputs, unedited or under edits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from workbench.models.resumable import ResumableModel
from workbench.patching.cone import EditedRun, Observer, full_forward_taps


class Changes(Protocol):
    """Edits of each of some inputs; see `workbench.patching.edits.Edits`."""

    def row(self, i: int) -> EditedRun:
        """What is written in the run of input `i`."""
        ...

    def key(self, i: int) -> bytes | None:
        """A hash of that and of where it is taken from; None where that has no name."""
        ...


def take(
    resumable: ResumableModel,
    inputs: Sequence[Tensor],
    members: Sequence[int],
    hooks: Iterable[str],
    edits: Changes | None = None,
) -> tuple[dict[str, Tensor], Any]:
    """Activations at hook names of inputs of one length, ``[input, ...]``, in the first sampling step; and the run."""
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[Sequence[int], int, Tensor], None]:
        def observe(_: Sequence[int], __: int, x: Tensor) -> None:
            kept[name] = x if x.is_contiguous() else x.contiguous()

        return observe

    observed: dict[str, Observer] = {name: keep(name) for name in hooks}
    rows = [] if edits is None else [edits.row(i) for i in members]
    taps, _ = full_forward_taps(resumable, rows, observed)
    return kept, resumable.base_run(torch.stack([inputs[i] for i in members]), taps)
