"""Every finding of ``circuits/findings`` passes `wb.testing.check_finding`, each in a test of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import workbench as wb
from circuits.findings import circuit_repair
from workbench.findings import Quantity, Report, Study, Threshold, judge, summary_table
from workbench.plotting.charts import Chart, Heatmap, Scatter
from workbench.registry import FINDINGS
from workbench.testing import check_finding

#: What makes a finding quick enough for a test: as few prompts as its statistics bear.
QUICK = {"n": 6}


@pytest.mark.parametrize("name", FINDINGS.names())
def test_a_finding_is_complete(name: str) -> None:
    check_finding(name)


def run_of_nothing(study: Study, value: float = 1.0, **charts: Chart) -> Report:
    """A run that measures nothing and reports it in full."""
    gain = Quantity(value, 0.5, 1.5)
    tables = {"summary": summary_table({"gain": gain}, 6)}
    return study.report(judge(study.finding.thresholds, gain=gain), [], tables=tables, charts=charts)


COMPLETE = wb.Finding(
    name="invented",
    title="Made up",
    question="Is it complete?",
    claim="It is.",
    thresholds={"gain": Threshold("gain", above=0)},
    run=run_of_nothing,
    defaults={"n": 25, "seed": 0},
    source="none: a test",
)


def test_a_finding_of_a_few_lines_is_complete() -> None:
    check_finding(COMPLETE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"defaults": {"n": 25}}, "defaults has no 'seed'"),
        ({"question": "Is it"}, "Write one that ends in '\\?'"),
        ({"thresholds": {}}, "thresholds is empty"),
        ({"thresholds": {"gain": 0.5}}, "Write Threshold"),
        ({"full": {"m": 3}}, "Add each setting to defaults"),
        ({"run": lambda study: Report("supported", "", {})}, "does not say 'n = 6'"),
        ({"run": lambda study: Report("supported", "n = 6", {})}, "writes the verdict"),
        ({"run": lambda study: Report("supported", "n = 6", {})}, "no table 'summary'"),
    ],
)
def test_what_a_finding_lacks_is_said_to_its_author(changes: dict, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_finding(replace(COMPLETE, **changes))


def test_a_finding_that_draws_unseeded_numbers_is_found() -> None:
    def draws(study: Study) -> Report:
        return run_of_nothing(study, np.random.default_rng().normal())

    with pytest.raises(AssertionError, match=r"other numbers in summary.value. Draw from study.seed, and nothing else"):
        check_finding(replace(COMPLETE, run=draws))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"title": ""}, "the figure 'gain' has no title"),
        ({"x_title": ""}, "the figure 'gain' has no title at its x axis"),
        ({"y_title": ""}, "the figure 'gain' has no title at its y axis"),
    ],
)
def test_a_chart_without_its_words_is_found(words: dict[str, Any], message: str) -> None:
    titles: dict[str, Any] = {"title": "Gain · tiny · n = 6", "x_title": "copy score", "y_title": "gain (logits)"}
    chart = Scatter(np.arange(4.0), np.arange(4.0), list("abcd"), **(titles | words))
    with pytest.raises(AssertionError, match=message):
        check_finding(replace(COMPLETE, run=lambda study: run_of_nothing(study, gain=chart)))


def test_the_colours_of_a_heatmap_need_their_quantity() -> None:
    chart = Heatmap(np.zeros((2, 2)), ["a", "b"], ["c", "d"], title="Gain · tiny · n = 6")
    with pytest.raises(AssertionError, match="the figure 'gain' does not say what its colours are"):
        check_finding(replace(COMPLETE, run=lambda study: run_of_nothing(study, gain=chart)))


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
    finding, model = FINDINGS[name], wb.load("tiny")
    # The bundled model has neither inhibition heads nor negative movers.
    monkeypatch.setattr(circuit_repair.repair, "repairing", lambda stages, percent: {wb.Head(1, 0): "inhibition"})
    monkeypatch.setitem(model.provenance, "name", f"openai-community/{published}")
    report = finding.report(model, QUICK)
    assert report.verdict != "not judged"
    assert len(report.tables[table]) and "arXiv" in report.summary
