"""TransformerLens's decompositions, the IOI read-out, norms, and what is said where contributions do not add up."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import workbench as wb
from tests.families import VOCABULARY, nudged, paired
from tests.oracle.test_against_transformer_lens import tokenizer
from tests.other_families import hooked_other, other
from workbench.cli.scores import _show
from workbench.errors import UnknownName, UsageError
from workbench.head_scores import compute
from workbench.head_scores.on_task import read_out
from workbench.models import norms
from workbench.models.language import HookedLM

IDS = torch.randint(0, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(1))
SEVERAL = paired(2)
INPUTS = replace(
    SEVERAL, answer=tuple(ids[:1] for ids in SEVERAL.answer), wrong=tuple(ids[:1] for ids in SEVERAL.wrong)
)


# --- TransformerLens's cache ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["cohere", "cohere2", "exaone4", "glm4", "gpt_bigcode", "nemotron", "olmo", "olmo2"])
def test_decompositions_add_up_to_the_logits(family: str) -> None:
    model, right, wrong = hooked_other(family), torch.tensor([3, 3]), torch.tensor([7, 7])
    logits, cache = model.run_with_cache(IDS)
    parts = cache.decompose_resid(mode="all")
    heads = cache.stack_head_results(layer=-1).unflatten(0, (model.n_layers, model.n_heads)).sum(1)
    for layer in range(model.n_layers):
        torch.testing.assert_close(
            heads[layer] + model.blocks[layer].attn.b_O, cache["attn_out", layer], atol=1e-5, rtol=1e-5
        )
    total = cache.logit_attrs(parts, tokens=right, incorrect_tokens=wrong).sum(0)
    bias = getattr(model.module(model.anatomy.final_norm), "bias", None)
    unembed = model.W_U[:, 3] - model.W_U[:, 7]
    constant = model.b_U[3] - model.b_U[7] + (0 if bias is None else bias @ unembed)
    difference = logits[..., 3] - logits[..., 7]
    scale = float(getattr(model.config, "logit_scale", 1.0))
    torch.testing.assert_close(total + constant * scale, difference, atol=1e-5 * float(difference.abs().max()), rtol=0)
    assert heads.abs().max() > 0.1


@pytest.mark.parametrize("family", ["cohere", "gemma2", "granite", "llama"])
def test_the_logit_lens_ends_with_the_logits(family: str) -> None:
    model = HookedLM(nudged(family), tokenizer()) if family in ("gemma2", "llama") else hooked_other(family)
    logits, cache = model.run_with_cache(IDS)
    lens: Any = cache.logit_lens(incl_mid=False).readout.values
    torch.testing.assert_close(lens[-1], logits[:, -1], atol=1e-5, rtol=1e-5)


def test_decompositions_that_do_not_add_up_are_refused() -> None:
    for family, what in (("bitnet", "Head results"), ("qwen3_next", "Head results"), ("granite", "decompose_resid")):
        cache = hooked_other(family).run_with_cache(IDS)[1]
        with pytest.raises(UsageError, match=what):
            _ = cache.stack_head_results() if what == "Head results" else cache.decompose_resid()
    cache = hooked_other("opt").run_with_cache(IDS)[1]
    with pytest.raises(UsageError, match="hook_mlp_out"):
        cache.decompose_resid()


def test_hook_q_is_there_where_the_projection_gives_heads() -> None:
    assert "blocks.0.attn.hook_q" in hooked_other("glm4").hook_dict
    model = hooked_other("qwen3_next")  # whose projection gives a gate beside q
    cache = model.run_with_cache(IDS)[1]
    assert cache["blocks.0.attn.hook_rot_q"].shape == (2, 9, model.n_heads, model.d_head)
    with pytest.raises(UnknownName):
        model.run_with_cache(IDS, names_filter="blocks.0.attn.hook_q")


def test_z_behind_a_gate_is_what_enters_the_output_projection() -> None:
    plain, entered = other("qwen3_next"), []
    plain.model.layers[1].self_attn.o_proj.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    plain(IDS, use_cache=False)
    cache = hooked_other("qwen3_next").run_with_cache(IDS)[1]
    torch.testing.assert_close(cache["blocks.1.attn.hook_z_gated"].flatten(-2), entered[0])
    assert not torch.allclose(cache["z", 1].flatten(-2), entered[0])
    assert "blocks.1.attn.hook_z_gated" not in hooked_other("bitnet").hook_dict


# --- the IOI read-out -------------------------------------------------------------------------------------------------


def bitnet(attention: Any, normed: Tensor, z: Tensor) -> Tensor:
    return attention.o_proj(attention.attn_sub_norm(z))


def qwen3_next(attention: Any, normed: Tensor, z: Tensor) -> Tensor:
    gate = attention.q_proj(normed).unflatten(-1, (6, 2, 8))[..., 1, :].flatten(-2)
    return attention.o_proj(z * torch.sigmoid(gate))


def opt(attention: Any, normed: Tensor, z: Tensor) -> Tensor:
    return attention.out_proj(z) - attention.out_proj.bias


def plainly(attention: Any, normed: Tensor, z: Tensor) -> Tensor:
    return attention.o_proj(z)


@pytest.mark.parametrize(
    ("family", "write", "norm", "after"),
    [
        ("bitnet", bitnet, "input_layernorm", ""),
        ("olmo2", plainly, "", "post_attention_layernorm"),
        ("opt", opt, "self_attn_layer_norm", ""),
        ("phi3", plainly, "input_layernorm", ""),
        ("qwen3_next", qwen3_next, "input_layernorm", ""),
    ],
)
def test_the_read_out_is_a_loop_over_plain_modules(family: str, write: Any, norm: str, after: str) -> None:
    model, plain = hooked_other(family), other(family)
    stack = plain.model.decoder if family == "opt" else plain.model
    final = stack.final_layer_norm if family == "opt" else stack.norm
    residual, ids = 3 * torch.randn(5, 48, generator=torch.Generator().manual_seed(1)), torch.arange(5) + 20
    positive, negative = read_out(model, residual, ids)
    normed = stack.layers[1].get_submodule(norm)(residual) if norm else residual
    checked = []
    for layer in range(model.n_layers):
        block = stack.layers[layer]
        attention = block.self_attn
        if family == "phi3":
            values = attention.qkv_proj(normed)[:, -16:].unflatten(-1, (2, 8))
        else:
            values = attention.v_proj(normed).unflatten(-1, (-1, 8))
        for head in range(model.n_heads):
            z = torch.zeros(5, 6, 8)
            z[:, head] = values[:, head // (6 // values.shape[1])]
            written = write(attention, normed, z.flatten(1))
            written = block.get_submodule(after)(written) if after else written
            for sign, read_outs in ((1, positive), (-1, negative)):
                among = plain.lm_head(final(sign * written)).topk(5).indices
                checked.append(float((among == ids[:, None]).any(1).float().mean()))
                assert float(read_outs[layer, head]) == pytest.approx(checked[-1])
    assert 0 < np.mean(checked) < 1


# --- norms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "name", "centred"),
    [
        ("cohere", "model.norm", True),
        ("cohere", "model.layers.0.self_attn.q_norm", True),
        ("nemotron", "model.norm", True),
        ("olmo", "model.norm", True),
        ("olmo2", "model.layers.0.self_attn.q_norm", False),
        ("qwen3_next", "model.norm", False),
    ],
)
def test_norms_are_known_by_what_they_do(family: str, name: str, centred: bool) -> None:
    norm = other(family).get_submodule(name)
    shape = (2, 5, 6, 8) if family == "cohere" and "q_norm" in name else (2, 5, 48)
    x = 0.01 * torch.randn(shape, generator=torch.Generator().manual_seed(2)) + 0.005
    assert norms.is_norm(norm, x)
    assert norms.centres(norm, x) is centred
    own = norms.numerator(norm, x) / norms.norm_scale(norm, x) + norms.norm_bias(norm, x)
    torch.testing.assert_close(own, norm(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("module", [nn.Linear(8, 8), nn.Identity(), nn.GELU(), nn.Tanh(), nn.Softmax(-1), nn.Sigmoid()])
def test_other_modules_are_no_norms(module: nn.Module) -> None:
    assert not norms.is_norm(module, torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0)))


def test_an_epsilon_without_a_name_is_measured() -> None:
    assert norms.norm_eps(other("olmo").model.norm) == pytest.approx(1e-5, rel=1e-3)


# --- what cannot be had -----------------------------------------------------------------------------------------------


class Bent(nn.Linear):
    """An output projection that is not linear."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.tanh(super().forward(input))


def test_scores_that_cannot_be_had_say_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(compute, "PERIOD", 10)
    monkeypatch.setattr(compute, "SEQUENCES", 2)
    hf = nudged("llama")
    for layer in hf.model.layers:
        layer.self_attn.o_proj.__class__ = Bent
    model = HookedLM(hf, tokenizer())
    assert "does not add up" in model.additivity.why_not
    scores = wb.scores(model, INPUTS, cache=False)
    reasons = {name: reason for reason, names in scores.absent.items() for name in names}
    assert "does not add up" in reasons["direct_logit_attribution"]
    assert "not linear in z" in reasons["ov_norm"]
    table = scores.table()
    for name in ("direct_logit_attribution", "copy_score", "ov_norm"):
        assert np.isnan(scores[name]).all()
        assert np.isnan(table[name].to_numpy()).all()
        assert name in reasons
    for name in ("induction", "previous_token", "entropy", "similarity"):
        assert np.isfinite(scores[name]).all()
    assert len(scores.lens) == model.n_layers + 1  # the lens needs no head
    assert scores.json()["info"]["absent"] == reasons
    assert "Not available" in scores._repr_html_()
    scores.save(tmp_path / "scores.safetensors")
    assert wb.HeadScores.load(tmp_path / "scores.safetensors").absent == scores.absent
    printed = StringIO()
    _show(Console(file=printed, width=200), scores, 3, None)
    assert "Not available: " in printed.getvalue() and "does not add up" in printed.getvalue()
    on_prompts = wb.scores_on(model, INPUTS, cache=False)
    assert on_prompts.info["absent"]["direct_logit_attribution"] == model.additivity.why_not
    assert set(on_prompts.info["absent"]) == {name for name in on_prompts.names if np.isnan(on_prompts[name]).all()}


@pytest.mark.filterwarnings("ignore:Gemma3n")
def test_layers_that_carry_several_streams_have_the_scores_of_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "PERIOD", 10)
    monkeypatch.setattr(compute, "SEQUENCES", 2)
    scores = wb.scores(HookedLM(other("gemma3n_text"), tokenizer()), INPUTS, cache=False)
    reasons = {name: reason for reason, names in scores.absent.items() for name in names}
    assert {"direct_logit_attribution", "copy_score", "logit_lens", "q_composition"} <= reasons.keys()
    assert len(scores.lens) == 0
    assert np.isfinite(scores["induction"]).all()
    printed = StringIO()
    _show(Console(file=printed, width=200), scores, 3, None)
    assert "Not available: logit_lens" in printed.getvalue()


def test_scores_that_can_be_had_have_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "PERIOD", 10)
    monkeypatch.setattr(compute, "SEQUENCES", 2)
    model = HookedLM(other("qwen3_next"), tokenizer())
    scores = wb.scores(model, INPUTS, cache=False)
    assert list(scores.absent.values()) == [["ioi_copy", "ioi_copy_negative"]]
    assert "no prompt contains" in next(iter(scores.absent))  # of these, which are random tokens
    assert np.isfinite(scores["direct_logit_attribution"]).all() and np.isfinite(scores["copy_score"]).all()
    assert np.isfinite(scores.random["ov_norm"]).all()
