"""The site builds strictly, is complete and fetches nothing; it shows results where they are, and says where not."""

from __future__ import annotations

import inspect
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
from workbench.registry import FINDINGS, ROOT, TASKS
from workbench.runs.directory import RunDirectory
from workbench.runs.run import Run

FINDING = "circuit-reuse"


def tool(name: str) -> dict[str, Any]:
    """The names of a file in ``docs/build``, run as mkdocs and Python run it: with its neighbours within reach."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(ROOT / "docs" / "build"))
        return runpy.run_path(str(ROOT / "docs" / "build" / f"{name}.py"))


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    return tool("committed")


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
def site(committed: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation with a made-up result of one model and none of the other, built."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("results", "__pycache__"))
    shutil.copytree(ROOT / "examples", folder / "examples")
    for file in [ROOT / "mkdocs.yml", *ROOT.glob("*.md")]:
        shutil.copy(file, folder)
    run = made_up_run(folder / "runs")
    committed["commit"](run, folder / "docs" / "results" / MODEL / FINDING, committed["provenance"](FINDING, MODEL, {}))
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
    for text_part in (finding.question, *map(str, finding.thresholds.values()), *made_up):
        assert str(text_part).replace("'", "’") in text.replace("'", "’"), text_part
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


def test_a_copy_holds_the_runs_own_bytes_and_stays_small(committed: dict[str, Any], tmp_path: Path) -> None:
    run, folder = made_up_run(tmp_path / "runs", tables=6), tmp_path / "copy"
    measured = committed["provenance"](FINDING, MODEL, {})
    omitted = committed["commit"](run, folder, measured)
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert set(omitted) == {"tables/txxxx.csv", "tables/txxxxx.csv"}
    assert set(files) == {
        "provenance.json", "run.json", "summary.txt", "tables/summary.csv", "tables/tx.csv", "tables/txx.csv",
        "tables/txxx.csv", "figures/overlap.png",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in files.values()) < committed["MAX_BYTES"]
    for name in set(files) - {"provenance.json"}:
        assert files[name].read_bytes() == run.data(name)
    assert not committed["differences"](folder, measured)
    committed["commit"](made_up_run(tmp_path / "runs", verdict="supported"), folder, measured)
    assert not (folder / "tables" / "tx.csv").exists()


def test_a_result_is_made_again_when_what_it_depends_on_changes(
    committed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, finding = tmp_path / "copy", FINDINGS[FINDING]
    committed["commit"](made_up_run(tmp_path / "runs"), folder, committed["provenance"](FINDING, MODEL, {}))

    def differing(model: str = MODEL, **changes: Any) -> list[str]:
        lines = committed["differences"](folder, committed["provenance"](FINDING, model, changes))
        return [line.partition(":")[0] for line in lines]

    assert differing() == []
    assert differing(n=4) == ["settings"]
    assert differing(tasks=["ioi"]) == differing(seed=1) == ["settings", "prompts_sha256"]
    assert differing("tiny") == ["model", "model_sha256"]
    monkeypatch.setattr(committed["findings"], "RESULTS_VERSION", 2)
    assert differing() == ["engine_results_version"]
    monkeypatch.setitem(finding.__dict__, "results_version", finding.results_version + 1)
    assert differing() == ["results_version", "engine_results_version"]
    assert committed["differences"](tmp_path / "nothing", {}) == ["missing"]


def test_the_prompts_of_a_result_are_those_of_its_tasks(
    committed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hash_of(name: str, **changes: Any) -> str:
        return committed["provenance"](name, MODEL, changes)["prompts_sha256"]

    before = hash_of("ioi-circuit")
    assert before == hash_of("faithfulness", task="ioi") != hash_of("faithfulness", task="greater-than")
    assert before != hash_of("circuit-repair")
    words = wb.task("ioi").draw.__globals__
    monkeypatch.setitem(words, "PLACES", (*words["PLACES"][:-1], "observatory"))
    assert tool("committed")["provenance"]("ioi-circuit", MODEL, {})["prompts_sha256"] != before


@pytest.mark.parametrize("name", FINDINGS.names())
def test_a_finding_says_which_tasks_it_draws_from(committed: dict[str, Any], name: str) -> None:
    finding = FINDINGS[name]
    tasks = committed["tasks_of"](finding, finding.defaults)
    draws = re.search(r"study\.(pairs|task)\(", Path(inspect.getfile(finding.run)).read_text(encoding="utf-8"))
    assert set(tasks) <= set(TASKS.names()) and (tasks or not draws), "list its tasks in Finding(tasks=…)"


def test_a_trial_runs_keeps_and_is_then_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = tool("results")["main"]
    trial = ["--models", "tiny", "--findings", FINDING, "--n", "2", "--tasks", "ioi"]
    places = ["--into", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    assert main([*trial, *places]) == 0
    assert "not judged, copied to" in capsys.readouterr().out
    assert (tmp_path / "results" / "tiny" / FINDING / "tables" / "heads.csv").is_file()
    assert main([*trial, *places]) == 0
    assert capsys.readouterr().out == f"{FINDING} on tiny: current\n"
    with pytest.raises(SystemExit):  # a trial never goes among the committed results
        main(trial)
