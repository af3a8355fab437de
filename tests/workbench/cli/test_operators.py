"""``workbench operators``: the list without torch, one operator's page, prices; and ``--operator`` of other verbs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import workbench as wb
from workbench import registry
from workbench.attention import declared as files
from workbench.attention.cost import of_operator
from workbench.attention.cost.of_operator import operator_cost
from workbench.attention.declared import BY_SETTINGS, FIELDS, declared
from workbench.attention.describe import required_arguments
from workbench.attention.operator import operator
from workbench.core import full_name
from workbench.registry import OPERATORS
from workbench.runs.run import Run


@pytest.mark.parametrize("name", OPERATORS.names())
def test_what_a_file_declares_is_what_its_operator_has(name: str) -> None:
    imported, read = OPERATORS[name], declared(name)
    assert set(read) == set(FIELDS)
    for field, value in read.items():
        own = getattr(imported, field)
        assert callable(own) if value == BY_SETTINGS else own == value, field


def test_a_declaration_that_is_not_written_out_is_read_from_the_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "softmax.py"
    monkeypatch.setattr(files.OPERATORS, "path", lambda name: file)
    for text in ("operator = make()", "operator = Operator(**kinds)", "operator = Operator(status=STATUS[0])"):
        file.write_text(text)
        with monkeypatch.context() as patched:
            patched.setattr(files, "_imported", lambda name: {"name": name})
            assert declared("softmax") == {"name": "softmax"}
    file.write_text("def rows(s): ...\nS = 'control'\noperator = Operator(status=S, row_stochastic=rows)")
    read = declared("softmax")
    assert (read["status"], read["row_stochastic"], read["role"]) == ("control", BY_SETTINGS, "mixer")


def test_the_list_needs_no_torch_and_names_every_operator() -> None:
    code = "import sys; from workbench.cli import main; main(['operators']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=registry.ROOT, timeout=60)
    assert done.stdout.strip().endswith("False"), done.stderr
    for name in OPERATORS.names():
        assert f"\n{name} " in done.stdout and OPERATORS.summary(name).replace("``", "") in done.stdout


def test_the_list_as_json(run) -> None:
    code, out, err = run("operators", "--json")
    document = json.loads(out)
    assert (code, err, document["broken"]) == (0, "", [])
    assert [row["name"] for row in document["operators"]] == OPERATORS.names()
    (row,) = (row for row in document["operators"] if row["name"] == "lightning")
    assert (row["status"], row["causal"], row["row_stochastic"]) == ("as published", "token", False)


def test_one_operator(run) -> None:
    code, out, _ = run("operators", "lightning(norm=False)")
    assert code == 0
    for text in (
        OPERATORS["lightning"].source,
        "exp(−s_h (i − j))",
        "its state",
        "'alibi', 'layered' or 'minimax'",
        "72 positions",
    ):
        assert text in out
    document = json.loads(run("operators", "lightning(norm=False)", "--json")[1])
    assert document["linear_in_v"] and document["passes"] == 1
    assert next((s["name"], s["value"], s["default"]) for s in document["settings"]) == ("norm", False, True)
    assert not json.loads(run("operators", "lightning", "--json")[1])["linear_in_v"]


@pytest.mark.parametrize("name", OPERATORS.names())
def test_every_operator_has_a_page(run, name: str) -> None:
    code, out, err = run("operators", name)
    assert (code, err) == (0, "") and out.startswith(f"{name}\n\n")
    for words in (*OPERATORS[name].settings, *OPERATORS[name].choices):
        assert words in out


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["operators", "slidng-window"], "'sliding-window'"),
        (["operators", "sliding-window(window=0)"], "sliding-window(window)=0: expected a whole number of at least 1"),
        (["operators", "sliding-window(windows=3)"], "'window'"),
        (["operators", "lightning(slopes=alibis)"], "'alibi', 'layered' or 'minimax'"),
        (["operators", "lightning", "--length", "8"], "--length is only for --cost"),
        (["operators", "softmax", "--cost", "--heads", "8", "--kv-heads", "3"], "--kv-heads 3"),
        (["patch", "--task", "ioi", "--operator", "lightning"], "expected LAYERS=OPERATOR"),
        (["patch", "--task", "ioi", "--operator", "sliding-window(window=8)"], "expected LAYERS=OPERATOR"),
        (["patch", "--task", "ioi", "--operator", "3=lightnin"], "'lightning'"),
        (["patch", "--task", "ioi", "--operator", "3=lightning", "--operator", "3=softmax"], "two operators"),
        (["scores", "--operator", "0-3=sliding-window(window=-1)"], "window)=-1"),
        (["record", "--task", "ioi", "--operator", "0=joint-block"], "grid="),
        (["reproduce", "ioi-circuit", "--operator", "all=layout-mask"], "bidirectional="),
        (["reproduce", "--from", "latest", "--operator", "all=softmax"], "--operator cannot be used with --from"),
    ],
)
def test_what_cannot_be_is_one_line_before_a_model_is_loaded(run, no_model, arguments, fragment) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert fragment in err and len(err.strip().splitlines()) == 1


# --- prices


def test_pairs_are_those_of_the_mask() -> None:
    for length in (1, 5, 300):
        (window,) = operator_cost("sliding-window(window=5, sinks=2)", length)
        pairs = sum(j > i - 5 or j < 2 for i in range(length) for j in range(i + 1))
        assert window["pairs"] == pairs and window["flops"] == 2 * pairs * 128
        (whole,) = operator_cost("softmax", length)
        assert whole["pairs"] == length * (length + 1) // 2


@pytest.mark.parametrize("name", [name for name in OPERATORS.names() if OPERATORS[name].mask is not None])
def test_pairs_counted_by_rows_are_those_of_the_whole_mask(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (by_rows,) = operator_cost(name, 600, n_heads=2, d_head=8)
    monkeypatch.setattr(of_operator, "ROWS", 10**6)
    (whole,) = operator_cost(name, 600, n_heads=2, d_head=8)
    assert by_rows["pairs"] == whole["pairs"] > 0


def test_pairs_that_are_not_counted_are_a_bound() -> None:
    (counted,), (bound,) = operator_cost("block-mixture(block=8)", 128), operator_cost("pyramid-sparse", 128)
    assert not counted["at_most"] and counted["pairs"] < 128 * 129 // 2
    assert bound["at_most"] and bound["pairs"] == 128 * 129 // 2


def test_masks_of_long_prompts_are_not_counted(run) -> None:
    code, _, err = run("operators", "sliding-window", "--cost", "--length", "1000000")
    assert code == 2 and "expected at most 65,536, because the pairs in the mask" in err
    code, out, _ = run("operators", "lightning", "--cost", "--length", "1000000")
    assert code == 0 and "1000000" in out


def test_a_grid_says_how_many_positions_it_has() -> None:
    (row,) = operator_cost("joint-block", 32)
    trial = OPERATORS["joint-block"].trial(1, 32)
    assert row["length"] == torch.Size(trial["grid"]).numel() + trial["before"]


@pytest.mark.parametrize("name", OPERATORS.names())
def test_every_operator_has_a_price_and_is_measured_or_says_why_not(name: str) -> None:
    (row,) = operator_cost(name, 72, n_heads=4, n_kv_heads=2, d_head=16, measured=True, repeats=1)
    assert row["flops"] >= 0 < row["bytes_moved"]
    assert row.get("not_measured") or row["peak_bytes"] >= 4 * row["length"] * 4 * 16


def test_prices_on_the_command_line(run) -> None:
    options = ("--cost", "--length", "64", "--length", "128", "--heads", "4", "--width", "16", "--json")
    document = json.loads(run("operators", "lightning", *options)[1])
    assert [row["length"] for row in document["rows"]] == [64, 128]
    assert {row["state_bytes"] for row in document["rows"]} == {4 * 16 * 16 * 4}
    assert "seconds" not in document["rows"][0] and document["n_kv_heads"] == 4
    code, out, _ = run("operators", "lightning", *options[:-1], "--measure")
    assert code == 0 and "CPU time" in out and "4.1 kB" in out
    code, out, _ = run("operators", "--cost", "--length", "40")
    assert code == 0 and all(name in out for name in OPERATORS.names())


# --- swapped models


def test_a_model_is_loaded_with_operators_as_swap_gives_them() -> None:
    ids = torch.arange(3, 15)[None]
    model = wb.load("tiny")
    expected = wb.swap(model, {1: "sliding-window(window=3)"})(ids)
    loaded = wb.load("tiny", operators={"1": "sliding-window(window=3)"})
    assert torch.equal(loaded(ids), expected) and not torch.equal(model(ids), expected)
    assert loaded.provenance == {**model.provenance, "operators": {"1": "sliding-window(window=3)"}}


def test_required_arguments_are_those_that_swap_asks_for() -> None:
    assert required_arguments(operator("joint-block")) == ["grid"]
    assert required_arguments(operator("layout-mask")) == ["data"]
    assert required_arguments(operator("fixed-qk(form=sequence)")) == ["text"]
    assert required_arguments(operator("static")) == required_arguments(operator("fixed-qk")) == []


def test_verbs_swap_and_say_so(run) -> None:
    swap = ("--model", "tiny", "--operator", "0=sliding-window(window=3)", "--operator", "1=lightning")
    operators = {"0": "sliding-window(window=3)", "1": "lightning"}
    code, out, _ = run("patch", "--task", "ioi", "--n", "2", "--edit", "zero", "--no-cache", *swap)
    assert code == 0 and out.startswith("tiny with 0=sliding-window(window=3); 1=lightning, ioi:")
    document = json.loads(run("patch", "--task", "ioi", "--n", "2", "--edit", "zero", "--no-cache", *swap, "--json")[1])
    assert document["info"]["operators"] == operators
    model = wb.load("tiny", operators=operators)
    sweep = wb.sweep(model, wb.task("ioi", n=2), edit="zero", cache=False)
    deltas = {row["head"]: row["mean_delta"] for row in document["cells"]}
    heads = [wb.Head(layer, i) for layer in (0, 1) for i in range(8)]
    assert deltas == {str(head): pytest.approx(sweep.mean_delta[head.layer, head.index], abs=1e-5) for head in heads}
    code, out, _ = run("scores", "--n", "2", "--no-random", "--no-cache", *swap)
    assert code == 0 and out.startswith("tiny with 0=sliding-window(window=3); 1=lightning:")


def test_a_run_names_its_operators_and_is_repeated_with_them(run, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path))
    swap = ("--operator", "0-1=sliding-window(window=4)")
    code, text, _ = run("reproduce", "head-ablation", "--model", "tiny", "--n", "6", *swap, "--no-cache", *out)
    assert code in (0, 1) and "Model tiny with 0-1=sliding-window(window=4), n = 6." in text
    (folder,) = tmp_path.iterdir()
    facts = Run.read(folder).facts
    assert facts["config"]["operators"] == {"0-1": "sliding-window(window=4)"}
    assert facts["model"]["operators"] == {"0": "sliding-window(window=4)", "1": "sliding-window(window=4)"}
    code, answer, _ = run("reproduce", "--from", folder.name, *out, "--json")
    document = json.loads(answer)
    assert code == 0 and document["agree"] and document["operators"] == facts["config"]["operators"]
    listed = run("runs", "list", "--dir", str(tmp_path))[1]
    assert "tiny, 0-1=sliding-window(window=4)" in listed


def test_a_model_is_named_with_its_operators() -> None:
    assert full_name("tiny", None) == full_name("tiny", {}) == "tiny"
    operators = {"0": "uniform", "3": "lightning", "1": "lightning", "2": "lightning", "7": "lightning"}
    assert full_name("m", operators) == "m with 0=uniform; 1-3,7=lightning"
