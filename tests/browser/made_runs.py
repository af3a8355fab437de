"""Run directories for the pages: the default model's committed results, without figures, and quick runs of the bundled
model, which are newer and have figures."""

from __future__ import annotations

import json
from pathlib import Path

import workbench as wb
from workbench import registry
from workbench.io.tables import read_csv
from workbench.models.catalog import DEFAULT
from workbench.registry import FINDINGS
from workbench.runs.directory import RunDirectory

RESULTS = registry.ROOT / "docs" / "results" / DEFAULT
#: Findings that take a second or two on the bundled model.
QUICK = ("ioi-circuit",)


def make_runs(root: Path) -> None:
    """Make them under `root`."""
    for result in sorted(RESULTS.iterdir()):
        _restore(result, root)
    for name in QUICK:
        finding, model = FINDINGS[name], wb.load("tiny")
        settings = finding.settings({"n": 6})
        with RunDirectory.create(root, name, {"model": "tiny", **settings}) as run:
            run.record(model=model.provenance)
            run.add_report(finding.report(model, settings))


def _restore(result: Path, root: Path) -> None:
    """A committed result as a run directory; its interactive figures are not committed."""
    facts = json.loads((result / "run.json").read_text())
    with RunDirectory.create(root, result.name, facts["config"]) as run:
        run.record(verdict=facts["verdict"], model=facts["model"])
        run.summary = (result / "summary.txt").read_text()
        for table in sorted(result.glob("tables/*.csv")):
            run.add_table(table.stem, read_csv(table))
