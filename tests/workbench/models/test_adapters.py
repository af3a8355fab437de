"""A model with an adapter of peft: its numbers are peft's, in every state of the adapter, and those of the merged model
within rounding."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.families import nudged, paired
from tests.oracle.plain_hooks import edited, output_projection
from tests.small_adapters import ADAPTERS, merged, with_adapter
from workbench.core import Edit
from workbench.errors import UnsupportedModel
from workbench.models.adapters import require_same_forward
from workbench.models.language import HookedLM

IDS = torch.randint(0, 101, (2, 9), generator=torch.Generator().manual_seed(4))
WEIGHTS = ("W_Q", "W_K", "W_V", "W_O", "b_V", "b_O")


def _close(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    return bool(np.abs(a - b).max() <= 1e-4 * max(1.0, float(np.abs(b).max())))


@pytest.mark.parametrize("name", ADAPTERS)
def test_forwards_weights_and_sweeps_are_those_of_peft_and_of_the_merged_model(name: str) -> None:
    wrapped, family = with_adapter(name), ADAPTERS[name][0]
    model, other, base = HookedLM(wrapped), HookedLM(merged(wrapped)), HookedLM(nudged(family))
    assert model.resumable and model.peft is wrapped and model.hf is wrapped.get_base_model()
    logits = wrapped(input_ids=IDS).logits
    assert torch.equal(model(IDS), logits)
    assert not _close(base(IDS), logits)
    differs = 0
    for layer in range(model.n_layers):
        for weight in WEIGHTS:
            adapted, reference = (getattr(m.blocks[layer].attn, weight) for m in (model, other))
            assert _close(adapted, reference), (layer, weight)
            differs += not _close(getattr(base.blocks[layer].attn, weight), reference)
    for adapted, reference in ((model.W_U, other.W_U), (model.b_U, other.b_U), (model.W_E, other.W_E)):
        assert _close(adapted, reference)
    assert _close(model.accumulated_bias(3), other.accumulated_bias(3))
    assert differs
    task = paired(3)
    adapted, reference, without = (wb.sweep(m, task).values for m in (model, other, base))
    assert _close(adapted, reference) and not _close(without, reference)


@pytest.mark.parametrize("name", ["lora", "dora", "gpt2", "another head"])
def test_edits_are_those_of_plain_hooks_on_the_peft_model(name: str) -> None:
    wrapped, family, task = with_adapter(name), ADAPTERS[name][0], paired(3)
    model = HookedLM(wrapped)
    sweep = wb.sweep(model, task, edit="zero", metric="logit_difference")
    for layer, head, example in ((0, 1, 0), (1, 3, 1), (2, 5, 2)):
        columns = slice(head * model.d_head, (head + 1) * model.d_head)

        def zero(z: Tensor, columns: slice = columns) -> Tensor:
            z = z.clone()
            z[..., columns] = 0
            return z

        with edited((output_projection(wrapped.get_base_model(), family, layer), "input", zero)):
            logits = wrapped(input_ids=task.clean[example][None]).logits[0, -1]
        expected = logits[list(task.answer[example])].mean() - logits[list(task.wrong[example])].mean()
        assert _close(sweep.values[layer, head, example], expected)


def test_activations_are_those_of_the_peft_model() -> None:
    wrapped = with_adapter("lora")
    model, task, z = HookedLM(wrapped), paired(2), []
    recorded = wb.record(model, task, "z").clean["z"][0]
    output = output_projection(wrapped.get_base_model(), "llama", 0)
    hook = output.register_forward_pre_hook(lambda _, args: z.append(args[0]))
    wrapped(input_ids=task.clean[0][None])
    hook.remove()
    assert _close(recorded[0].flatten(1), z[0][0])


# --- states of an adapter: results and the cache follow ---------------------------------------------------------------


@contextmanager
def _off(wrapped: Any) -> Iterator[None]:
    with wrapped.disable_adapter():
        yield


@contextmanager
def _twice(wrapped: Any) -> Iterator[None]:
    layers = [m for m in wrapped.modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
    for layer in layers:
        layer.scaling["default"] *= 2
    yield
    for layer in layers:
        layer.scaling["default"] /= 2


@contextmanager
def _merged(wrapped: Any) -> Iterator[None]:
    wrapped.merge_adapter()
    yield
    wrapped.unmerge_adapter()


@contextmanager
def _another(wrapped: Any) -> Iterator[None]:
    wrapped.set_adapter("other")
    yield
    wrapped.set_adapter("default")


@contextmanager
def _both(wrapped: Any) -> Iterator[None]:
    wrapped.base_model.set_adapter(["default", "other"])
    yield
    wrapped.base_model.set_adapter(["default"])


STATES: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "off": (_off, ["off", "off"]),
    "scaled": (_twice, ["active", "off"]),
    "merged": (_merged, ["merged", "off"]),
    "another": (_another, ["off", "active"]),
    "both": (_both, ["active", "active"]),
}


def _with_two() -> Any:
    wrapped = with_adapter("lora")
    torch.manual_seed(7)
    wrapped.add_adapter("other", ADAPTERS["lora"][1]())
    return wrapped.eval().requires_grad_(False)


@pytest.mark.parametrize("state", STATES)
def test_results_scores_and_the_cache_follow_the_adapter(state: str, tmp_path: Path) -> None:
    """As a model that was in that state from the start gives them."""
    switch, reported = STATES[state]
    wrapped, task = _with_two(), paired(3)
    model = HookedLM(wrapped)
    before = wb.sweep(model, task, cache=tmp_path).values
    matrix = model.blocks[1].attn.W_V
    with switch(wrapped):
        reference = HookedLM(copy.deepcopy(wrapped))
        expected = wb.sweep(reference, task, cache=False).values
        for cache in (tmp_path, False, tmp_path):
            sweep = wb.sweep(model, task, cache=cache)
            assert np.array_equal(sweep.values, expected)
        assert [adapter["state"] for adapter in sweep.info["adapters"]] == reported
        assert torch.equal(model.blocks[1].attn.W_V, reference.blocks[1].attn.W_V)
        if state != "merged":  # the same map, in other matrices
            assert not _close(before, expected) and not _close(matrix, model.blocks[1].attn.W_V)
    assert np.allclose(wb.sweep(model, task, cache=tmp_path).values, before, atol=1e-3)
    if state != "merged":  # unmerging rounds the weights
        assert np.array_equal(wb.sweep(model, task, cache=tmp_path).values, before)


def test_head_scores_are_those_of_the_merged_model() -> None:
    """Scores of weights, direct logit attribution and patterns; the random model has no adapter."""
    tiny, task = wb.load("tiny"), wb.task("ioi", n=6, seed=0)
    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=4, init_lora_weights=False, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(copy.deepcopy(tiny.hf), config).eval()
    adapted, reference, without = (
        wb.scores(HookedLM(hf, tiny.tokenizer), task) for hf in (wrapped, merged(wrapped), tiny.hf)
    )
    assert {"copy_score", "direct_logit_attribution", "ov_norm", "qk_rank", "induction"} <= set(adapted.names)
    for name in adapted.names:
        assert np.allclose(adapted[name], reference[name], atol=1e-4, equal_nan=True), name
        assert np.array_equal(adapted.random[name], without.random[name], equal_nan=True), name
        if not np.isnan(adapted[name]).all():
            assert not np.allclose(without[name], reference[name], atol=1e-3), name


def test_interrupted_sweeps_resume_with_an_adapter(tmp_path: Path, forwards: list[int]) -> None:
    model, task = HookedLM(with_adapter("lora")), paired(4)
    first = wb.sweep(model, task, cache=tmp_path).values
    del forwards[:]
    again = HookedLM(with_adapter("lora"))
    del forwards[:]
    assert np.array_equal(wb.sweep(again, task, cache=tmp_path).values, first)
    assert forwards == []
    assert HookedLM(nudged("llama")).identity.current() != model.identity.current()


def test_several_edits_at_once_are_those_of_the_merged_model() -> None:
    wrapped = with_adapter("lora")
    zeroed = [Edit("z", 1, head=head, kind="zero") for head in range(3)]
    adapted, reference = (wb.run(HookedLM(hf), paired(2), zeroed) for hf in (wrapped, merged(wrapped)))
    assert _close(adapted.logits, reference.logits) and not _close(adapted.logits, adapted.base_logits)


def test_adapters_without_a_wrapper_are_hooked_too() -> None:
    """As transformers' own ``add_adapter`` places them."""
    hf = nudged("llama")
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft.inject_adapter_in_model(ADAPTERS["lora"][1](), hf)
    model = HookedLM(hf.eval())
    assert model.peft is None and torch.equal(model(IDS), hf(IDS).logits)
    adapted, with_it = model.blocks[0].attn.W_V, model.identity.current()
    for layer in hf.modules():
        if isinstance(layer, peft.tuners.lora.LoraLayer):
            layer.enable_adapters(False)
    assert torch.equal(model.blocks[0].attn.W_V, HookedLM(nudged("llama")).blocks[0].attn.W_V)
    assert not _close(model.blocks[0].attn.W_V, adapted)
    assert model.identity.current() not in (with_it, None)


def test_results_name_the_adapter() -> None:
    model = HookedLM(with_adapter("lora"), provenance={"adapter": {"adapter": "default", "sha256": "abc"}})
    info = wb.sweep(model, paired(2), layers=1).info
    assert info["adapters"] == [{"name": "default", "state": "active", "scaling": [2.0], "sha256": "abc"}]
    json.dumps(info)
    assert "adapters" not in wb.sweep(HookedLM(nudged("llama")), paired(2), layers=1).info


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["PREFIX_TUNING", "PROMPT_TUNING", "ADAPTION_PROMPT"])
def test_adapters_that_add_positions_are_refused(kind: str) -> None:
    config: Any = {
        "PREFIX_TUNING": lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
        "PROMPT_TUNING": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
        "ADAPTION_PROMPT": lambda: peft.AdaptionPromptConfig(
            task_type="CAUSAL_LM", adapter_len=2, adapter_layers=2, target_modules="self_attn"
        ),
    }[kind]()
    wrapped = peft.get_peft_model(nudged("llama"), config)
    with pytest.raises(UnsupportedModel, match=rf"Adapter 'default' is of type {kind}, which adds positions"):
        HookedLM(wrapped)


def test_a_wrapper_that_does_more_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped, forward = with_adapter("lora"), peft.PeftModelForCausalLM.forward

    def louder(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        output.logits = output.logits * 2
        return output

    monkeypatch.setattr(peft.PeftModelForCausalLM, "forward", louder)
    with pytest.raises(UnsupportedModel, match="PeftModelForCausalLM does more than its layers: its logits differ by"):
        HookedLM(wrapped)
    monkeypatch.setattr(peft.PeftModelForCausalLM, "forward", lambda self, input_ids, task_ids: None)
    with pytest.raises(UnsupportedModel, match="cannot be called with token ids alone"):
        HookedLM(wrapped)


def test_wrapping_leaves_the_training_mode_of_every_module() -> None:
    wrapped = with_adapter("lora")
    head = wrapped.get_base_model().lm_head.train()
    require_same_forward(wrapped, wrapped.get_base_model(), IDS)
    assert [module for module in wrapped.modules() if module.training] == [head]
