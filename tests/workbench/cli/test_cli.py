"""The command line: what it prints where, its exit codes, and what it does not import."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import pytest

from workbench import cli, registry
from workbench.cli import progress
from workbench.errors import BadInput, NotAvailable, UntrustedModel, WorkbenchError
from workbench.models import catalog
from workbench.registry import FINDINGS, TASKS

HEAVY = ("torch", "transformers", "transformer_lens", "pandas", "plotly", "matplotlib", "numpy", "rich", "datasets")


# --- speed and imports


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [(["--help"], ()), (["patch", "--help"], ()), (["reproduce", "--help"], ()), (["findings"], ("rich",))],
)
def test_help_and_listings_import_nothing_heavy(arguments, allowed):
    code = f"""
import sys
from workbench.cli import main
loaded = {{m for m in {HEAVY} if m in sys.modules}}
code = main({arguments})
loaded |= {{m for m in {HEAVY} if m in sys.modules}} - set({allowed})
print(sorted(loaded), file=sys.stderr)
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=registry.ROOT, timeout=60)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


@pytest.mark.parametrize("arguments", [["tasks"], ["models", "list"]])
def test_listings_need_no_torch(arguments):
    code = f"import sys; from workbench.cli import main; main({arguments}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=registry.ROOT, timeout=60)
    assert done.stdout.strip().endswith("False"), done.stderr


def test_importing_the_package_imports_nothing_heavy():
    code = f"import sys, workbench; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=registry.ROOT, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_every_public_name_is_there():
    import workbench

    for name in workbench.__all__:
        assert getattr(workbench, name) is not None
    assert callable(workbench.pairs)
    assert set(workbench.__all__) <= set(dir(workbench))
    missing = "no_such_name"
    with pytest.raises(AttributeError, match=missing):
        getattr(workbench, missing)


# --- help, version, usage


def test_help_names_every_verb_and_the_exit_codes(run):
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for word in ("models", "tasks", "findings", "patch", "reproduce", "Exit codes"):
        assert word in out


def test_no_argument_means_help(run):
    assert run()[:2] == run("--help")[:2]


def test_version(run):
    import workbench

    assert run("--version") == (0, f"workbench {workbench.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["reproduc"], "'reproduce'"),
        (["models", "lst"], "'list'"),
        (["models"], "workbench models --help"),
        (["patch", "--sit", "z"], "--site"),
        (["patch", "--task", "ioi", "--n", "0"], "greater than or equal to 1"),
        (["patch"], "--task"),
        (["patch", "--task", "ioi", "--pairs", "x.jsonl"], "either"),
        (["patch", "--pairs", "x.jsonl", "--n", "5"], "--n"),
        (["patch", "--task", "ioi", "--skip"], "--skip is only for --pairs"),
        (["patch", "--task", "iou"], "'ioi'"),
        (["patch", "--task", "ioi", "--site", "zz"], "'z'"),
        (["patch", "--task", "ioi", "--edit", "zeros"], "'zero'"),
        (["patch", "--task", "ioi", "--edit", "pattern"], "attend_to"),
        (["patch", "--task", "ioi", "--edit", "add"], "vector=..."),
        (["patch", "--task", "ioi", "--edit", "scale"], "--factor"),
        (["patch", "--task", "ioi", "--edit", "scale", "--factor", "nan"], "factor=nan: expected a finite number"),
        (["patch", "--task", "ioi", "--edit", "zero", "--factor", "2"], "--factor belongs to scale edits"),
        (["patch", "--task", "ioi", "--edit", "identity", "--u", "0.5"], "--site pattern"),
        (["patch", "--task", "ioi", "--edit", "identity", "--site", "pattern", "--u", "2"], "from 0 to 1"),
        (["patch", "--task", "ioi", "--by", "heads"], "'head'"),
        (["patch", "--task", "ioi", "--direction", "noising"], "'noise'"),
        (["patch", "--task", "ioi", "--metric", "acuracy"], "'accuracy'"),
        (["patch", "--task", "ioi", "--model", "gpt3"], "'gpt2'"),
        (["patch", "--task", "ioi", "--out", "table.csv"], ".safetensors"),
        (["models", "fetch", "gpt2-mediun"], "'gpt2-medium'"),
        (["reproduce", "circuit-resue"], "'circuit-reuse'"),
        (["reproduce", "circuit-reuse", "--tasks", "ioi,iou"], "'ioi'"),
    ],
)
def test_a_wrong_word_is_one_line_that_says_what_is_meant(run, no_model, monkeypatch, arguments, fragment):
    findings = ["circuit-repair", "circuit-reuse", "faithfulness", "head-ablation", "ioi-circuit"]
    monkeypatch.setattr(FINDINGS, "names", lambda: findings)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert fragment in err and len(err.strip().splitlines()) == 1 and err.startswith("workbench: ")


# --- listings


def test_the_tasks_say_what_their_relation_is_to(run):
    assert "\nto IOI: how close a task is to indirect object identification" in run("tasks")[1]


@pytest.mark.parametrize(
    ("arguments", "key", "names"),
    [
        (["tasks"], "tasks", lambda: TASKS.names()),
        (["findings"], "findings", lambda: FINDINGS.names()),
        (["models", "list"], "models", lambda: list(catalog.entries())),
    ],
)
def test_listings(run, arguments, key, names):
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert all(name in out for name in names())
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (0, "")
    assert [row["name"] for row in json.loads(out)[key]] == names()


# --- errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInput("line 3"), 3),
        (UntrustedModel("altered"), 3),
        (NotAvailable("no network"), 4),
        (WorkbenchError("x"), 3),
    ],
)
def test_our_errors_have_their_exit_codes(run, monkeypatch, error, code):
    monkeypatch.setattr(cli, "app", _raising(error))
    assert run("tasks") == (code, "", f"workbench: {error}\n")
    exit_code, out, err = run("tasks", "--json")
    assert exit_code == code and err == f"workbench: {error}\n"
    assert json.loads(out)["error"] == {"kind": type(error).__name__, "message": str(error), "exit_code": code}


def test_ctrl_c(run, monkeypatch):
    monkeypatch.setattr(cli, "app", _raising(KeyboardInterrupt()))
    code, out, err = run("tasks")
    assert (code, out) == (130, "") and "interrupted" in err


def test_an_unexpected_error_shows_its_traceback_only_when_asked(run, monkeypatch):
    monkeypatch.setattr(cli, "app", _raising(ZeroDivisionError("oh")))
    code, out, err = run("tasks")
    assert (code, out) == (70, "") and "ZeroDivisionError: oh" in err and "Traceback" not in err
    monkeypatch.setenv("WORKBENCH_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run("tasks")


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m workbench tasks | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=registry.ROOT, timeout=60)
    assert done.returncode in (0, 141) and done.stderr == ""


def _raising(error: BaseException) -> Any:
    def app(*args: Any, **kwargs: Any) -> None:
        raise error

    return app


# --- models fetch


def test_fetch(run, monkeypatch, tmp_path):
    from workbench.models import sources

    requested = {}

    def fetch(name: str, accept_licence: bool | None = None, progress: Any = None) -> Any:
        requested.update(name=name, accept_licence=accept_licence)
        progress(0, 100, "fetching")
        return tmp_path

    monkeypatch.setattr(sources, "fetch", fetch)
    code, out, err = run("models", "fetch", "gemma3-270m-q4", "--accept-licence")
    assert code == 0 and str(tmp_path) in out and "fetching" in err
    assert requested == {"name": "gemma3-270m-q4", "accept_licence": True}
    code, out, _ = run("models", "fetch", "gpt2", "--json")
    assert json.loads(out)["path"] == str(tmp_path) and requested["accept_licence"] is False


def test_a_licence_is_accepted_before_anything_is_fetched(run, monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("WORKBENCH_ACCEPT_LICENCE", raising=False)
    code, out, err = run("models", "fetch", "gemma3-270m-q4")
    assert (code, out) == (4, "") and "--accept-licence" in err
    assert not list(tmp_path.rglob("*.gguf"))


# --- progress


def test_plain_progress_speaks_now_and_then():
    now, stream = [0.0], io.StringIO()
    update = progress.Lines(stream, every=30, clock=lambda: now[0])
    for second, done in ((0, 0), (10, 1), (40, 4), (50, 5), (80, 8), (90, 10)):
        now[0] = second
        update(done, 10, "sweep")
    update(0, 0, "checking")
    assert stream.getvalue().splitlines() == [
        "sweep: 0 of 10",
        "sweep: 4 of 10, about 60 s left",
        "sweep: 8 of 10, about 20 s left",
        "sweep: 10 of 10 after 2 min",
        "checking",
    ]


def test_progress_on_a_terminal_leaves_nothing_behind():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with progress.on_stderr(stream) as update:
        update(0, 0, "loading [x]")
        update.say("this stays")
        update(1, 4, "sweep")
        update(4, 4, "sweep")
    assert "sweep" in stream.getvalue() and "this stays\n" in stream.getvalue()
    assert stream.getvalue().endswith("\x1b[2K")


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (120, "2 min"), (5400, "1.5 h")])
def test_durations(seconds, text):
    assert progress.duration(seconds) == text


def test_large_totals_are_shown_as_a_percentage():
    assert progress.count(31_000_000, 100_000_000) == "31 %"
