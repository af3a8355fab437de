"""How a sweep's arrays and labels must fit together; the messages show the pattern and the shape that clashed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.arguments import refusal

if TYPE_CHECKING:
    from workbench.results.sweep import Sweep

#: Named sets of edits are an axis of their own; sampling steps come next (models that run their layers several times).
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
    axes, pattern, values = sweep.axes, " ".join([*sweep.axes, "example"]), sweep.values
    if list(axes) != [a for a in AXES if a in axes] or {"head", "kv_head"} <= set(axes):
        raise refusal("axes", axes, f"a selection of {AXES} in this order, with one kind of head")
    if values.ndim != len(axes) + 1:
        raise refusal("values", values, f"the shape '{pattern}'", because=f"axes={axes}")
    for name in ("base", "source"):
        array = getattr(sweep, name)
        if array is not None and array.shape != values.shape[-1:]:
            why = f"values '{pattern}' have the shape {values.shape}"
            raise refusal(name, array, f"the shape {values.shape[-1:]}", because=why)
    if 0 in values.shape:
        raise refusal("values", values, f"at least one cell and one example of '{pattern}'")


def check_labels(sweep: Sweep, unused: Mapping[str, Any]) -> None:
    """As many different labels as cells along each axis, numbers for layers and heads; `unused` must be empty."""
    if unused:
        raise refusal("labels", dict(sweep.labels) | dict(unused), f"labels of the axes {sweep.axes}")
    for axis, size in zip(sweep.axes, sweep.values.shape, strict=False):
        names = sweep.labels[axis]
        if len(names) != size or len(set(names)) != size:
            raise refusal(f"labels[{axis!r}]", names, f"{size} different labels")
        if axis not in ("set", "position") and not all(name.removeprefix("kv").isdecimal() for name in names):
            raise refusal(f"labels[{axis!r}]", names, "numbers")
