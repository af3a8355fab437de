"""Valid calls of tasks, findings, runs, circuits and notes, and the odd values that they take."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure as Picture
from plotly.graph_objects import Figure

import workbench as wb
from tests.conformance.arguments.language import PAIR, model, saved, task
from tests.conformance.arguments.odd_values import ANY_TEXT, FUNCTIONS, MAPPINGS, ONE_TEXT, TEXTS
from workbench.runs.directory import RunDirectory


@cache
def run_folder() -> Path:
    """A finished run."""
    folder = Path(tempfile.mkdtemp())
    with RunDirectory.create(folder, "ioi-circuit", {"model": "tiny"}) as run:
        run.add_report(
            wb.Report(
                "undecided", "n = 2", {"heads": pd.DataFrame([HEAD_ROW])}, {"plot": Figure()}, {"plot": Picture()}
            )
        )
    assert run.path is not None
    return run.path


HEAD_ROW = {"task": "ioi", "stage": "logits", "layer": 0, "index": 1, "head": "0.1", "role": "mover"}

CIRCUIT = wb.Circuit("ioi", "tiny", ((wb.Head(0, 1), "mover"),))


def draw(rng: random.Random) -> wb.Pair:
    """A task's."""
    return PAIR


def returns_report(*_: object) -> wb.Report:
    """A finding's run."""
    return wb.Report("undecided", "n = 6")


def noted() -> wb.Notes:
    notes = wb.notes(model(), folder="notes")
    notes.write("0.1", "A mover.")
    return notes


#: What a parameter of one call takes besides.
TAKES: dict[str, set[str]] = {
    "Circuit.edges": {"[]"},
    "Circuit.provenance": MAPPINGS,
    "Circuit.heads": {"[]"},
    "Circuit.model": ANY_TEXT,
    "Circuit.name": ANY_TEXT,
    "Circuit.from_json.what": ANY_TEXT,
    "Circuit.from_run.task": {"None"},
    "Finding.claim": ANY_TEXT,
    "Finding.defaults": MAPPINGS,
    "Finding.files": {"[]", "[word]"},
    "Finding.full": MAPPINGS,
    "Finding.name": TEXTS,
    "Finding.needs_model": {"True"},
    "Finding.question": ANY_TEXT,
    "Finding.results_version": {"huge"},
    "Finding.run": FUNCTIONS,
    "Finding.source": ANY_TEXT,
    "Finding.tasks": {"[]", "[word]"},
    "Finding.thresholds": MAPPINGS,
    "Finding.title": ANY_TEXT,
    "Finding.report.model": {"None"},  # a finding of no model is for tests
    "Finding.report.settings": {"None", "{}"},
    "Finding.settings.changes": {"{}"},
    "Notes.merge.other_weights": {"True"},
    **{f"Notes.{name}.address": {"''"} for name in ("save", "table", "to_bytes")},
    "Notes.tag.link": {"''", "None"},
    "Notes.tag.tags": ONE_TEXT,
    "Notes.untag.tags": ONE_TEXT,
    "Notes.write.link": {"''", "None"},
    "Notes.write.seen": {"None"},
    "Notes.write.text": {"''", "word"},
    "Report.facts": MAPPINGS,
    "Report.figures": MAPPINGS,
    "Report.pictures": MAPPINGS,
    "Report.reason": ANY_TEXT,
    "Report.summary": ANY_TEXT,
    "Report.tables": MAPPINGS,
    "Task.draw": FUNCTIONS,
    "Task.name": TEXTS,
    "Task.positions": ONE_TEXT,
    "Task.question": ANY_TEXT,
    "Task.relation": ANY_TEXT,
    "Task.settings": {"{}"},
    "Task.stages": {"{}"},
    "Task.title": ANY_TEXT,
    "Task.variants": {"{}"},
    "notes.folder": {"None", "word"},
}

#: An object of each class, whose methods are called.
INSTANCES: dict[str, Callable[[], Any]] = {
    "Circuit": lambda: CIRCUIT,
    "Finding": lambda: wb.Finding("a", "A", "A?", "A.", {}, returns_report, {"n": 6, "seed": 0}),
    "Notes": lambda: noted(),
    "Report": lambda: wb.Report("undecided", "n = 2"),
    "Run": lambda: wb.Run.read(run_folder()),
    "Task": task,
}

#: Call, or call and the parameter that varies → further arguments with which it runs.
VALID_IN: dict[str, Callable[[], dict[str, Any]]] = {
    "Circuit": lambda: {"name": "ioi", "model": "tiny", "heads": ((wb.Head(0, 1), "mover"),)},
    "Circuit.all_from_run": lambda: {"path": run_folder()},
    "Circuit.from_run": lambda: {"path": run_folder()},
    "Circuit.from_json": lambda: {"data": CIRCUIT.json()},
    "Circuit.load": lambda: {"path": saved(CIRCUIT, "circuit.json")},
    "Circuit.save": lambda: {"path": "circuit.json"},
    "Finding": lambda: {
        **{"name": "a", "title": "A", "question": "A?", "claim": "A."},
        **{"thresholds": {}, "run": returns_report, "defaults": {"n": 6}},
    },
    "Finding.settings": lambda: {"changes": {"n": 6}},
    "Notes.merge": lambda: {"path": saved(noted(), "notes.json")},
    "Notes.remove": lambda: {"head": "0.1"},
    "Notes.save": lambda: {"path": "notes.json"},
    "Notes.tag": lambda: {"head": "0.1", "tags": ["mover"]},
    "Notes.untag": lambda: {"head": "0.1", "tags": ["mover"]},
    "Notes.write": lambda: {"head": "0.1", "text": "A mover."},
    "Report": lambda: {"verdict": "undecided", "summary": "n = 2"},
    "Run.read": lambda: {"path": run_folder()},
    "Run.read_header": lambda: {"path": run_folder()},
    "Run.data": lambda: {"name": "run.json"},
    "Run.table": lambda: {"name": "heads"},
    "Run.figure": lambda: {"name": "plot"},
    "Run.picture": lambda: {"name": "plot"},
    "Run.export": lambda: {"target": "run.zip"},
    "Task": lambda: {"name": "a", "title": "A", "question": "A?", "draw": draw},
}
