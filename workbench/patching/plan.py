"""What a sweep is going to do: its arguments, checked and put together, for whoever computes or estimates it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from workbench.cache import Store
from workbench.errors import UnknownName, UsageError
from workbench.inputs.paired import Group, PairedInputs
from workbench.models.resumable import ResumableModel
from workbench.patching.grid import axes_of, cells_of
from workbench.patching.metric import Metric, check_metric
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import model_identity, resolve_inputs, resolve_model, result_info
from workbench.patching.result_cache import hash_inputs
from workbench.patching.sweep_batch import Cell, SweepBatch
from workbench.patching.values import Values, values_of
from workbench.results.sweep import Sweep


@dataclass(frozen=True, eq=False)
class Plan:
    """A sweep's arguments, checked; see `workbench.patching.sweep.sweep` for what they mean.

    Attributes:
        cells: the edits that are made; `labels` are those of the whole grid.
        positions: as given.
        named: whether edit and metric are given by name, so that results can be kept.
    """

    model: Any
    resumable: ResumableModel
    inputs: PairedInputs
    site: str
    edit: Any
    denoise: bool
    metric: Metric
    cells: Sequence[Cell]
    labels: Mapping[str, tuple[str, ...]]
    positions: Any
    attend_to: Any
    mean_over: PairedInputs | str | None
    seed: int
    memory_gb: float
    named: bool

    @classmethod
    def of(
        cls,
        model: Any,
        task: Any,
        *,
        site: str,
        by: str | Sequence[str],
        edit: Any,
        direction: str | None,
        metric: Any,
        layers: Sequence[int] | int | None,
        heads: Sequence[int] | int | None,
        positions: Sequence[int | str] | str | None,
        attend_to: Any,
        mean_over: Any,
        where: np.ndarray | None,
        seed: int,
        memory_gb: float,
    ) -> Plan:
        """Check the arguments of a sweep.

        Raises:
            UnknownName, UsageError: as `sweep` does.
        """
        resumable, inputs = resolve_model(model), resolve_inputs(task, model)
        resumable.hook_name(site, 0)  # an unknown site is said to be that, before anything is said of its axes
        axes = axes_of(by, site, edit)
        if direction not in ("denoise", "noise", None):
            raise UnknownName("direction", direction, ("denoise", "noise"))
        if direction == "denoise" and edit != "patch":
            raise UsageError("direction='denoise' inserts clean values, so it belongs to edit='patch': leave it out.")
        if isinstance(mean_over, str) and mean_over != "positions":
            raise UsageError(f"mean_over={mean_over!r}: give inputs whose activations are averaged, or 'positions'.")
        if isinstance(positions, list | tuple) and not positions:
            raise UsageError("positions is empty, so nothing would be edited: leave it out for every position.")
        cells, labels = cells_of(resumable, inputs, site, axes, layers, heads, positions)
        return cls(
            model=model,
            resumable=resumable,
            inputs=inputs,
            site=site,
            edit=edit,
            denoise=(direction or ("denoise" if edit == "patch" else "noise")) == "denoise",
            metric=check_metric(metric, inputs),
            cells=_selected(cells, labels, where),
            labels=labels,
            positions=positions,
            attend_to=attend_to,
            mean_over=mean_over if mean_over is None or mean_over == "positions" else resolve_inputs(mean_over, model),
            seed=seed,
            memory_gb=memory_gb,
            named=isinstance(edit, str) and isinstance(metric, str),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole grid."""
        return tuple(map(len, self.labels.values()))

    @property
    def shared_positions(self) -> Any:
        """The positions of cells that have none of their own; None for all of them."""
        return None if "position" in self.labels else self.positions

    @cached_property
    def depths(self) -> list[int]:
        """ValuesByDepth that are edited."""
        return sorted({cell.depth for cell in self.cells})

    def identity(self, store: Store | None) -> bytes | None:
        """The model's identity for the keys of what is kept; None where nothing can be kept."""
        return model_identity(self.resumable, store) if self.named else None

    def asked(self) -> tuple[Any, ...]:
        """What sets the values of a batch besides the model and its own prompts, for its key."""
        cells = [(cell.depth, cell.head, cell.place) for cell in self.cells]
        asked = (self.site, cells, self.edit, self.denoise, self.metric.name, self.shared_positions, self.memory_gb)
        return (*asked, *self._others())

    def _others(self) -> tuple[Any, ...]:
        if self.edit == "mean":
            mean_over = self.inputs if self.mean_over is None else self.mean_over
            return ("over", mean_over if isinstance(mean_over, str) else hash_inputs(mean_over))
        if self.edit == "resample":
            return ("among", self.seed, hash_inputs(self.inputs))
        to = self.attend_to
        return ("to", sorted(to.items(), key=str) if isinstance(to, Mapping) else to)

    def values(self, store: Store | None = None) -> Values:
        """The values to insert, where they are not those of the other run of a pair."""
        recorder = Recorder(self.resumable, store, self.identity(store))
        return values_of(
            self.edit,
            recorder,
            self.inputs,
            self.site,
            self.depths,
            attend_to=self.attend_to,
            mean_over=self.mean_over,
            seed=self.seed,
        )

    @property
    def base_ids(self) -> Sequence[Tensor]:
        """The runs that are edited."""
        return self.inputs.corrupt if self.denoise else self.inputs.clean

    @property
    def source_ids(self) -> Sequence[Tensor]:
        """The runs that the values of a patch come from."""
        return self.inputs.clean if self.denoise else self.inputs.corrupt

    def batch(self, group: Group) -> SweepBatch:
        """The base runs of a batch."""
        return SweepBatch(
            self.resumable, self.inputs, group, self.base_ids, self.metric, self.site, self.depths, self.memory_gb
        )

    def sweep(self, rows: np.ndarray, **info: Any) -> Sweep:
        """The result.

        Args:
            rows: for each example its base metric, its source metric, and the metric after each cell's edit; cells that
                are left out are blank.
        """
        result = np.full((*self.shape, len(rows)), np.nan)
        for cell, each in zip(self.cells, rows[:, 2:].T, strict=True):
            result[cell.index] = each
        positions = self.positions
        about = {
            "site": self.site,
            "by": [axis.removeprefix("kv_") for axis in self.labels if axis != "step"],
            "edit": self.edit if isinstance(self.edit, str) else getattr(self.edit, "__name__", "function"),
            "direction": "denoise" if self.denoise else "noise",
            "metric": self.metric.name,
            "units": self.metric.units,
            "positions": list(positions) if isinstance(positions, list | tuple) else positions,
            "memory_gb": self.memory_gb,
        }
        return Sweep(
            values=result,
            base=rows[:, 0],
            source=rows[:, 1] if self.edit == "patch" else None,
            axes=tuple(self.labels),
            labels=self.labels,
            info=result_info(self.model, self.inputs) | about | info,
        )


def _selected(cells: list[Cell], labels: Mapping[str, tuple[str, ...]], where: np.ndarray | None) -> list[Cell]:
    if where is None:
        return cells
    where = np.asarray(where)
    shape = tuple(map(len, labels.values()))
    if where.dtype != bool or where.shape != shape:
        grid = " × ".join(f"{size} {axis}" for axis, size in zip(labels, shape, strict=True))
        raise UsageError(
            f"where is an array of {where.dtype} of shape {where.shape}: expected bool of shape {shape} ({grid})."
        )
    if not where.any():
        raise UsageError("where selects no cell.")
    return [cell for cell in cells if where[cell.index]]
