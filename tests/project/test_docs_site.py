"""The site builds strictly, is complete and fetches nothing; it shows results where they are, and says where not."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mkdocs.config import load_config
from mkdocs.structure.files import Files

import workbench as wb
from tests.docs_pages import MODEL
from workbench.findings import Report
from workbench.registry import FINDINGS, ROOT
from workbench.runs.directory import RunDirectory
from workbench.runs.run import Run

FINDING = "circuit-reuse"


def tool(name: str) -> dict[str, Any]:
    """The names of a file in ``docs/build``, run as mkdocs and Python run it: with its neighbours within reach."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(ROOT / "docs" / "build"))
        return runpy.run_path(str(ROOT / "docs" / "build" / f"{name}.py"))


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    return tool("kept")


def made_up_run(root: Path, tables: int = 1, verdict: Any = "undecided") -> Run:
    """A run directory as a finding leaves it, with numbers that nothing measured."""
    from matplotlib.figure import Figure

    settings = FINDINGS[FINDING].settings({})
    frame = pd.DataFrame({"quantity": ["near", "dis|tant"], "value": [0.123456, 2.0], "n": [20, 20]})
    long = pd.DataFrame({"x": ["0" * 99_999] * 3})
    more = {f"t{'x' * i}": long for i in range(1, tables)}
    with RunDirectory.create(root, FINDING, {"model": MODEL, **settings}) as run:
        run.add_report(Report(verdict, "Made up.\nTwice.", {"summary": frame, **more}, pictures={"overlap": Figure()}))
    assert run.path is not None
    return Run.read(run.path)


@pytest.fixture(scope="module")
def site(kept: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation with a made-up result of one model and none of the other, built."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("results", "__pycache__"))
    shutil.copytree(ROOT / "examples", folder / "examples")
    for file in [ROOT / "mkdocs.yml", *ROOT.glob("*.md")]:
        shutil.copy(file, folder)
    run = made_up_run(folder / "runs")
    kept["keep"](run, folder / "docs" / "results" / MODEL / FINDING, kept["identity"](FINDING, MODEL, {}))
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", folder / "mkdocs.yml"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        html = page.read_text(encoding="utf-8")
        for tag in re.findall(r"<(?:script|link|img|iframe|source|video|audio)\b[^>]*>", html):
            assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", tag), (page, tag)
        assert 'class="mermaid"' not in html  # the theme would fetch what draws it
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", style.read_text(encoding="utf-8")), style


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    html = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").glob("*.html"))
    for name in set(wb.__all__) - {"__version__"}:
        assert f'id="workbench.{name}"' in html, name


def test_every_finding_decision_and_root_file_has_a_page(site: Path) -> None:
    for name in FINDINGS.names():
        assert (site / "findings" / f"{name}.html").is_file()
    for decision in (ROOT / "docs" / "decisions").glob("*.md"):
        assert (site / "decisions" / f"{decision.stem}.html").is_file()
    assert "Adding something, as one file" in text_of(site / "contributing.html")
    assert 'href="contributing.html"' in (site / "errors.html").read_text(encoding="utf-8")
    assert not list(site.rglob("*.py"))


def test_a_findings_page_says_what_the_finding_and_its_runs_say(site: Path) -> None:
    finding = FINDINGS[FINDING]
    page = site / "findings" / f"{FINDING}.html"
    text = text_of(page)
    made_up = ("Undecided.", "Made up.\nTwice.", "0.123", "dis|tant", "n = 20")
    for said in (finding.question, *map(str, finding.thresholds.values()), *made_up):
        assert str(said).replace("'", "’") in text.replace("'", "’"), said
    assert "gemma3-270m-q4" in text and text.count("Not measured yet") == 1
    for link in re.findall(r'(?:src|href)="(\.\./results/[^"]+)"', page.read_text(encoding="utf-8")):
        assert (page.parent / link).is_file(), link
    assert "results/smollm2-135m-instruct-q4/circuit-reuse/figures/overlap.png" in page.read_text(encoding="utf-8")
    assert "not measured yet" in text_of(site / "findings" / "index.html")


def test_a_finding_for_which_nobody_wrote_a_page_has_one() -> None:
    config = load_config(str(ROOT / "mkdocs.yml"))
    config.plugins._current_plugin = "hooks"  # set while mkdocs itself calls a hook
    files = tool("hooks")["on_files"](Files([]), config)
    page = files.get_file_from_path(f"findings/{FINDING}.md").content_string
    render = tool("pages")["rendered"]
    for what, name in re.findall(r"^<!-- (\w+): (\S+) -->$", page, re.M):
        assert name == FINDING and len(render(what, name, ROOT / "nowhere", "..")) > 100
    assert page.startswith("# Circuit reuse across tasks\n") and page.count("<!--") == 5


# --- what is committed of a run


def test_a_copy_holds_the_runs_own_bytes_and_stays_small(kept: dict[str, Any], tmp_path: Path) -> None:
    run, folder = made_up_run(tmp_path / "runs", tables=6), tmp_path / "copy"
    of = kept["identity"](FINDING, MODEL, {})
    left = kept["keep"](run, folder, of)
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert set(left) == {"tables/txxxx.csv", "tables/txxxxx.csv"}
    assert set(files) == {
        "kept.json", "run.json", "summary.txt", "tables/summary.csv", "tables/tx.csv", "tables/txx.csv",
        "tables/txxx.csv", "figures/overlap.png",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in files.values()) < kept["LIMIT"]
    for name in set(files) - {"kept.json"}:
        assert files[name].read_bytes() == run.data(name)
    assert kept["same"](folder, of)
    kept["keep"](made_up_run(tmp_path / "runs", verdict="supported"), folder, of)
    assert not (folder / "tables" / "tx.csv").exists()


def test_a_result_is_made_again_when_what_it_depends_on_changes(
    kept: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = kept["identity"](FINDING, MODEL, {})
    kept["keep"](made_up_run(tmp_path / "runs"), tmp_path / "copy", of)
    assert kept["same"](tmp_path / "copy", kept["identity"](FINDING, MODEL, {}))
    assert not kept["same"](tmp_path / "copy", kept["identity"](FINDING, MODEL, {"n": 4}))
    assert not kept["same"](tmp_path / "copy", kept["identity"](FINDING, "tiny", {}))
    monkeypatch.setattr(wb, "__version__", "0.1.1")
    assert not kept["same"](tmp_path / "copy", kept["identity"](FINDING, MODEL, {}))
    assert not kept["same"](tmp_path / "nothing", of)


def test_the_sources_of_a_finding_are_what_it_imports_and_asks(kept: dict[str, Any]) -> None:
    def of(name: str, settings: dict[str, Any]) -> set[str]:
        return {path.relative_to(ROOT).as_posix() for path in kept["sources"](name, settings)}

    found = of(FINDING, {"tasks": ["induction"]})
    assert {
        "circuits/findings/circuit_reuse.py", "circuits/overlap.py", "circuits/published.toml", "data/tasks/ioi.py",
        "data/tasks/induction.py", "data/templates.py", "data/words.py",
    } <= found  # fmt: skip
    assert not {"data/tasks/greater_than.py", "circuits/findings/faithfulness.py"} & found
    assert not any(path.startswith("workbench/") for path in found)
    assert "data/tasks/colored_objects.py" in of("circuit-repair", {})


def test_a_trial_runs_keeps_and_is_then_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = tool("results")["main"]
    trial = ["--models", "tiny", "--findings", FINDING, "--n", "2", "--tasks", "ioi"]
    places = ["--into", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    assert main([*trial, *places]) == 0
    assert "undecided, kept in" in capsys.readouterr().out
    assert (tmp_path / "results" / "tiny" / FINDING / "tables" / "heads.csv").is_file()
    assert main([*trial, *places]) == 0
    assert capsys.readouterr().out == f"{FINDING} on tiny: is there\n"
    with pytest.raises(SystemExit):  # a trial never goes among the committed results
        main(trial)
