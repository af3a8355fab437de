"""Every finding gives the tables that are stored of it: nothing that computes a number changes unnoticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests.circuits import stored_tables
from workbench.findings import Report
from workbench.registry import FINDINGS

NAMES = FINDINGS.names()
COMMAND = "python -m tests.circuits.stored_tables"


# The tiny model has so few heads that a resample of a rank correlation may have one value only.
@pytest.mark.filterwarnings("ignore:The BCa confidence interval cannot be calculated")
@pytest.mark.parametrize("name", NAMES)
def test_a_finding_gives_its_stored_tables(name: str) -> None:
    place, info = stored_tables.FOLDER / name, stored_tables.stored_info(name)
    assert place.is_dir(), f"{name} has no stored tables yet. Make them with `{COMMAND} {name}` and commit them."
    finding = stored_tables.finding_of(name)
    assert stored_tables.versions(finding) == info["versions"], f"A results version was raised: run `{COMMAND} {name}`."
    report = stored_tables.measure(finding, info)
    lines = stored_tables.differences(report, place, info["not_compared"])
    if report.verdict != info["verdict"]:
        lines.append(f"verdict: stored {info['verdict']}; now {report.verdict}")
    assert not lines, (
        f"{name} gives other results than those stored in {place}.\n"
        + "\n".join(lines[:20])
        + f"\n({len(lines)} differences)\nIf nothing was meant to change, this is a bug. If it was: raise "
        "results_version in the finding (a change of the engine: RESULTS_VERSION in workbench/findings/finding.py), "
        f"then run `{COMMAND} {name}` and `make results`."
    )


def test_only_findings_have_stored_tables() -> None:
    assert {path.parent.name for path in stored_tables.FOLDER.glob("*/*")} - {"__pycache__"} == set(NAMES)


def test_a_changed_number_word_row_or_table_is_a_difference(tmp_path: Path) -> None:
    frame = pd.DataFrame({"head": ["0.1", "0.10"], "effect": [0.25, float("nan")], "n": [6, 6]})
    finding = replace(
        stored_tables.finding_of(NAMES[0]), run=lambda *_: Report("undecided", "", tables={"heads": frame})
    )
    stored_tables.store(finding, tmp_path)

    def lines(changed: pd.DataFrame, name: str = "heads") -> list[str]:
        return stored_tables.differences(Report("undecided", "", tables={name: changed}), tmp_path / finding.name)

    assert lines(frame) == lines(frame.assign(effect=[0.25003, float("nan")])) == []
    assert lines(frame.assign(effect=[0.251, float("nan")])) == [
        "table heads, column effect, row 0: stored 0.25; now 0.251"
    ]
    assert [len(lines(frame.assign(effect=effect))) for effect in ([0.25, 0.0], [float("nan")] * 2)] == [1, 1]
    assert lines(frame.assign(head=["0.1", "0.1"])) == ["table heads, column head, row 1: stored 0.10; now 0.1"]
    assert lines(frame.head(1)) == ["table heads, rows: stored 2; now 1"]
    assert len(lines(frame, "other")) == 2
