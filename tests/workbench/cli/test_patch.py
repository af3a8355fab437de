"""``workbench patch``: what it prints and stores, and whether the model does the task at all."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from workbench.cli.task_check import TaskCheck, check_task
from workbench.inputs.pairs import Pair
from workbench.models import catalog
from workbench.results.sweep import Sweep
from workbench.runs.run import Run


class Loaded(str):
    """In the place of a model."""

    tokenizer = None


@pytest.fixture
def swept(monkeypatch):
    """`sweep` and `load` replaced: the arguments of the call, and a made-up result."""
    arguments: dict[str, Any] = {}

    def sweep(model: Any, inputs: Any, *, progress: Any, **options: Any) -> Sweep:
        arguments.update(model=model, inputs=inputs, **options)
        print("a library speaks")
        progress(1, 2, "sweep")
        rng = np.random.default_rng(0)
        values = rng.normal(size=(2, 3, 12))
        values[1, 2] += 5
        info = {
            "model": "stub",
            "task": inputs.name,
            "units": "logits",
            **{k: options[k] for k in options if k != "by"},
        }
        return Sweep(values, np.zeros(12), np.full(12, 8.0), ("layer", "head"), info=info)

    monkeypatch.setattr("workbench.sweep", sweep)
    monkeypatch.setattr("workbench.load", lambda name, operators=None, progress=None: Loaded(f"model {name}"))
    return arguments


def test_patch_prints_the_largest_cells_first(run, swept):
    code, out, err = run("patch", "--task", "ioi", "--top", "2", "--by", "head,position", "--positions", "S2, end,-1")
    assert code == 0 and "sweep: 1 of 2" in err
    rows = [line.split()[0] for line in out.splitlines() if line[:2] in ("0.", "1.")]
    assert len(rows) == 2 and rows[0] == "1.2"
    assert "smallest possible" in out
    assert swept["model"] == f"model {catalog.DEFAULT}" and swept["by"] == ["head", "position"]
    assert swept["positions"] == ["S2", "end", -1]
    assert (swept["inputs"].n, swept["inputs"].seed) == (25, 0)


def test_the_header_says_where_the_edit_is_made(run, swept):
    out = run("patch", "--task", "ioi", "--positions", "S2,end", "--direction", "noise")[1]
    assert "stub, ioi: patch z at S2, end, noise, n = 12." in out


def test_one_prompt_has_one_line_about_its_interval(run):
    code, out, _ = run("patch", "--task", "ioi", "--model", "tiny", "--n", "1", "--edit", "zero", "--no-cache")
    assert code == 0 and "zero z, clean run, n = 1." in out
    assert "only one example, so there is no interval" in out and "little more than their range" not in out


def test_patch_as_json_is_one_object(run, swept):
    code, out, err = run("patch", "--task", "ioi", "--n", "3", "--seed", "4", "--json")
    document = json.loads(out)
    assert code == 0 and "a library speaks" in err
    assert len(document["cells"]) == 6 and document["out"] is None and document["n"] == 12
    assert (swept["inputs"].n, swept["inputs"].seed) == (3, 4)


def test_patch_saves_the_sweep(run, swept, tmp_path):
    file = tmp_path / "one.safetensors"
    code, out, _ = run("patch", "--task", "ioi", "--out", str(file))
    assert code == 0 and str(file) in out and Sweep.load(file).n == 12
    saved = Run.read(json.loads(run("patch", "--task", "ioi", "--out", str(tmp_path / "all"), "--json")[1])["out"])
    assert saved.path.parent == tmp_path / "all" and saved.table_names == saved.figure_names == ("sweep",)
    assert Sweep.load(saved.path / "sweep.safetensors").n == 12
    code, _, err = run("patch", "--task", "ioi", "--out", str(tmp_path / "no" / "one.safetensors"))
    assert code == 2 and "does not exist" in err


def test_a_bad_pair_file_is_refused_before_the_model_is_loaded(run, no_model, tmp_path):
    good = {"clean": "a b", "corrupt": "a c", "answer": " x", "wrong": " y"}
    file = tmp_path / "my.jsonl"
    file.write_text(json.dumps(good) + "\n" + json.dumps({**good, "answer": None}) + "\n")
    code, out, err = run("patch", "--pairs", str(file))
    assert (code, out) == (3, "") and "line 2" in err


@pytest.mark.filterwarnings("ignore::workbench.inputs.rows.PairNotice")
@pytest.mark.parametrize("verb", ["patch", "scores"])
def test_pairs_that_the_tokeniser_cannot_ask_are_left_out_with_skip(run, tmp_path, verb):
    rows = [
        {"clean": f"So {a} met", "corrupt": f"So {b} met", "answer": f" {a}", "wrong": f" {wrong}"}
        for a, b, wrong in [("Mary", "Anna", "Anna"), ("Mary", "Anna", "zzz"), ("John", "Paul", "Paul")]
    ]
    file = tmp_path / "my.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    call = (verb, "--pairs", str(file), "--model", "tiny", *(["--no-random"] if verb == "scores" else []))
    code, out, err = run(*call)
    assert (code, out) == (3, "") and "my.jsonl line 2: wrong ' zzz' is '<unk>'" in " ".join(err.split())
    code, out, _ = run(*call, "--skip")
    assert code == 0 and "n = 2 (1 more left out)." in " ".join(out.split())
    info = json.loads(run(*call, "--skip", "--json")[1])["info"]
    assert (info["n"], info["dropped"]) == (2, 1)


# --- whether the model does the task

PAIRS = [Pair("a", "b", (" x",), (" y",), (" x", " y", " z", " w"))]


def measured(metric: str, clean: list[float], direction: str = "denoise") -> Sweep:
    runs = np.array(clean), np.full(len(clean), -9.0)
    base, source = runs[::-1] if direction == "denoise" else runs
    values = np.zeros((1, 1, len(clean)))
    return Sweep(values, base, source, ("layer", "head"), info={"metric": metric, "direction": direction})


@pytest.mark.parametrize(
    ("metric", "clean", "status"),
    [
        ("logit_difference", [2.0, 3.0, 1.0, 2.0], "done"),
        ("logit_difference", [2.0, -1.9, 1.0, -1.0], "unclear"),
        ("logit_difference", [-2.0, 1.0, -1.0, -0.0], "not done"),
        ("logit_difference", [0.5], "done"),
        ("logit_difference", [0.0], "not done"),
        ("accuracy_among_options", [1.0] * 8, "done"),
        ("accuracy_among_options", [1.0] * 3 + [0.0] * 5, "unclear"),
        ("accuracy_among_options", [1.0] * 2 + [0.0] * 6, "not done"),
        ("answer_probability", [0.1, 0.2], None),
        ("logit_difference", [1.0, np.nan], None),
    ],
)
@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_the_clean_runs_say_whether_the_model_does_the_task(metric, clean, status, direction):
    check = check_task(measured(metric, clean, direction), PAIRS)
    assert check.status == status and bool(check.warning) == (status in ("unclear", "not done"))
    assert "-0 " not in check.warning and check.warning.count("\n") == 0


def test_patch_says_so_in_one_line_and_in_json(run, swept):
    code, out, err = run("patch", "--task", "ioi", "--direction", "noise", "--json")
    check = json.loads(out)["task_check"]
    assert (
        code == 0
        and check["status"] == "not done"
        and "logit difference of the clean prompts 0 [0, 0]" in check["reason"]
    )
    assert sum("cannot do this task" in line for line in err.splitlines()) == 1
    assert "cannot do" not in run("patch", "--task", "ioi", "--metric", "accuracy")[2]
    assert TaskCheck().warning == ""
