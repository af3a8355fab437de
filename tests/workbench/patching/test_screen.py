"""`screen` and `sweep(where=)`: cells that are run equal the sweep's, the others are marked as estimates."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from tests.families import FAMILIES, hooked, hugging_face, paired
from workbench import cli
from workbench.cli import patch
from workbench.errors import UnknownName, UsageError
from workbench.models import bfloat16
from workbench.models.language import HookedLM
from workbench.patching.screen import ESTIMATES

INPUTS = paired(5)
METHODS = ["attribution", "bfloat16"]


@pytest.fixture(autouse=True)
def any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 is tested on every processor; that it is refused has a test of its own."""
    monkeypatch.setattr(bfloat16, "has_bfloat16", lambda device: True)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_cells_that_are_run_are_the_sweeps(family: str, method: str) -> None:
    model = hooked(family)
    full, screen = wb.sweep(model, INPUTS), wb.screen(model, INPUTS, method=method)
    assert screen.confirmed.sum() == 5  # a quarter of 18, rounded up
    np.testing.assert_allclose(screen.exact.values[screen.confirmed], full.values[screen.confirmed], atol=1e-5)
    assert np.isnan(screen.exact.values[~screen.confirmed]).all()
    assert np.isfinite(screen.estimate.values).all()
    ranked = np.sort(screen.estimate.ranking().ravel())[::-1]
    assert screen.estimate.ranking()[screen.confirmed].min() == ranked[4]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "arguments",
    [
        {"edit": "mean"},
        {"edit": "resample", "site": "q"},
        {"edit": "pattern", "site": "pattern", "attend_to": "S", "positions": ["end"]},
        {"edit": "identity", "site": "pattern", "u": 0.3},
        {"edit": "scale", "site": "v", "factor": 0.5, "by": "position", "positions": ["S", "end"]},
        {"edit": "add", "vector": torch.ones(8)},
        {"edit": "add", "site": "mlp_out", "by": "layer", "vector": torch.ones(48)},
        {"site": "k", "by": ["head", "position"], "direction": "noise"},
        {"site": "resid_pre", "by": "position", "layers": [1, 2], "metric": "answer_log_probability"},
        {"metric": "kl_divergence", "heads": [0, 3]},
    ],
)
def test_every_kind_of_sweep_can_be_screened(method: str, arguments: dict[str, Any]) -> None:
    model = hooked("gemma3")
    inputs = paired(6)
    screen, full = wb.screen(model, inputs, method=method, confirm=1, **arguments), wb.sweep(model, inputs, **arguments)
    assert np.array_equal(screen.exact.values, full.values)
    assert screen.estimate.values.shape == full.values.shape
    assert screen.exact.info == full.info


def test_bfloat16_is_near_and_leaves_the_model_alone() -> None:
    model = hooked("llama")
    screen = wb.screen(model, INPUTS, method="bfloat16", confirm=1)
    assert model.dtype == torch.float32
    difference = np.abs(screen.estimate.mean_delta - screen.exact.mean_delta).max()
    assert 0 < difference < 0.05 * np.abs(screen.exact.mean_delta).max()


def test_weights_are_frozen_in_the_backward_pass_and_thaw() -> None:
    model, requires_grad = HookedLM(hugging_face("llama").requires_grad_(True)), []

    def metric(logits: torch.Tensor, example: Any) -> torch.Tensor:
        if logits.requires_grad:
            requires_grad.append([p.requires_grad for p in model.parameters()])
        return logits[:, example.answer[0]]

    wb.screen(model, INPUTS, metric=metric)
    assert requires_grad and not any(any(each) for each in requires_grad)
    assert all(p.requires_grad for p in model.parameters())
    assert all(p.grad is None for p in model.parameters())


def test_a_small_memory_limit_changes_no_estimate() -> None:
    model = hooked("llama")
    wide, narrow = (wb.screen(model, INPUTS, memory_gb=gb).estimate for gb in (1, 2e-4))
    np.testing.assert_allclose(wide.values, narrow.values, atol=1e-5)


def test_top_and_table() -> None:
    model = hooked("llama")
    screen, full = wb.screen(model, INPUTS, confirm=0.5), wb.sweep(model, INPUTS)
    table = screen.table()
    assert sum(table["confirmed"]) == 9 and all(table["estimate"].notna())
    assert all(table["mean_delta"].notna() == table["confirmed"])
    assert screen.top(2) == screen.exact.top(2) and len(screen.top(percent=20)) == len(full.top(percent=20))
    with pytest.raises(
        UsageError, match=r"k=10: expected at most 9 heads, not 10, because 9 heads were run exactly\. Raise confirm"
    ):
        screen.top(10)
    assert "9 of 18 cells run exactly, chosen by attribution" in repr(screen)
    assert "9 of 18 cells run exactly" in screen._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "atribution"}, UnknownName, "attribution"),
        ({"confirm": 0}, UsageError, "above 0 and of at most 1"),
        ({"confirm": 1.5}, UsageError, "above 0 and of at most 1"),
        ({"confirm": float("nan")}, UsageError, "above 0 and of at most 1"),
        ({"edit": torch.relu}, UsageError, "expected the name of an edit"),
        ({"metric": "accuracy"}, UsageError, "'accuracy' has no gradient"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        wb.screen(hooked("llama"), INPUTS, **arguments)


def test_bfloat16_is_refused_where_the_processor_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfloat16, "has_bfloat16", lambda device: False)
    with pytest.raises(UsageError, match="Use method='attribution'"):
        wb.screen(hooked("llama"), INPUTS, method="bfloat16")


def test_attribution_needs_a_model_that_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = hooked("llama")
    monkeypatch.setattr(model, "resumable", False)
    with pytest.raises(UsageError, match="resume exactly"):
        wb.screen(model, INPUTS)


def test_a_sweep_of_some_cells(tmp_path: Any) -> None:
    model = hooked("gpt2")
    full, where = wb.sweep(model, INPUTS), np.zeros((3, 6), bool)
    where[1, 2] = where[2, 5] = True
    for _ in range(2):
        partial = wb.sweep(model, INPUTS, where=where, cache=tmp_path)
        np.testing.assert_allclose(partial.values[where], full.values[where], atol=1e-5)
        assert np.isnan(partial.values[~where]).all()
        assert partial.info["cells"] == 2 * len(INPUTS)
    for wrong in (np.zeros((3, 6)), np.zeros((6, 3), bool)):
        with pytest.raises(UsageError, match=r"expected a bool array of shape \(3, 6\) \(3 layer × 6 head\)"):
            wb.sweep(model, INPUTS, where=wrong)
    with pytest.raises(UsageError, match="at least one True cell"):
        wb.sweep(model, INPUTS, where=np.zeros((3, 6), bool))


def test_a_cell_that_was_run_and_has_no_value_was_run() -> None:
    """`confirmed` says what was run, whatever the result."""

    def metric(logits: torch.Tensor, example: Any) -> torch.Tensor:
        return logits[:, 0] if logits.requires_grad else logits[:, 0] * torch.nan

    screen = wb.screen(hooked("llama"), INPUTS, metric=metric)
    assert screen.confirmed.sum() == 5 and np.isnan(screen.exact.values).all()


# --- the command


def test_the_command_screens(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["patch", "--task", "ioi", "--model", "tiny", "--n", "6", "--no-cache"]
    assert cli.main([*command, "--json"]) == 0
    full = json.loads(capsys.readouterr().out)["cells"]
    assert cli.main([*command, "--screen", "attribution", "--confirm", "0.5", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    confirmed = [i for i, cell in enumerate(answer["cells"]) if cell["confirmed"]]
    assert len(confirmed) == -(-len(full) // 2) and "chosen by attribution" in answer["screen"]
    for i, cell in enumerate(answer["cells"]):
        assert isinstance(cell["estimate"], float)
        expected = full[i]["mean_delta"] if i in confirmed else None
        assert cell["mean_delta"] == pytest.approx(expected, abs=1e-5)
    assert cli.main([*command, "--screen", "attribution"]) == 0
    text = capsys.readouterr().out
    assert "chosen by attribution on the same prompts" in text and "nan" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--screen", "atribution"], "attribution"),
        (["--confirm", "0.3"], "--confirm is only for --screen"),
        (["--screen", "attribution", "--confirm", "2"], "above 0 and at most 1"),
    ],
)
def test_the_command_refuses_in_one_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["patch", "--task", "ioi", "--model", "tiny", *options]) == 2
    output = capsys.readouterr()
    assert message in output.err and len(output.err.strip().splitlines()) == 1 and not output.out


def test_the_methods_named_by_the_command_are_the_screens() -> None:
    assert tuple(ESTIMATES) == patch.SCREENS
