"""The plan of a sweep: its settings, resolved on one model and its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from workbench.arguments import refusal
from workbench.cache import Store
from workbench.cache.keys import hash_inputs
from workbench.cache.result_cache import ResultCache
from workbench.inputs.paired import Group, PairedInputs
from workbench.models.resumable import ResumableModel
from workbench.models.steps import steps_info
from workbench.patching.batches import BATCH_SIZE
from workbench.patching.cone import is_pattern
from workbench.patching.grid import cells_of, check_axes
from workbench.patching.measure import Measurement
from workbench.patching.metric import Metric, metric_for
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import (
    NO_OTHER_RUN,
    how_to_pair,
    model_identity,
    resolve_inputs,
    resolve_mean_over,
    resolve_model,
    resolve_proven,
    result_info,
)
from workbench.patching.settings import SweepSettings
from workbench.patching.sweep_batch import Cell, SweepBatch
from workbench.patching.values import Values, values_of
from workbench.results.sweep import Sweep


@dataclass(frozen=True, eq=False)
class Plan:
    """A sweep, resolved; see `workbench.patching.sweep.sweep` for what the settings mean.

    Attributes:
        model: the user's; `resumable` is what the engine runs.
        cells: the edits to run; `labels` are those of the full grid.
    """

    model: Any
    resumable: ResumableModel
    inputs: PairedInputs
    settings: SweepSettings
    metric: Metric
    cells: Sequence[Cell]
    labels: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, model: Any, task: Any, settings: SweepSettings, store: Store | None) -> Plan:
        """Resolve the settings of a sweep, and prove that runs of these inputs resume (`resolve_proven`).

        Raises:
            UnknownName, UsageError: as `sweep` does.
        """
        resumable, inputs = resolve_model(model), resolve_inputs(task, model)
        resumable.hook_name(settings.site, 0)  # an unknown site is reported before its axes are
        check_axes(settings)
        settings = replace(settings, mean_over=resolve_mean_over(settings.mean_over, model))
        cells, labels = cells_of(resumable, inputs, settings)
        selected = _selected(cells, labels, settings.where)
        metric = metric_for(settings.metric, inputs, model)
        settings = replace(settings, metric=metric.name if settings.metric is None else settings.metric)
        if settings.edit == "patch" and inputs.corrupt is inputs.clean:
            why = f"a patch takes its values from the other run of a pair, and {NO_OTHER_RUN}"
            raise refusal("edit", "patch", "another edit", how_to_pair(model), because=why)
        resumable = resolve_proven(model, inputs, store, patterns=is_pattern(settings.site))
        return cls(model, resumable, inputs, settings, metric, selected, labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the full grid."""
        return tuple(map(len, self.labels.values()))

    @property
    def shared_positions(self) -> Any:
        """The positions of cells that have none of their own; None for all of them."""
        return None if "position" in self.labels else self.settings.positions

    @cached_property
    def depths(self) -> list[int]:
        """Depths that are edited."""
        return sorted({depth for cell in self.cells for depth in cell.depths})

    def identity(self, store: Store | None) -> bytes | None:
        """The model's identity for cache keys; None where nothing can be cached."""
        return model_identity(self.resumable, store) if self.settings.is_cacheable else None

    def results(self, store: Store | None) -> ResultCache:
        """The cache of the sweep's batches. Besides the settings, the key holds the cells, which depend on all inputs,
        and all inputs where the values depend on all of them."""
        identity = self.identity(store)
        if identity is None:
            return ResultCache(None, None)
        depths = [cell.depths[0] if len(cell.depths) == 1 else cell.depths for cell in self.cells]
        cells = [(depth, cell.head, cell.position) for depth, cell in zip(depths, self.cells, strict=True)]
        inputs_hash = hash_inputs(self.inputs) if self.settings.edit in ("mean", "resample") else b""
        return ResultCache(store, identity, BATCH_SIZE, "sweep", cells, self.settings.cache_key(), inputs_hash)

    def values(self, store: Store | None = None) -> Values:
        """The values to insert, where they are not those of the other run of a pair."""
        settings = self.settings
        return values_of(
            settings.edit,
            Recorder(self.resumable, store, self.identity(store)),
            self.inputs,
            settings.site,
            self.depths,
            attend_to=settings.attend_to,
            factor=settings.factor,
            vector=settings.vector,
            u=settings.u,
            mean_over=settings.mean_over,
            seed=settings.seed,
        )

    @property
    def base_ids(self) -> Sequence[Tensor]:
        """The runs that are edited."""
        return self.inputs.corrupt if self.settings.direction == "denoise" else self.inputs.clean

    @property
    def source_ids(self) -> Sequence[Tensor]:
        """The runs that the values of a patch come from."""
        return self.inputs.clean if self.settings.direction == "denoise" else self.inputs.corrupt

    def batch(self, group: Group) -> SweepBatch:
        """The base runs of a batch."""
        settings = self.settings
        return SweepBatch(
            self.resumable,
            self.inputs,
            group,
            self.base_ids,
            self.metric,
            settings.site,
            self.depths,
            settings.memory_gb,
        )

    def sweep(self, measurement: Measurement, **info: Any) -> Sweep:
        """The result; cells that were left out are blank."""
        values = np.full((*self.shape, len(measurement.base)), np.nan)
        for cell, edited in zip(self.cells, measurement.edited.T, strict=True):
            values[cell.index] = edited
        by = [axis.removeprefix("kv_") for axis in self.labels]
        metric = {"metric": self.metric.name, "units": self.metric.units}
        info |= steps_info(self.resumable, self.settings.steps)
        return Sweep(
            values=values,
            base=measurement.base,
            source=measurement.source if self.settings.edit == "patch" else None,
            axes=tuple(self.labels),
            labels=self.labels,
            info=result_info(self.model, self.inputs) | {"by": by} | self.settings.as_info() | metric | info,
        )


def _selected(cells: list[Cell], labels: Mapping[str, tuple[str, ...]], where: Any) -> list[Cell]:
    if where is None:
        return cells
    mask, shape = np.asarray(where), tuple(map(len, labels.values()))
    if mask.dtype != bool or mask.shape != shape:
        grid = " × ".join(f"{size} {axis}" for axis, size in zip(labels, shape, strict=True))
        raise refusal("where", where, f"a bool array of shape {shape} ({grid})")
    if not mask.any():
        raise refusal("where", where, "at least one True cell")
    return [cell for cell in cells if mask[cell.index]]
