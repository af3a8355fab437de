"""Spellings of arguments that are accepted, and mistakes that errors name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from tests.families import hooked, paired
from workbench import registry
from workbench.errors import UnknownName, UsageError
from workbench.results.sweep import Sweep

MODEL, TASK = hooked("llama"), paired(2)


def test_receivers_are_heads_however_they_are_written() -> None:
    expected = wb.path_patch(MODEL, TASK, [wb.Head(2, 1)])
    for written in ("2.1", (2, 1)):
        result = wb.path_patch(MODEL, TASK, [written])
        assert np.array_equal(result.values, expected.values, equal_nan=True)
        assert result.info["receivers"] == ["2.1"]


def test_one_layer_and_one_head_need_no_list() -> None:
    assert wb.sweep(MODEL, TASK, layers=1, heads=2).values.shape == (1, 1, 2)


def test_one_position_to_attend_to_needs_no_tuple() -> None:
    one, many = (wb.sweep(MODEL, TASK, site="pattern", edit="pattern", attend_to=to) for to in ("S", ("S",)))
    assert np.array_equal(one.values, many.values)


def test_denoising_belongs_to_patches() -> None:
    with pytest.raises(UsageError, match="because denoising inserts clean values"):
        wb.sweep(MODEL, TASK, edit="zero", direction="denoise")
    assert wb.sweep(MODEL, TASK, edit="zero").info["direction"] == "noise"
    assert wb.sweep(MODEL, TASK).info["direction"] == "denoise"


def test_a_name_that_is_no_site_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"attn\.hook_z"):
        wb.sweep(MODEL, TASK, site="hook_zz")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], r"input=\[\]: expected a text, a list of texts"),
        ("", "input='': expected a text that has tokens"),
        (torch.tensor([[1, 589]]), "token ids from 0 to 588, because the vocabulary has 589 tokens, and 589 is not"),
        (torch.tensor([[-1]]), "token ids from 0 to 588"),
        (torch.zeros(1, 0).long(), "expected token ids"),
    ],
)
def test_what_the_model_cannot_read_is_refused(tokens: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        wb.load("tiny")(tokens)


def test_a_metric_gives_one_number_a_row() -> None:
    with pytest.raises(UsageError, match=r"returned 0, expected one number per row"):
        wb.sweep(MODEL, TASK, metric=lambda logits, example: 0)  # pyright: ignore[reportArgumentType] - a wrong type on purpose


def test_rounding_is_no_gap_to_divide_by() -> None:
    base = np.array([6.14, 6.2])
    sweep = Sweep(
        values=np.array([[base + 7e-6]]), base=base, source=base + 4e-6, axes=("layer", "head"), labels={}, info={}
    )
    assert sweep.effect is not None and np.isnan(sweep.effect).all()
    assert "to float32 precision" in sweep.effect_note


def test_a_task_file_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "broken_tasks"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "half.py").write_text("syntax error (")
    (package / "other.py").write_text("class task: name = 'another'")
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    tasks = registry.Registry("broken_tasks", "task")
    with pytest.raises(registry.BrokenEntry, match=r"half\.py cannot be loaded: SyntaxError"):
        tasks["half"]
    with pytest.raises(registry.BrokenEntry, match=r"other\.py names its task 'another'"):
        tasks["other"]


def test_the_configuration_says_what_the_model_is() -> None:
    assert (MODEL.cfg.act_fn, MODEL.cfg.gated_mlp, MODEL.cfg.final_rms) == ("silu", True, True)
    gpt2 = hooked("gpt2").cfg
    assert (gpt2.act_fn, gpt2.gated_mlp, gpt2.final_rms) == ("gelu_new", False, False)
