"""Every finding of ``circuits/findings`` states what it asks and by what it judges, and runs on the bundled model."""

from __future__ import annotations

from pathlib import Path

import pytest

import workbench as wb
from circuits.findings import circuit_repair
from workbench.findings import VERDICTS, Finding, Quiet
from workbench.registry import FINDINGS
from workbench.runs.directory import RunDirectory, RunProgress
from workbench.runs.run import Run

NAMES = FINDINGS.names()
#: What makes a finding quick enough for a test: as few prompts as its statistics bear.
QUICK = {"n": 6}


def _finding(name: str) -> Finding:
    return FINDINGS[name]


@pytest.mark.parametrize("name", NAMES)
def test_it_states_question_claim_and_thresholds(name: str) -> None:
    finding = _finding(name)
    assert finding.name == name
    assert finding.title and finding.question.endswith("?") and finding.claim.endswith(".") and finding.source
    assert finding.thresholds and all(finding.thresholds.values())
    assert set(QUICK) | {"seed"} <= set(finding.defaults)


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_on_the_bundled_model(name: str, tmp_path: Path) -> None:
    finding, model = _finding(name), wb.load("tiny")
    settings = finding.settings(QUICK)
    with RunDirectory.create(tmp_path, name, {"model": "tiny", **settings}) as run:
        report = finding.run(model, settings, RunProgress(run))
        run.record(model=model.provenance)
        run.add_report(report)
    assert run.path is not None and report.verdict in VERDICTS
    kept = Run.read(run.path)
    assert set(report.tables) <= set(kept.table_names) and set(report.figures) <= set(kept.figure_names)
    assert f"n = {QUICK['n']}" in kept.summary
    assert set(report.figures) == set(report.pictures)
    for key in report.tables:
        assert set(kept.table(key).columns) == set(report.tables[key].columns)


@pytest.mark.parametrize(
    ("name", "published", "table"),
    [
        ("circuit-reuse", "gpt2-medium", "published_heads"),
        ("ioi-circuit", "gpt2", "published_heads"),
        ("faithfulness", "gpt2", "published_values"),
        ("circuit-repair", "gpt2-medium", "published_values"),
    ],
)
def test_what_was_published_for_a_model_stands_beside_its_results(
    name: str, published: str, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding, model = _finding(name), wb.load("tiny")
    # The bundled model has neither inhibition heads nor negative movers.
    monkeypatch.setattr(circuit_repair, "repairing", lambda stages, percent: {wb.Head(1, 0): "inhibition"})
    monkeypatch.setitem(model.provenance, "name", f"openai-community/{published}")
    report = finding.run(model, finding.settings(QUICK), Quiet())
    assert "why nothing was judged" not in str(report.tables["summary"])
    assert len(report.tables[table]) and "arXiv" in report.summary
