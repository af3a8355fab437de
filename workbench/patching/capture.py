"""Catch activations of one run by what they are called, unedited or under edits."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from workbench.models.attention_edits import PartialTap
from workbench.models.resumable import ResumableModel, Tap
from workbench.models.steps import split_step
from workbench.patching.cone import EditedRun, Observer, full_forward_taps, is_pattern, naming_edits
from workbench.patching.head_selection import of_heads

Key = TypeVar("Key", bound=Hashable)


class Capture(dict[Key, Tensor]):
    """Activations by a key of the caller's (a depth, a hook name), filled in by the run that its taps are passed to.

    ::

        z = Capture()
        model.base_run(ids, {0: {model.hook_name("z", layer): z.tap(layer) for layer in layers}})
        z[3]  # [input, pos, head, d_head]

    Args:
        transform: applied to each activation before it is stored.
    """

    def __init__(self, transform: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self._transform = transform

    def tap(self, key: Key) -> Tap:
        """A tap that reads the activation and leaves it as it is."""

        def tap(x: Tensor) -> None:
            self[key] = self._transform(x)

        return tap

    def observer(self, key: Key) -> Observer:
        """The same for `workbench.patching.cone.run_edited`, for runs that all fit into one chunk."""

        def observe(_indices: Sequence[int], _first: int, x: Tensor) -> None:
            self[key] = self._transform(x)

        return observe


class UncopiedCapture(Capture[Key]):
    """Activations as the model computed them, not copied where they are contiguous: a copy, and memory for it, is a
    noticeable part of a small model's run."""

    def __init__(self) -> None:
        super().__init__(self._noted)
        self._versions: list[tuple[Tensor, int]] = []

    def _noted(self, x: Tensor) -> Tensor:
        if x.is_inference():  # torch counts no changes of it
            return x.clone(memory_format=torch.contiguous_format)
        x = x.contiguous()
        self._versions.append((x, x._version))
        return x

    def overwritten(self) -> bool:
        """Whether an activation was changed in place after it was caught."""
        return any(x._version != version for x, version in self._versions)


class RunEdits(Protocol):
    """The edits of each of some inputs; see `workbench.patching.edits.Edits`."""

    def edited_run(self, i: int) -> EditedRun:
        """What is written in the run of input `i`."""
        ...

    def key(self, i: int) -> bytes | None:
        """A hash of those writes and of what their values come from; None where that has no name."""
        ...


def taps_at(
    model: ResumableModel, capture: Capture[int], site: str, depths: Iterable[int]
) -> dict[int, dict[str, Tap]]:
    """Taps (step → hook name → tap) that capture a site at some depths."""
    taps: dict[int, dict[str, Tap]] = {}
    for depth in depths:
        step, layer = divmod(depth, model.n_layers)
        taps.setdefault(step, {})[model.hook_name(site, layer)] = capture.tap(depth)
    return taps


def capture_hooks(
    model: ResumableModel,
    inputs: Sequence[Tensor],
    members: Sequence[int],
    hooks: Iterable[str],
    edits: RunEdits | None = None,
    heads: Sequence[int] | None = None,
    *,
    keep_run: bool = True,
) -> tuple[Capture[str], Any]:
    """Activations of inputs of one length, ``[input, ...]``, by the names under which they are stored (with the step
    where the model has several), of all heads or some; and the run.

    Args:
        keep_run: whether the caller needs the run. Otherwise a model of several steps keeps no streams of them.
    """
    activations: Capture[str] = (uncopied := UncopiedCapture[str]())
    run = _capture(activations, model, inputs, members, hooks, edits, heads, keep_run)
    if uncopied.overwritten():
        activations = Capture(lambda x: x.clone(memory_format=torch.contiguous_format))
        run = _capture(activations, model, inputs, members, hooks, edits, heads, keep_run)
    if heads is not None:
        for name, x in activations.items():
            if edits is not None or not is_pattern(split_step(name)[0]):
                activations[name] = torch.stack([of_heads(name, row, heads, model.n_heads) for row in x])
    return activations, run


def _capture(
    activations: Capture[str],
    model: ResumableModel,
    inputs: Sequence[Tensor],
    members: Sequence[int],
    hooks: Iterable[str],
    edits: RunEdits | None,
    heads: Sequence[int] | None,
    keep_run: bool,
) -> Any:
    """Fill in the activations; of patterns, where nothing is edited, those of some heads."""
    runs = [] if edits is None else [edits.edited_run(i) for i in members]
    observed: dict[int, dict[str, Observer]] = {}
    for name in hooks:
        hook, step = split_step(name)
        observed.setdefault(step or 0, {})[hook] = activations.observer(name)
    taps, _ = full_forward_taps(model, runs, observed)
    if heads is not None and edits is None:  # of patterns only these are computed
        taps = {
            step: {hook: PartialTap(tap, tuple(heads)) if is_pattern(hook) else tap for hook, tap in of_step.items()}
            for step, of_step in taps.items()
        }
    with naming_edits(runs, model.n_layers):
        batch = torch.stack([inputs[i] for i in members])
        return model.base_run(batch, taps) if keep_run or model.n_steps == 1 else model.full_forward(batch, taps)
