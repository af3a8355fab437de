"""TransformerLens's own tools on our models, and its own model of the same weights beside ours."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformer_lens import ActivationCache, head_detector, patching
from transformer_lens.model_bridge import TransformerBridge
from transformers import PreTrainedTokenizerFast

from tests.families import VOCABULARY, nudged, paired
from workbench.errors import UnknownName, UsageError
from workbench.models.language import HookedLM
from workbench.patching.sweep import sweep

INPUTS = paired(2, lengths=(7,))
CLEAN, CORRUPT = torch.stack(INPUTS.clean), torch.stack(INPUTS.corrupt)
each_family = pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])


@cache
def hooked_lm(family: str) -> HookedLM:
    return HookedLM(nudged(family), tokenizer())


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """One word a token: ``w0 w1 …``; no token is added at the start."""
    words = {f"w{i}": i for i in range(VOCABULARY)}
    tool = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tool.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tool, bos_token="w0", eos_token="w0", unk_token="w0")


def logit_differences(logits: Tensor) -> Tensor:
    rows = [
        row[-1, list(answer)].mean() - row[-1, list(wrong)].mean()
        for row, answer, wrong in zip(logits, INPUTS.answer, INPUTS.wrong, strict=True)
    ]
    return torch.stack(rows)


#: TransformerLens's tool → our site, our axes beside the layer, and how its axes must be turned.
TOOLS = {
    "attn_head_out_all_pos": ("z", "head", None),
    "attn_head_out_by_pos": ("z", ["head", "position"], (0, 2, 1, 3)),
    "attn_head_q_all_pos": ("attn.hook_q", "head", None),
    "attn_head_k_all_pos": ("attn.hook_k", "head", None),
    "attn_head_v_all_pos": ("v", "head", None),
    "attn_head_v_by_pos": ("v", ["head", "position"], (0, 2, 1, 3)),
    "attn_head_pattern_all_pos": ("pattern", "head", None),
    "attn_head_pattern_by_pos": ("pattern", ["head", "position"], None),
    "resid_pre": ("resid_pre", "position", None),
    "resid_mid": ("resid_mid", "position", None),
    "attn_out": ("attn_out", "position", None),
    "mlp_out": ("mlp_out", "position", None),
}

#: Heads times positions is many forwards: one family each.
BY_POSITION = {"attn_head_out_by_pos": "llama", "attn_head_v_by_pos": "gpt2", "attn_head_pattern_by_pos": "gpt_neox"}
CASES = [(f, tool) for tool in TOOLS for f in ("llama", "gpt2", "gpt_neox") if BY_POSITION.get(tool, f) == f]


@pytest.mark.parametrize(("family", "tool"), CASES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_its_patching_tools_find_our_numbers(family: str, tool: str) -> None:
    if tool == "resid_mid" and family == "gpt_neox":
        with pytest.raises(UnknownName, match="no such site"):
            hooked_lm(family).hook_name("resid_mid", 0)
        return
    model, (site, by, turn) = hooked_lm(family), TOOLS[tool]
    _, clean_cache = model.run_with_cache(CLEAN)
    patch = getattr(patching, f"get_act_patch_{tool}")
    patched = patch(model, CORRUPT, clean_cache, logit_differences, reduce="none", baseline=True)
    result = sweep(model, INPUTS, site=site, by=by, positions="all" if "position" in by else None)
    values = patched.values if turn is None else patched.values.permute(turn)
    assert result.values.shape == tuple(values.shape)
    assert np.abs(result.values - values.numpy()).max() < 1e-4
    assert np.abs(result.base - patched.baseline.numpy()).max() < 1e-4
    assert np.abs(result.delta).max() > 1e-2


@each_family
def test_its_head_detector_runs(family: str) -> None:
    model = hooked_lm(family)
    text = "w5 w9 w23 w7 w5 w9 w23 w7"
    for kind in ("previous_token_head", "duplicate_token_head", "induction_head"):
        scores = head_detector.detect_head(model, text, kind)
        assert scores.shape == (model.n_layers, model.n_heads)
    pattern = model.run_with_cache(text)[1]["pattern", 1][0]
    scores = head_detector.detect_head(model, text, "previous_token_head")
    for head in range(model.n_heads):
        expected = pattern[head].diagonal(-1).sum() / pattern[head].sum()
        assert float(scores[1, head]) == pytest.approx(float(expected), abs=1e-5)
    scores = head_detector.detect_head(model, [text, "w1 w2 w1 w2 w1 w2 w1 w2"], "induction_head", error_measure="abs")
    assert scores.shape == (model.n_layers, model.n_heads)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3", "qwen3", "gpt2", "gpt_neox"])
def test_attributions_add_up_to_the_logit_difference(family: str) -> None:
    model = HookedLM(nudged(family), tokenizer())
    logits, cache = model.run_with_cache(CLEAN)
    assert isinstance(cache, ActivationCache)
    right, wrong = torch.tensor([3, 14]), torch.tensor([15, 92])
    parts, labels = cache.decompose_resid(return_labels=True, mode="all")
    assert len(labels) == len(parts)
    attributions = cache.logit_attrs(parts, tokens=right, incorrect_tokens=wrong)[..., -1].sum(0)
    rows = torch.arange(2)
    # What no component carries: the final norm's bias, and the unembedding's.
    norm = model.module(model.anatomy.final_norm)
    bias = getattr(norm, "bias", torch.zeros(model.d_model))
    constant = (model.W_U[:, right] - model.W_U[:, wrong]).T @ bias + model.b_U[right] - model.b_U[wrong]
    last = logits[:, -1]
    if model.final_softcap:
        last = model.final_softcap * torch.atanh(last / model.final_softcap)
    expected = last[rows, right] - last[rows, wrong]
    assert torch.allclose(attributions + constant, expected, atol=1e-4)
    assert expected.abs().max() > 1e-1
    if family == "llama":
        assert constant.abs().max() == 0


@each_family
def test_head_results_add_up_to_the_attention_branch(family: str) -> None:
    model = hooked_lm(family)
    _, cache = model.run_with_cache(CLEAN)
    results, labels = cache.stack_head_results(layer=-1, return_labels=True)
    assert labels[: model.n_heads] == [f"L0H{h}" for h in range(model.n_heads)]
    for layer in range(model.n_layers):
        heads = results[layer * model.n_heads : (layer + 1) * model.n_heads].sum(0)
        assert torch.allclose(heads + model.blocks[layer].attn.b_O, cache["attn_out", layer], atol=1e-5)
    biases = [model.accumulated_bias(i) for i in range(model.n_layers + 1)]
    mlp = cache.decompose_resid(mode="mlp").sum(0)
    everything = results.sum(0) + mlp + sum(model.blocks[i].attn.b_O for i in range(model.n_layers))
    assert torch.allclose(everything, cache["resid_post", model.n_layers - 1], atol=1e-4)
    assert biases[0].abs().max() == 0
    if family != "llama":
        assert biases[-1].abs().max() > 0


def test_its_cache_tools_read_ours() -> None:
    model = hooked_lm("gpt2")
    logits, cache = model.run_with_cache(CLEAN)
    stream, labels = cache.accumulated_resid(return_labels=True, incl_mid=True)
    assert torch.allclose(stream[-1], cache["resid_post", 2])
    assert labels[-1] == "final_post"
    lens = cache.logit_lens()
    assert torch.allclose(lens.readout.values[-1], logits[:, -1], atol=1e-4)
    _, one = model.run_with_cache(CLEAN[:1], remove_batch_dim=True)
    assert one["z", 0].shape == (7, 6, 8)
    with pytest.raises(UsageError, match="batch"):
        model.run_with_cache(CLEAN, remove_batch_dim=True)


# --- its own model of the same weights --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bridges(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TransformerBridge]:
    """TransformerLens needs a tokenizer that was loaded from a folder."""
    folder = str(tmp_path_factory.mktemp("tokenizer"))
    tokenizer().save_pretrained(folder)

    @cache
    def bridge(family: str) -> TransformerBridge:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = PreTrainedTokenizerFast.from_pretrained(folder)
            return TransformerBridge.boot_transformers(
                f"tiny-{family}", hf_model=nudged(family, "eager"), tokenizer=loaded
            )

    return bridge


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "gpt_neox"])
def test_every_shared_hook_has_the_value_of_the_bridge(
    family: str, bridges: Callable[[str], TransformerBridge]
) -> None:
    model, bridge = hooked_lm(family), bridges(family)
    expected, bridge_cache = bridge.run_with_cache(CLEAN)
    logits, cache = model.run_with_cache(CLEAN)
    assert torch.allclose(logits, expected, atol=1e-5)
    shared = [name for name in model.hook_dict if name in bridge_cache]
    # It has no name for rotated q and k where one matrix makes q, k and v.
    missing = {name.rsplit(".", 1)[-1] for name in set(model.hook_dict) - set(shared)}
    assert missing == ({"hook_rot_q", "hook_rot_k"} if family == "gpt_neox" else set())
    for name in shared:
        value = bridge_cache[name]
        value = value.transpose(1, 2) if name.endswith("_normed") else value  # the bridge's heads come first
        assert value.shape == cache[name].shape, name
        hidden = cache[name] < -1e30  # how low a hidden score is differs
        assert torch.allclose(cache[name].masked_fill(hidden, 0), value.masked_fill(hidden, 0), atol=1e-5), name


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "gpt_neox"])
def test_weights_by_head_are_those_of_the_bridge(family: str, bridges: Callable[[str], TransformerBridge]) -> None:
    model, bridge = hooked_lm(family), bridges(family)
    for block, bridge_block in zip(model.blocks, bridge.blocks, strict=True):
        for name in ("W_Q", "W_K", "W_V", "W_O"):
            assert torch.equal(getattr(block.attn, name), getattr(bridge_block.attn, name)), name
    assert torch.equal(model.W_U, bridge.W_U)
    assert torch.equal(model.W_E, bridge.W_E)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize(
    "site", ["attn.hook_z", "attn.hook_v", "attn.hook_q", "attn.hook_pattern", "hook_mlp_out", "hook_resid_pre"]
)
def test_the_same_hook_does_the_same_in_the_bridge(
    family: str, site: str, bridges: Callable[[str], TransformerBridge]
) -> None:
    """Not at resid_mid: the bridge's edits there miss the skip connection on llama-like models."""
    model, bridge = hooked_lm(family), bridges(family)

    def halve_and_turn(x: Tensor, hook: object) -> Any:
        return 0.5 * x.roll(1, 0)

    hooks: list[Any] = [(f"blocks.{layer}.{site}", halve_and_turn) for layer in (0, 2)]
    edited = model.run_with_hooks(CLEAN, fwd_hooks=hooks)
    assert torch.allclose(edited, bridge.run_with_hooks(CLEAN, fwd_hooks=hooks), atol=1e-4)
    assert (edited - model(CLEAN)).abs().max() > 1e-2
