"""Attention Workbench: record, patch and compare attention heads, exactly and with error bars.

::

    import workbench as wb

    model = wb.load("smollm2-135m-instruct-q4")
    sweep = wb.sweep(model, wb.task("ioi", n=25, seed=0))
    sweep.top(5)

Importing this module imports neither torch nor transformers: each name is looked up when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Imported now because its module has the same name: imported later, the module would take the function's place.
from workbench.pairs import pairs as pairs

if TYPE_CHECKING:
    from workbench.attention_view import Attention as Attention
    from workbench.attention_view import attention as attention
    from workbench.circuit import Circuit as Circuit
    from workbench.errors import WorkbenchError as WorkbenchError
    from workbench.findings import Finding as Finding
    from workbench.findings import Report as Report
    from workbench.head_scores.compute import scores as scores
    from workbench.head_scores.on_prompts import scores_on as scores_on
    from workbench.head_scores.result import HeadScores as HeadScores
    from workbench.inputs import PairedInputs as PairedInputs
    from workbench.models import load as load
    from workbench.models.language import HookedLM as HookedLM
    from workbench.pairs import Pair as Pair
    from workbench.pairs import Pairs as Pairs
    from workbench.pairs import Task as Task
    from workbench.pairs import read_pairs as read_pairs
    from workbench.pairs import task as task
    from workbench.patching.estimate import Estimate as Estimate
    from workbench.patching.estimate import estimate as estimate
    from workbench.patching.path import path_patch as path_patch
    from workbench.patching.record import record as record
    from workbench.patching.recording import Recording as Recording
    from workbench.patching.run import Outcome as Outcome
    from workbench.patching.run import run as run
    from workbench.patching.screen import Screen as Screen
    from workbench.patching.screen import screen as screen
    from workbench.patching.sets import sweep_sets as sweep_sets
    from workbench.patching.sweep import sweep as sweep
    from workbench.results import Sweep as Sweep
    from workbench.runs.run import Run as Run
    from workbench.vocabulary import Edit as Edit
    from workbench.vocabulary import Head as Head

__version__ = "0.1.0"

#: Public name → the module that defines it.
_HOME = {
    "Attention": "workbench.attention_view",
    "Circuit": "workbench.circuit",
    "Edit": "workbench.vocabulary",
    "Estimate": "workbench.patching.estimate",
    "Finding": "workbench.findings",
    "Head": "workbench.vocabulary",
    "HeadScores": "workbench.head_scores.result",
    "HookedLM": "workbench.models.language",
    "Outcome": "workbench.patching.run",
    "Pair": "workbench.pairs",
    "PairedInputs": "workbench.inputs",
    "Pairs": "workbench.pairs",
    "Recording": "workbench.patching.recording",
    "Report": "workbench.findings",
    "Run": "workbench.runs.run",
    "Screen": "workbench.patching.screen",
    "Sweep": "workbench.results",
    "Task": "workbench.pairs",
    "WorkbenchError": "workbench.errors",
    "attention": "workbench.attention_view",
    "estimate": "workbench.patching.estimate",
    "load": "workbench.models",
    "path_patch": "workbench.patching.path",
    "read_pairs": "workbench.pairs",
    "record": "workbench.patching.record",
    "run": "workbench.patching.run",
    "scores": "workbench.head_scores.compute",
    "scores_on": "workbench.head_scores.on_prompts",
    "screen": "workbench.patching.screen",
    "sweep": "workbench.patching.sweep",
    "sweep_sets": "workbench.patching.sets",
    "task": "workbench.pairs",
}

__all__ = [
    "Attention",
    "Circuit",
    "Edit",
    "Estimate",
    "Finding",
    "Head",
    "HeadScores",
    "HookedLM",
    "Outcome",
    "Pair",
    "PairedInputs",
    "Pairs",
    "Recording",
    "Report",
    "Run",
    "Screen",
    "Sweep",
    "Task",
    "WorkbenchError",
    "__version__",
    "attention",
    "estimate",
    "load",
    "pairs",
    "path_patch",
    "read_pairs",
    "record",
    "run",
    "scores",
    "scores_on",
    "screen",
    "sweep",
    "sweep_sets",
    "task",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
