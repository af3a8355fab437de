"""A run directory is whole or not there, and nothing in it is believed without its hash."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.errors import BadInput, UnknownName, UsageError
from workbench.findings import VERDICTS, Finding, Report
from workbench.plotting.charts import Heatmap
from workbench.runs import directory, provenance
from workbench.runs.directory import RunDirectory, RunProgress
from workbench.runs.run import Run

TABLE = pd.DataFrame({"task": ["ioi", "ioi"], "effect": [0.5, np.nan]})
CHART = Heatmap(np.array([[0.1, np.nan]]), "ab", "c")
CONFIG = {"n": 25, "model": "tiny", "tasks": ("ioi",)}


def report() -> Report:
    figure, picture = CHART.figure(), CHART.picture()
    return Report(
        "undecided", "n = 25: too few.", {"effects": TABLE}, {"grid": figure}, {"grid": picture}, {"data": "ab"}
    )


def written(root: Path) -> Path:
    with RunDirectory.create(root, "circuit-reuse", CONFIG) as run:
        run.record(seed=0, device="cpu")
        run.add_report(report())
    assert run.path is not None
    return run.path


def test_everything_is_there_and_hashed(tmp_path):
    path = written(tmp_path)
    assert re.fullmatch(r"\d{8}T\d{6}Z-circuit-reuse-[0-9a-f]{8}", path.name)
    files = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
    tables, figures = {"tables/effects.csv", "tables/effects.parquet"}, {"figures/grid.json", "figures/grid.png"}
    assert files == {"run.json", "summary.txt", "done"} | tables | figures
    assert set(Run.read(path).hashes) == files - {"done"}
    facts = json.loads((path / "run.json").read_text())
    assert facts["config"] == {**CONFIG, "tasks": ["ioi"]} and facts["verdict"] == "undecided"
    assert (facts["seed"], facts["device"], facts["data"]) == (0, "cpu", "ab")
    assert facts["versions"]["torch"] and facts["peak_memory_bytes"] > 10**6 and facts["seconds"] >= 0
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_done_is_in_the_format_of_sha256sum(tmp_path):
    path = written(tmp_path)
    for line in (path / "done").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((path / name).read_bytes()).hexdigest() == digest


def test_read_back(tmp_path):
    run = Run.read(written(tmp_path))
    pd.testing.assert_frame_equal(run.table("effects"), TABLE)
    assert (run.summary, run.table_names, run.figure_names) == ("n = 25: too few.", ("effects",), ("grid",))
    assert json.loads(str(run.figure("grid").to_json()))["data"][0]["z"][0][0] == 0.1 and run.picture(
        "grid"
    ).startswith(b"\x89PNG")
    assert "too few" in run._repr_html_()
    with pytest.raises(UnknownName, match="effects"):
        run.table("efects")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_run_leaves_nothing(error, tmp_path):
    with pytest.raises(error), RunDirectory.create(tmp_path, "f", {}) as run:
        run.add_table("t", TABLE)
        assert run.partial.is_dir()
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_finishing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(directory, "sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_forgotten_run_is_removed(tmp_path):
    run = RunDirectory.create(tmp_path, "f", {})
    assert run.partial.is_dir()
    del run
    assert list(tmp_path.iterdir()) == []


def test_the_marker_comes_last_and_everything_is_flushed_before_the_rename(tmp_path, monkeypatch):
    flushed, renamed = [], []
    monkeypatch.setattr(directory, "sync", lambda p: flushed.append(Path(p)))
    real = os.rename
    monkeypatch.setattr(os, "rename", lambda a, b: (renamed.append(len(flushed)), real(a, b)))
    path = written(tmp_path)
    names = [p.name for p in flushed]
    assert renamed == [len(flushed) - 1] and flushed[-1] == tmp_path
    assert names.index("done") > max(names.index(n) for n in ("run.json", "grid.png", "effects.parquet"))
    assert {p.relative_to(flushed[-2]).as_posix() for p in flushed[:-1]} >= {"figures", "tables", "."}
    assert path.is_dir()


def test_a_name_that_is_taken_gets_a_number(tmp_path, monkeypatch):
    class Stopped(directory.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr(directory, "datetime", Stopped)
    with RunDirectory.create(tmp_path, "f", {}) as one, RunDirectory.create(tmp_path, "f", {}) as two:
        assert one.partial != two.partial
    assert one.path is not None and two.path is not None
    assert two.path.name.startswith("20260102T030405Z-f-") and one.path.name == f"{two.path.name}-2"


def test_an_empty_folder_in_the_way_is_kept(tmp_path):
    with RunDirectory.create(tmp_path, "f", {}) as run:
        (tmp_path / run.name).mkdir()
    assert run.path == tmp_path / f"{run.name}-2" and list((tmp_path / run.name).iterdir()) == []


def test_early_figures_can_be_opened_while_the_run_goes_on(tmp_path):
    published, steps = [], []
    with RunDirectory.create(tmp_path, "f", {}) as run:
        progress = RunProgress(run, lambda *step: steps.append(step), lambda name, path: published.append((name, path)))
        progress(1, 2, "stage")
        progress.publish("first", table=TABLE, picture=CHART.picture())
        assert [path.suffix for _, path in published] == [".csv", ".png"]
        assert all(path.is_file() for _, path in published)
    assert steps == [(1, 2, "stage")] and Run.read(run.path or "").picture_names == ("first",)


def alter(path: Path) -> str:
    (path / "tables/effects.csv").write_text("task,effect\nioi,0.9\n")
    return "expected SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}"


def lose(path: Path) -> str:
    (path / "figures/grid.png").unlink()
    return "grid.png is missing"


def unfinish(path: Path) -> str:
    (path / "done").unlink()
    return "never finished"


def leave(path: Path) -> str:
    (path / "done").write_text(f"{'0' * 64}  ../../secret\n")
    return "inside the directory"


def link(path: Path) -> str:
    (path / "figures/grid.png").rename(path.parent / "elsewhere.png")
    (path / "figures/grid.png").symlink_to(path.parent / "elsewhere.png")
    return "altered"


def unlist(path: Path) -> str:
    lines = (path / "done").read_text().splitlines(keepends=True)
    (path / "done").write_text("".join(line for line in lines if "run.json" not in line))
    return "does not list 'run.json'"


@pytest.mark.parametrize("harm", [alter, lose, unfinish, leave, link, unlist])
def test_a_directory_that_was_altered_is_refused(harm, tmp_path):
    path = written(tmp_path)
    with pytest.raises(BadInput, match=harm(path)):
        Run.read(path)


def test_a_table_altered_after_opening_is_refused(tmp_path):
    run = Run.read(written(tmp_path))
    (run.path / "tables/effects.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInput, match="altered"):
        run.table("effects")


def test_names_become_file_names_and_config_must_be_json(tmp_path):
    with pytest.raises(UsageError, match="file name"):
        RunDirectory.create(tmp_path, "../f", {})
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        RunDirectory.create(tmp_path, "f", {"x": object()})
    with RunDirectory.create(tmp_path, "f", {}) as run, pytest.raises(UsageError, match="lower-case letters"):
        run.add_table("a/b", TABLE)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="--out"):
        RunDirectory.create(tmp_path / "file", "f", {})


def test_git_state_tells_commit_and_dirt(tmp_path):
    assert provenance.git_state(tmp_path) is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    (tmp_path / "f").write_text("1")
    for command in (["init", "-q"], ["add", "f"], [*identity, "commit", "-qm", "m"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    state = provenance.git_state(tmp_path)
    assert state is not None and len(state["commit"]) == 40 and state["dirty"] is False
    (tmp_path / "f").write_text("2")
    state = provenance.git_state(tmp_path)
    assert state is not None and state["dirty"] is True


def test_verdicts_and_settings_are_checked():
    assert [Report(v, "").exit_code for v in VERDICTS] == [0, 0, 1, 0]
    with pytest.raises(UnknownName, match="supported"):
        replace(report(), verdict="suported")
    finding = Finding("f", "F", "?", "!", {}, lambda study: report(), {"n": 25, "seed": 0})
    assert finding.settings({"n": 3}) == {"n": 3, "seed": 0}
    with pytest.raises(UnknownName, match="finding 'f'"):
        finding.settings({"m": 3})
