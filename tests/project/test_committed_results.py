"""What is committed under ``docs/results`` is whole, and the pages and the README say what it says."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.project.test_docs_site import tool
from workbench.findings import VERDICTS
from workbench.registry import FINDINGS, ROOT

RESULTS = ROOT / "docs" / "results"
COMMITTED = tool("committed")
NAMES, MODELS, PROVENANCE = FINDINGS.names(), COMMITTED["MODELS"], COMMITTED["PROVENANCE"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: A result that every contributor can make must be there; one on a model with a licence to accept may be missing.
EVERY = [(model, name) for name in NAMES for model in COMMITTED["models_of"](name)]
REQUIRED = [(model, name) for model, name in EVERY if not COMMITTED["optional"](model)]
PRESENT = [(model, name) for model, name in EVERY if (RESULTS / model / name).is_dir()]
#: Those of findings that measure a model.
ON_MODELS = [(model, name) for model, name in PRESENT if FINDINGS[name].needs_model]


def run_info(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("model", "name"), REQUIRED)
def test_every_finding_has_a_current_result(model: str, name: str) -> None:
    stale = COMMITTED["differences"](RESULTS / model / name, COMMITTED["provenance"](name, model, {}))
    assert not stale, f"docs/results/{model}/{name}: {'; '.join(stale)}. Run {COMMITTED['command'](name, model)}"


@pytest.mark.parametrize(("model", "name"), PRESENT)
def test_a_result_is_whole(model: str, name: str) -> None:
    folder = RESULTS / model / name
    info, copied = run_info(folder), json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    named = {"model": model} if FINDINGS[name].needs_model else {}
    assert info["verdict"] in VERDICTS and copied["measured"]["finding"] == name
    assert {**named, **copied["measured"]["settings"]} == info["config"]
    assert copied["measured"].items() >= named.items()
    assert (info.get("model") or {}).get("sha256") == copied["measured"].get("model_sha256")
    assert info["verdict"].capitalize() in (folder / "summary.txt").read_text(encoding="utf-8")
    assert (folder / "tables" / "summary.csv").is_file()
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1_000_000


def section_of(page: str, model: str) -> str:
    """The results of a model on a page; all of them where the finding needs none."""
    return page.split(f"### {model}\n")[1].split("\n### ")[0] if model in MODELS else page


@pytest.mark.parametrize(("model", "name"), PRESENT)
def test_its_page_has_that_result(model: str, name: str) -> None:
    page, folder = tool("pages")["rendered"]("results", name, RESULTS, ".."), RESULTS / model / name
    section = section_of(page, model)
    assert f"**{run_info(folder)['verdict'].capitalize()}.**" in section
    for line in (folder / "summary.txt").read_text(encoding="utf-8").splitlines():
        assert line.rstrip() in section


def test_a_page_says_when_its_result_is_out_of_date(tmp_path: Path) -> None:
    model, name = ON_MODELS[0]
    folder = tmp_path / model / name
    folder.mkdir(parents=True)
    for file in ("run.json", "summary.txt", PROVENANCE):
        (folder / file).write_bytes((RESULTS / model / name / file).read_bytes())
    assert "Out of date" not in tool("pages")["rendered"]("results", name, tmp_path, "..")
    info = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    info["measured"]["prompts_sha256"] = "0" * 64
    (folder / PROVENANCE).write_text(json.dumps(info), encoding="utf-8")
    page = tool("pages")["rendered"]("results", name, tmp_path, "..")
    assert "Out of date (prompts_sha256: '000" in page and COMMITTED["command"](name, model) in page


#: Rows of tables that are different random draws of one kind.
DRAWS = r"(random circuit|random half|random heads of the same layers,) \d+"


@pytest.mark.parametrize(("model", "name"), ON_MODELS)
def test_a_result_in_which_random_draws_repeat_is_named_out_of_date(model: str, name: str) -> None:
    folder, repeated = RESULTS / model / name, []
    for path in (folder / "tables").glob("*.csv"):
        header, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
        texts = [[cell for cell, column in zip(row, header, strict=True) if column != "n"] for row in rows]
        named = [(next((c for c in row if re.fullmatch(DRAWS, c)), None), row) for row in texts]
        values = [tuple(cell for cell in row if cell != draw) for draw, row in named if draw is not None]
        repeated += [f"{path.name}: {same}" for same in set(values) if values.count(same) > 1]
    page = tool("pages")["rendered"]("results", name, RESULTS, "..")
    row = next(line for line in tool("pages")["overview"](RESULTS).splitlines() if f"({name}.md)" in line)
    cell = row.split(" | ")[2 + MODELS.index(model)]
    section = section_of(page, model)
    assert ("Out of date" in section) == ("(out of date)" in cell)
    assert not repeated or "Out of date (results_version: 1, today 2)" in section, repeated


#: The README's table of findings; not every finding need be in it.
ROWS = {name: row for row, name in re.findall(r"^\|(.*)`workbench reproduce ([\w-]+)` \|$", README, re.M)}


def test_the_readme_has_findings() -> None:
    assert len(ROWS) >= 5 and set(ROWS) <= set(NAMES)


@pytest.mark.parametrize("name", ROWS)
def test_the_readme_tells_each_finding_with_its_committed_verdict_and_numbers(name: str) -> None:
    folder, row = RESULTS / COMMITTED["models_of"](name)[0] / name, ROWS[name]
    assert run_info(folder)["verdict"].capitalize() in row
    report = (folder / "summary.txt").read_text(encoding="utf-8")
    numbers = re.findall(r"[−+-]?\d+\.\d+", row.replace("\N{MINUS SIGN}", "-"))
    assert len(numbers) >= 3
    for number in numbers:
        assert number.lstrip("+") in report, number
