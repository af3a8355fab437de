"""How a sweep's arrays and labels must fit together; the messages show the pattern and the shape that clashed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.errors import UsageError

if TYPE_CHECKING:
    from workbench.results.sweep import Sweep

#: Named sets of edits are an axis of their own; sampling steps come next (diffusion models only).
AXES = ("set", "step", "layer", "head", "kv_head", "position")


def head_name(at: Mapping[str, str]) -> str:
    """``9.6``, ``9.kv1``, or nothing when the labels name no head of a layer."""
    if "layer" in at and "head" in at:
        return f"{at['layer']}.{at['head']}"
    if "layer" in at and "kv_head" in at:
        return f"{at['layer']}.kv{at['kv_head'].removeprefix('kv')}"
    return ""


def check_shapes(sweep: Sweep) -> None:
    """Axes in order, values with one axis more, base and source with one entry for each example."""
    axes, pattern = sweep.axes, " ".join([*sweep.axes, "example"])
    if list(axes) != [a for a in AXES if a in axes] or {"head", "kv_head"} <= set(axes):
        raise UsageError(f"Sweep: axes {axes} must be a selection of {AXES} in this order, with one kind of head.")
    if sweep.values.ndim != len(axes) + 1:
        raise UsageError(
            f"Sweep: values of shape {sweep.values.shape} do not fit the pattern '{pattern}' ({len(axes) + 1} axes)."
        )
    for name in ("base", "source"):
        array = getattr(sweep, name)
        if array is not None and array.shape != sweep.values.shape[-1:]:
            raise UsageError(
                f"Sweep: {name} of shape {array.shape} does not fit 'example' = {sweep.values.shape[-1:]}, "
                f"from values '{pattern}' of shape {sweep.values.shape}."
            )
    if 0 in sweep.values.shape:
        raise UsageError(
            f"Sweep: values '{pattern}' of shape {sweep.values.shape} are empty: give an example and a cell."
        )


def check_labels(sweep: Sweep, unused: Mapping[str, Any]) -> None:
    """As many different labels as cells along each axis, numbers for layers and heads; `unused` must be empty."""
    if unused:
        raise UsageError(f"Sweep: labels for {tuple(unused)}, but the axes are {sweep.axes}.")
    for axis, size in zip(sweep.axes, sweep.values.shape, strict=False):
        names = sweep.labels[axis]
        if len(names) != size or len(set(names)) != size:
            raise UsageError(f"Sweep: axis '{axis}' of size {size} needs as many different labels, got {names}.")
        if axis not in ("set", "position") and not all(name.removeprefix("kv").isdecimal() for name in names):
            raise UsageError(f"Sweep: labels of axis '{axis}' must be numbers, got {names}.")
