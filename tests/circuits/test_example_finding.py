"""The finding of ``examples/findings`` is complete as it stands: a newcomer copies it to ``circuits/findings``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.findings import Finding
from workbench.registry import ROOT
from workbench.testing import check_finding

EXAMPLES = sorted((ROOT / "examples" / "findings").glob("*.py"))


def load(path: Path) -> Finding:
    """The finding of a file, imported as if it stood in ``circuits/findings``."""
    spec = importlib.util.spec_from_file_location(f"circuits.findings.{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.finding


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_is_a_complete_finding_named_after_its_file(path: Path) -> None:
    finding = load(path)
    assert finding.name == path.stem.replace("_", "-")
    check_finding(finding)


def test_its_scatter_has_a_point_a_head_and_the_line_that_numpy_fits() -> None:
    (path,) = EXAMPLES
    report = load(path).report(wb.load("tiny"), {"n": 6, "shuffles": 20})
    points, line = report.figures["copying"].to_dict()["data"]
    table = report.tables["copying"]
    assert len(points["x"]) == len(table) == 16
    slope, intercept = np.polyfit(table["copy_score"], table["direct_logit_attribution"], 1)
    np.testing.assert_allclose(line["y"], intercept + slope * np.array(line["x"]), rtol=1e-6)
    assert f"Rank correlation over {len(table)} heads" in report.summary


def test_a_model_that_does_not_do_the_task_is_not_judged() -> None:
    (path,) = EXAMPLES
    report = load(path).report(wb.load("tiny"), {"task": "colored-objects", "n": 8})
    assert report.verdict == "not judged" and report.exit_code == 0
    assert "not done by this model" in report.reason and "why nothing was judged" in str(report.tables["summary"])
