"""The grid of a sweep: its axes, their labels, and the cell of each edit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from workbench.core import EDIT_KINDS, SITES
from workbench.errors import UnknownName, UsageError
from workbench.inputs.paired import PairedInputs
from workbench.models.resumable import ResumableModel
from workbench.patching.sites import has_heads, has_kv_heads
from workbench.patching.sweep_batch import Cell

AXES = ("layer", "head", "position")


def axes_of(by: str | Sequence[str], site: str, edit: object) -> tuple[str, ...]:
    asked = {by} if isinstance(by, str) else set(by)
    if unknown := asked - set(AXES):
        raise UnknownName("axis", min(unknown), AXES)
    if "head" in asked and not has_heads(site) and (site in SITES or "hook_" in site):
        raise UsageError(f"Site {site!r} has no heads: use by='layer' or by='position'.")
    if isinstance(edit, str) and edit not in EDIT_KINDS:
        raise UnknownName("edit", edit, EDIT_KINDS)
    if edit == "pattern" and site != "pattern":
        raise UsageError(f"edit='pattern' needs site='pattern', not {site!r}.")
    return tuple(axis for axis in AXES if axis in asked | {"layer"})


def cells_of(
    resumable: ResumableModel,
    inputs: PairedInputs,
    site: str,
    axes: tuple[str, ...],
    layers: Sequence[int] | int | None,
    heads: Sequence[int] | int | None,
    positions: Sequence[int | str] | str | None,
) -> tuple[list[Cell], dict[str, tuple[str, ...]]]:
    kv = has_kv_heads(site)
    n_heads = resumable.n_kv_heads if kv else resumable.n_heads
    chosen_layers = range(resumable.n_layers) if layers is None else _within(layers, resumable.n_layers, "layer")
    chosen_heads: list[int | None] = [None]
    if "head" in axes:
        chosen_heads = list(range(n_heads) if heads is None else _within(heads, n_heads, "KV head" if kv else "head"))
    chosen_places: list[int | str | None] = [None]
    if "position" in axes:
        chosen_places = list(named_positions(inputs, positions))
    for what, given in (("layers", chosen_layers), ("heads", chosen_heads), ("positions", chosen_places)):
        if len(set(given)) < len(given):
            raise UsageError(f"{what} names one twice: {', '.join(map(str, given))}.")
    for layer in chosen_layers:
        resumable.hook_name(site, layer)
    steps = range(resumable.n_steps)
    labels: dict[str, tuple[str, ...]] = {"step": tuple(map(str, steps))} if len(steps) > 1 else {}
    labels["layer"] = tuple(map(str, chosen_layers))
    if "head" in axes:
        labels["kv_head" if kv else "head"] = tuple(map(str, chosen_heads))
    if "position" in axes:
        labels["position"] = tuple(map(str, chosen_places))
    cells = []
    for (s, step), (i, layer), (j, head), (k, place) in product(
        enumerate(steps), enumerate(chosen_layers), enumerate(chosen_heads), enumerate(chosen_places)
    ):
        index = [i] if len(steps) == 1 else [s, i]
        index += [j] * ("head" in axes) + [k] * ("position" in axes)
        cells.append(Cell(tuple(index), step * resumable.n_layers + layer, head, place))
    return cells, labels


def named_positions(inputs: PairedInputs, asked: Sequence[int | str] | str | None) -> Sequence[int | str]:
    """The position axis: what was asked for, the named positions all prompts share, or every index."""
    if asked is not None and asked != "all":
        return [asked] if isinstance(asked, str) else list(asked)
    shared: set[str] = set.intersection(*(set(named) for named in inputs.positions)) if len(inputs) else set()
    if asked is None and shared - {"end"}:
        return sorted(shared, key=inputs.positions[0].__getitem__)
    lengths = sorted({len(ids) for ids in inputs.clean})
    if len(lengths) > 1:
        raise UsageError(
            f"These prompts have {', '.join(map(str, lengths))} tokens and no shared named positions, so a position "
            "axis has no meaning: give positions=[...] by name, or prompts of one length."
        )
    return range(lengths[0])


def _within(chosen: Sequence[int] | int, size: int, what: str) -> list[int]:
    chosen = [chosen] if isinstance(chosen, int) else chosen
    for index in chosen:
        if not 0 <= index < size:
            raise UsageError(f"{what} {index} does not exist: the model has {what}s 0 to {size - 1}.")
    return list(chosen)
