"""Settings objects: what a sweep is called with stands in its cache key, and nowhere twice."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from tests.families import paired
from workbench.cache.keys import digest
from workbench.patching.settings import PathSettings, SetSettings, SweepArguments, SweepSettings

#: Arguments that set no number.
OTHERS = {"model", "task", "cache", "progress"}


@pytest.mark.parametrize(
    ("function", "settings", "more"),
    [
        (wb.sweep, SweepSettings, ()),
        (wb.path_patch, PathSettings, ("receivers",)),
        (wb.sweep_sets, SetSettings, ("sets",)),
    ],
)
def test_every_argument_that_sets_a_number_is_a_field(function: Any, settings: Any, more: tuple[str, ...]) -> None:
    parameters = inspect.signature(function).parameters
    assert {f.name for f in fields(settings)} == parameters.keys() - OTHERS - set(more)
    defaults = {f.name: f.default for f in fields(settings)}
    assert all(parameters[name].default == default for name, default in defaults.items())


def test_those_who_pass_arguments_on_know_them_all() -> None:
    assert SweepArguments.__annotations__.keys() == {f.name for f in fields(SweepSettings)}


CHANGES: list[dict[str, Any]] = [
    {},
    {"site": "q"},
    {"by": "position"},
    {"edit": "zero"},
    {"direction": "noise"},
    {"metric": "accuracy"},
    {"layers": [0]},
    {"heads": 1},
    {"positions": [0]},
    {"positions": ["0"]},
    {"edit": "mean", "mean_over": "positions"},
    {"edit": "mean", "mean_over": paired(2)},
    {"edit": "mean", "mean_over": paired(3)},
    {"edit": "pattern", "site": "pattern", "attend_to": {0: 1.0}},
    {"edit": "pattern", "site": "pattern", "attend_to": {"0": 1.0}},
    {"edit": "scale", "factor": 0.5},
    {"edit": "scale", "factor": 1},
    {"edit": "add", "vector": torch.ones(2)},
    {"edit": "add", "vector": torch.ones(2).double()},
    {"edit": "add", "vector": torch.ones(1, 2)},
    {"edit": "add", "vector": torch.zeros(2)},
    {"edit": "identity", "u": 0.5},
    {"edit": "identity", "u": 1},
    {"steps": 0},
    {"steps": [0, 1]},
    {"by": ["step", "head"]},
    {"where": np.ones((1, 2), bool)},
    {"where": np.ones((2, 1), bool)},
    {"seed": 1},
    {"memory_gb": 2.0},
]


def test_a_changed_argument_is_another_key() -> None:
    keys = [digest(*SweepSettings(**arguments).cache_key()) for arguments in CHANGES]
    assert len(set(keys)) == len(keys)
    assert keys == [digest(*SweepSettings(**arguments).cache_key()) for arguments in CHANGES]


def test_functions_of_ones_own_are_not_cached() -> None:
    assert SweepSettings().is_cacheable
    assert not SweepSettings(edit=lambda x: x).is_cacheable
    assert not SweepSettings(metric=lambda logits, _: logits[:, 0]).is_cacheable
