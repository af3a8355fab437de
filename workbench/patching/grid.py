"""The grid of a sweep: its axes, their labels, and the cell of each edit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from workbench.arguments import indices, refusal
from workbench.core import SITES, check_kind_of_site
from workbench.errors import UsageError
from workbench.inputs.paired import PairedInputs
from workbench.models.resumable import ResumableModel
from workbench.models.steps import resolve_steps
from workbench.patching.settings import SweepSettings
from workbench.patching.sites import check_vector, has_heads, has_kv_heads
from workbench.patching.sweep_batch import Cell


def check_axes(settings: SweepSettings) -> None:
    """Refuse axes and edits that the site does not have."""
    site = settings.site
    if "head" in settings.by and not has_heads(site) and (site in SITES or "hook_" in site):
        raise refusal("by", "head", "'layer' or 'position'", because=f"site {site!r} has no heads")
    check_kind_of_site(settings.edit, site, "edit")
    if settings.vector is not None:
        check_vector("vector", settings.vector, site, "head" in settings.by)


def cells_of(
    resumable: ResumableModel, inputs: PairedInputs, settings: SweepSettings
) -> tuple[list[Cell], dict[str, tuple[str, ...]]]:
    """One cell for each edit, and the labels along each axis."""
    site, axes = settings.site, settings.by
    is_kv = has_kv_heads(site)
    n_heads = resumable.n_kv_heads if is_kv else resumable.n_heads
    layers = _indices("layers", settings.layers, resumable.n_layers, "layer")
    heads: Sequence[int | None] = [None]
    if "head" in axes:
        heads = _indices("heads", settings.heads, n_heads, "KV head" if is_kv else "head")
    elif settings.heads is not None:
        raise refusal("heads", settings.heads, "None", "Sweep with by='head'.", because="this sweep has no head axis")
    positions: Sequence[int | str | None] = [None]
    if "position" in axes:
        positions = list(named_positions(inputs, settings.positions))
        for i, position in enumerate(positions):
            if position in positions[:i]:
                raise refusal("positions", settings.positions, f"each position once, and {position!r} is repeated")
    for layer in layers:
        resumable.hook_name(site, layer)
    selected = resolve_steps("steps", settings.steps, resumable.n_steps)
    if "step" in axes and resumable.n_steps == 1:
        raise refusal("by", "step", "'layer', 'head' or 'position'", because="this model runs its layers once")
    steps = [(step,) for step in selected] if "step" in axes else [selected]
    labels: dict[str, tuple[str, ...]] = {"step": tuple(map(str, selected))} if "step" in axes else {}
    labels["layer"] = tuple(map(str, layers))
    if "head" in axes:
        labels["kv_head" if is_kv else "head"] = tuple(map(str, heads))
    if "position" in axes:
        labels["position"] = tuple(map(str, positions))
    cells = []
    for (s, of_cell), (i, layer), (j, head), (k, position) in product(
        enumerate(steps), enumerate(layers), enumerate(heads), enumerate(positions)
    ):
        index = [s] * ("step" in axes) + [i] + [j] * ("head" in axes) + [k] * ("position" in axes)
        depths = tuple(step * resumable.n_layers + layer for step in of_cell)
        cells.append(Cell(tuple(index), depths, head, position))
    return cells, labels


def named_positions(inputs: PairedInputs, positions: Any) -> Sequence[int | str]:
    """The position axis: `positions`, the named positions that all inputs share, or every index."""
    if positions is not None and positions != "all":
        return [positions] if isinstance(positions, str | int) else list(positions)
    shared: set[str] = set.intersection(*(set(named) for named in inputs.positions)) if len(inputs) else set()
    if positions is None and shared - {"end"}:
        return sorted(shared, key=inputs.positions[0].__getitem__)
    lengths = sorted({len(ids) for ids in inputs.clean})
    if len(lengths) > 1:
        raise UsageError(
            f"These inputs have {', '.join(map(str, lengths))} positions and no shared named positions, so a position "
            "axis has no meaning. Give positions=[...] by name, or inputs of one length."
        )
    return range(lengths[0])


def _indices(name: str, value: Any, size: int, what: str) -> tuple[int, ...]:
    return tuple(range(size)) if value is None else indices(name, value, size, what)
