"""Arguments that would give a number without a meaning are refused in one line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from tests.families import hooked, paired
from workbench.errors import BadInput, UsageError
from workbench.findings import FEWEST, Finding, Report, Study, Threshold, Verdict
from workbench.patching.notice import EditNotice

INPUTS = paired(4)
TO_NOWHERE = {"site": "pattern", "edit": "pattern", "positions": ["end"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positions": []}, "expected at least one position"),
        ({"by": "position", "site": "resid_mid", "positions": ["S", "S"]}, "'S' is repeated. Give each position once"),
        ({"layers": [1, 1]}, "1 is repeated"),
        ({**TO_NOWHERE, "attend_to": {1: float("nan")}}, r"attend_to\[1\]=.*: expected a finite number"),
        ({**TO_NOWHERE, "attend_to": {1: float("inf")}}, r"attend_to\[1\]=.*: expected a finite number"),
        ({**TO_NOWHERE, "attend_to": ()}, "at least one of them"),
        ({"edit": "add", "vector": torch.ones(9), "site": "pattern"}, "because edit='add' adds one there"),
    ],
)
def test_sweeps(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        wb.sweep(hooked("llama"), INPUTS, **arguments)


@pytest.mark.parametrize("texts", ["Mary and John", ["Mary and John", "Paul and Anna"]])
def test_texts_have_no_answers_to_measure(texts: Any) -> None:
    model = wb.load("tiny")
    with pytest.raises(UsageError, match="pairs with answers, because metric='logit_difference' compares them"):
        wb.sweep(model, texts)
    with pytest.raises(UsageError, match="compares them"):
        wb.sweep_sets(model, texts, {"one": [wb.Head(0, 0)]}, edit="zero")
    with pytest.raises(UsageError, match="compares them"):
        wb.path_patch(model, texts)
    n = 1 if isinstance(texts, str) else 2
    assert wb.sweep(model, texts, edit="zero", metric="kl_divergence").n == n
    assert wb.sweep(model, texts, edit="zero", metric=lambda logits, example: logits[:, 0]).n == n


def test_a_mean_over_itself_is_refused_or_said() -> None:
    model, lone = hooked("llama"), paired(5, lengths=(9, 9, 11))
    nameless = replace(lone, positions=tuple({} for _ in lone.clean))
    for sweep in (wb.sweep, wb.sweep_sets):
        arguments: dict[str, Any] = {"sets": {"one": [wb.Head(0, 0)]}} if sweep is wb.sweep_sets else {}
        with pytest.raises(BadInput, match=r"Input 3 is the only one of 11 positions, so the mean there is its own"):
            sweep(model, nameless, **arguments, edit="mean", cache=False)
    with pytest.raises(BadInput, match="Use mean_over='positions'"):
        wb.run(model, nameless.of([0]), [wb.Edit("z", 0, 0, kind="mean")])
    assert np.abs(wb.sweep(model, nameless, edit="mean", mean_over="positions", cache=False).delta).max() > 1e-2
    with pytest.warns(EditNotice, match=r"changes it at named positions alone \(S, end\)"):
        wb.sweep(model, replace(lone, seed=None), edit="mean", cache=False)


@pytest.mark.parametrize("arguments", [{"into": "q"}, {"into": "v"}, {"share_kv": True}])
def test_what_belongs_to_receivers_needs_receivers(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="because without receivers the heads' paths to the logits are patched"):
        wb.path_patch(hooked("llama"), INPUTS, **arguments)
    info = wb.path_patch(hooked("llama"), INPUTS, [wb.Head(2, 1)]).info
    assert (info["into"], info["share_kv"]) == ("q", False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"site": "blocks.1.attn.hook_z"}, r"site='blocks.1.attn.hook_z': .* Use site='z', layers=\[1\]\.$"),
        ({"by": "head,position"}, r"by='head,position': .* Use by=\['head', 'position'\]\.$"),
        ({"edit": lambda z, hook: z}, "edit=.*: expected a function of the activation alone"),
        ({"metric": lambda logits: logits[:, 0]}, r"metric=.* Write f\(logits, example\)\.$"),
    ],
)
def test_habits_of_other_packages_are_answered(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        wb.sweep(hooked("llama"), INPUTS, **arguments)
    if "site" in arguments:
        with pytest.raises(UsageError, match=r"Use sites=\['z'\], layers=\[1\]"):
            wb.record(hooked("llama"), INPUTS, arguments["site"])
        with pytest.raises(UsageError, match="Use site='z', layer=1"):
            wb.Edit(arguments["site"], 1)
    if "edit" in arguments:
        with pytest.raises(UsageError, match=r"kind=.*: expected a function of the activation alone"):
            wb.Edit("z", 0, kind=arguments["edit"])


def test_a_position_that_pairs_do_not_name() -> None:
    pairs = wb.pairs(["So Mary met John"], ["So Anna met John"], answer=[" Mary"], wrong=[" Anna"])
    with pytest.raises(UsageError, match=r"positions='S9': .* An index, such as -1, works too\. Pairs can name pos"):
        wb.sweep(wb.load("tiny"), pairs, positions="S9")
    with pytest.raises(UsageError, match=r"works too\.$"):
        wb.sweep(hooked("llama"), INPUTS, positions="S9")


def test_a_tasks_name_is_no_task() -> None:
    for call in (wb.sweep, wb.path_patch, wb.screen):
        with pytest.raises(UsageError, match=r"^task='ioi': .* 'ioi' is a text here: use wb\.task\('ioi'\)\.$"):
            call(wb.load("tiny"), "ioi")
    with pytest.raises(UsageError, match=r"^task='Mary and John': expected pairs with answers"):
        wb.sweep(wb.load("tiny"), "Mary and John")


def test_a_function_that_gives_nan_is_noticed() -> None:
    model, nan = hooked("llama"), lambda z: z * float("nan")
    with pytest.warns(EditNotice, match="After the edit <lambda> some numbers are NaN") as notices:
        wb.sweep(model, INPUTS, edit=nan)
    assert [notice.filename for notice in notices] == [__file__]  # once, where it was called
    for call in (
        lambda: wb.run(model, INPUTS, [wb.Edit("z", 0, kind=nan)]),
        lambda: wb.sweep_sets(model, INPUTS, {"one": [wb.Edit("z", 0, kind=nan)]}),
    ):
        with pytest.warns(EditNotice) as notices:
            call()
        assert [notice.filename for notice in notices] == [__file__]


def test_of_two_edits_of_one_place_the_later_one_wins() -> None:
    model = hooked("llama")
    zero, double = wb.Edit("z", 1, 2, "end", kind="zero"), wb.Edit("z", 1, 2, "end", kind=lambda z: 2 * z)

    def scores(*edits: wb.Edit) -> torch.Tensor:
        return wb.run(model, INPUTS, edits).scores()

    assert torch.equal(scores(double, zero), scores(zero)) and torch.equal(scores(zero, double), scores(zero))
    assert not torch.equal(scores(double), scores(zero))


def test_attribution_of_a_least_value() -> None:
    cases: list[dict[str, Any]] = [{"direction": "noise"}, {"edit": "zero"}]
    for arguments in cases:
        with pytest.raises(UsageError, match="gradient 0, in the clean run"):
            wb.screen(hooked("llama"), INPUTS, metric="kl_divergence", **arguments)
    assert np.isfinite(wb.screen(hooked("llama"), INPUTS, metric="kl_divergence").estimate.values).all()


@pytest.mark.parametrize(
    "prompt", [[[1, 2], [3, 4]], [1.9, 2.9], [], [-1], [10**6], None, ["a", "b"], b"text", torch.zeros(2, 2)]
)
def test_attention_takes_one_prompt(prompt: Any) -> None:
    with pytest.raises(UsageError, match=r"prompt=.*: expected"):
        wb.attention_view(hooked("llama"), prompt, 0, 0)


def test_texts_longer_than_the_context() -> None:
    model = wb.load("tiny")
    longest = model.cfg.n_ctx
    for call in (lambda text: wb.attention_view(model, text, 0, 0), lambda text: wb.record(model, text)):
        with pytest.raises(UsageError, match=f"context length of the model is {longest}"):
            call("Mary " * (longest + 1))


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        (["a", "b"], {}, "one prompt"),
        (None, {}, "one prompt"),
        (torch.zeros(1, 3).long(), {}, "one prompt"),
        ("Mary", {"edits": [wb.Head(1, 1)]}, "expected a wb.Edit"),
        ("Mary", {"max_new_tokens": 1.5}, "whole number"),
    ],
)
def test_generation(prompt: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        wb.generate(wb.load("tiny"), prompt, **options)


def test_one_edit_needs_no_list() -> None:
    model, edit = wb.load("tiny"), wb.Edit("z", 1, head=0, kind="zero")
    assert wb.generate(model, "Mary", edits=edit, max_new_tokens=2) == wb.generate(
        model, "Mary", edits=[edit], max_new_tokens=2
    )


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "path='': expected a path"),
        (".", r"expected a path that ends in \.(safetensors|json)"),
        ("table.csv", r"path='table.csv': expected a path that ends in \.(safetensors|json)"),
        (Path("s"), r"path='s': expected a path that ends in \.(safetensors|json)"),
        ("no/such/folder/s", "cannot be written"),
    ],
)
def test_paths_that_cannot_be_written(
    path: str | Path, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep, circuit = wb.sweep(hooked("llama"), INPUTS), wb.Circuit("c", "m", ((wb.Head(1, 1), "mover"),))
    for save, ending in ((sweep.save, ".safetensors"), (circuit.save, ".json")):
        with pytest.raises((BadInput, UsageError), match=message):
            save(f"{path}{ending}" if message == "cannot be written" else path)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_number_that_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    wb.sweep(hooked("llama"), INPUTS).save(path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadInput, match="was altered since it was saved"):
        wb.Sweep.load(path)


def test_a_circuit_of_bare_heads() -> None:
    heads: Any = (wb.Head(1, 1),)
    with pytest.raises(UsageError, match="pairs of a head and its role"):
        wb.Circuit("c", "m", heads)


@pytest.mark.parametrize("verdict", ["supported", "not supported", "undecided"])
@pytest.mark.parametrize("n", [FEWEST - 1, FEWEST])
def test_too_few_prompts_are_not_judged(verdict: Verdict, n: int) -> None:
    def run(study: Study) -> Report:
        summary = f"Numbers.\n\n{verdict.capitalize()}: because."
        return Report(verdict, summary, {"summary": pd.DataFrame({"n": [n]})}, reason="because")

    finding = Finding("x", "X", "x?", "X.", {"a": Threshold("a", above=1)}, run, {"n": 20})
    report = finding.report(None, {"n": n})
    if n < FEWEST:
        assert report.verdict == "not judged" and report.exit_code == 0
        assert report.summary == f"Numbers.\n\nNot judged: n = {n} is too few; use at least 6 (--n 6)."
    else:
        assert report.verdict == verdict and report.summary.endswith("because.")


def test_a_closed_standard_error_is_no_error() -> None:
    """With a command that reports its progress there."""
    command = f"{sys.executable} -m workbench patch --task ioi --model tiny --n 2 --no-cache --json 2>&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and done.stdout.startswith("{") and "error" not in done.stdout
