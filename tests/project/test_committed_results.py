"""What is committed under ``docs/results`` is whole, and the pages and the README say what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.project.test_docs_site import tool
from workbench.findings import VERDICTS
from workbench.registry import FINDINGS, ROOT

RESULTS = ROOT / "docs" / "results"
NAMES, MODELS = FINDINGS.names(), tool("kept")["MODELS"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
each_result = pytest.mark.parametrize(("model", "name"), [(model, name) for model in MODELS for name in NAMES])


def facts_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


@each_result
def test_every_finding_has_a_result_that_is_whole(model: str, name: str) -> None:
    folder = RESULTS / model / name
    facts, about = facts_of(folder), json.loads((folder / "kept.json").read_text(encoding="utf-8"))
    assert facts["verdict"] in VERDICTS and facts["config"]["model"] == model
    assert about["of"]["finding"] == name and about["of"]["config"] == facts["config"]
    assert facts["verdict"].capitalize() in (folder / "summary.txt").read_text(encoding="utf-8")
    assert (folder / "tables" / "summary.csv").is_file()
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1_000_000


@each_result
def test_its_page_shows_that_result(model: str, name: str) -> None:
    page, folder = tool("pages")["rendered"]("results", name, RESULTS, ".."), RESULTS / model / name
    mine = page.split(f"### {model}\n")[1].split("\n### ")[0]
    assert f"**{facts_of(folder)['verdict'].capitalize()}.**" in mine
    for line in (folder / "summary.txt").read_text(encoding="utf-8").splitlines():
        assert line.rstrip() in mine
    assert "has changed since this run" not in mine, "run make results"


def test_a_page_says_when_its_result_is_of_something_else(tmp_path: Path) -> None:
    model, name = MODELS[0], NAMES[0]
    folder = tmp_path / model / name
    folder.mkdir(parents=True)
    for file in ("run.json", "summary.txt", "kept.json"):
        (folder / file).write_bytes((RESULTS / model / name / file).read_bytes())
    about = json.loads((folder / "kept.json").read_text(encoding="utf-8"))
    about["of"]["source"] = "0" * 64
    (folder / "kept.json").write_text(json.dumps(about), encoding="utf-8")
    assert "has changed since this run" in tool("pages")["rendered"]("results", name, tmp_path, "..")


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_tells_each_study_with_its_committed_verdict_and_numbers(name: str) -> None:
    (row,) = re.findall(rf"^\|(.*)`workbench reproduce {name}` \|$", README, re.M)
    folder = RESULTS / MODELS[0] / name
    assert facts_of(folder)["verdict"].capitalize() in row
    report = (folder / "summary.txt").read_text(encoding="utf-8")
    numbers = re.findall(r"[−+-]?\d+\.\d+", row.replace("\N{MINUS SIGN}", "-"))
    assert len(numbers) >= 3
    for number in numbers:
        assert number.lstrip("+") in report, number
