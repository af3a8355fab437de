"""Spellings of arguments that are accepted, and mistakes that errors name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from tests.families import hooked, hugging_face, paired
from workbench import registry
from workbench.errors import UnknownName, UsageError
from workbench.models.language import HookedLM
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prepend_bos": True}, "prepend_bos=True: expected False or None, because this tokeniser has no BOS token"),
        ({"attention_mask": torch.ones(1, 3)}, r"attention_mask=.*: expected a tensor of the ids' shape, \(1, 4\)"),
        ({"attention_mask": torch.full((1, 4), 2)}, "expected 1 for tokens and 0 for padding"),
        ({"attention_mask": torch.zeros(1, 4)}, "at least one token in every row"),
        ({"input": torch.tensor([[3]]), "return_type": "loss"}, "because one token has no next one to predict"),
        ({"input": torch.tensor([[3, 4]]), "prepend_bos": True}, "because the input is ids, which are taken as they"),
    ],
)
def test_a_forward_refuses_what_does_not_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        wb.load("tiny")(**{"input": "So Mary met John", **arguments})


def test_more_positions_than_there_are_is_refused_where_they_are_counted() -> None:
    gpt2, ids = hooked("gpt2"), torch.zeros(1, 65).long()
    with pytest.raises(UsageError, match=r"input=.*: expected at most 64 tokens, because the context length of the"):
        gpt2(ids)
    pairs = wb.PairedInputs("long", (ids[0],), (ids[0] + 1,), ((1,),), ((2,),))
    with pytest.raises(UsageError, match=r"clean\[0\]=.*: expected at most 64 tokens"):
        wb.sweep(gpt2, pairs)
    assert torch.equal(MODEL(ids), MODEL.hf(ids, use_cache=False).logits)  # rotary positions go on


@pytest.mark.parametrize("ids", [torch.tensor([3, 101]), torch.tensor([3, -1]), torch.tensor([3.0, 4.0])])
def test_ids_that_the_model_cannot_read_are_refused_everywhere(ids: torch.Tensor) -> None:
    pairs = wb.PairedInputs("odd", (torch.tensor([3, 4]),), (ids,), ((1,),), ((2,),))
    calls = {
        r"corrupt\[0\]=": [wb.sweep, wb.path_patch, wb.record, wb.estimate, lambda m, x: wb.run(m, x, [])],
        "prompt=": [lambda m, _: wb.generate(m, ids), lambda m, _: wb.attention_view(m, ids, 0, 0)],
        "input=": [lambda m, _: m(ids), lambda m, _: m.run_with_cache(ids)],
    }
    for name, of_name in calls.items():
        for call in of_name:
            with pytest.raises(UsageError, match=f"^{name}.*token ids"):
                call(MODEL, pairs)


def test_a_model_without_a_tokeniser_says_so() -> None:
    calls = (lambda x: MODEL(x), MODEL.to_single_token, MODEL.to_str_tokens, lambda x: wb.generate(MODEL, x))
    for call in calls:
        with pytest.raises(UsageError, match=r"='So': expected token ids.*because th.* model has no token"):
            call("So")


def test_gradients_need_weights_that_have_them() -> None:
    model, ids = hooked("llama"), torch.tensor([[3, 4, 5]])
    for call in (
        lambda: model.run_with_cache(ids, return_type="loss", incl_bwd=True),
        lambda: model.run_with_hooks(ids, bwd_hooks=[("blocks.1.attn.hook_z", lambda x, hook: None)]),
    ):
        with pytest.raises(
            UsageError, match=r"nothing in this run requires gradients, .* model\.requires_grad_\(True\)"
        ):
            call()
    trainable = HookedLM(hugging_face("llama").requires_grad_(True))
    with pytest.raises(UsageError, match=r"incl_bwd=True: expected a run that returns one number.*return_type='loss'"):
        trainable.run_with_cache(ids, incl_bwd=True)
    _, cache = trainable.run_with_cache(ids, return_type="loss", incl_bwd=True)
    assert cache["blocks.1.attn.hook_z_grad"].abs().max() > 0
    seen: list[torch.Tensor] = []

    def inserted(x: torch.Tensor, hook: object) -> torch.Tensor:
        return x * torch.ones((), requires_grad=True)

    hooks: Any = [("blocks.0.attn.hook_z", inserted)]
    with model.hooks(fwd_hooks=hooks, bwd_hooks=[("blocks.1.attn.hook_z", lambda x, hook: seen.append(x))]):
        model(ids, return_type="loss").backward()
    assert len(seen) == 1  # an edit that requires gradients is enough


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ("blocks.1.attn.hook_z", r"fwd_hooks='blocks.1.attn.hook_z': expected a list of pairs"),
        ([("blocks.1.attn.hook_z",)], "expected a list of pairs"),
        ([("blocks.1.attn.hook_z", 5)], r"hook=5: expected a function f\(activation, hook\)"),
        (
            [("blocks.1.attn.hook_z", lambda x: x)],
            r"f\(activation, hook\), because it is called with the hook point as",
        ),
        ([(5, lambda x, hook: x)], "name=5: expected the name of a hook point, or a filter"),
        ([("hook_z", lambda x, hook: x)], "Unknown site 'hook_z'"),
    ],
)
def test_hooks_that_cannot_be_called_are_refused(hook: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MODEL.run_with_hooks(torch.tensor([[3, 4]]), fwd_hooks=hook)
    if isinstance(hook, list) and len(hook[0]) == 2:
        with pytest.raises(UsageError, match=message):
            MODEL.add_hook(*hook[0])
    assert not MODEL.has_active_hooks()


@pytest.mark.parametrize("names", [5, [], [None], [5], {}])
def test_a_filter_of_names_that_is_none_is_refused(names: Any) -> None:
    with pytest.raises(UsageError, match=r"name(s_filter)?=.*: expected"):
        MODEL.run_with_cache(torch.tensor([[3, 4]]), names_filter=names)


def test_the_axis_of_several_inputs_cannot_be_left_out() -> None:
    ids = torch.tensor([[3, 4], [5, 6]])
    for as_object in (True, False):
        with pytest.raises(UsageError, match="remove_batch_dim=True: expected False, because the batch has 2 inputs"):
            MODEL.run_with_cache(ids, remove_batch_dim=True, return_cache_object=as_object)
        _, cache = MODEL.run_with_cache(ids[:1], remove_batch_dim=True, return_cache_object=as_object)
        assert cache["blocks.0.hook_resid_pre"].shape == (2, 48)


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
