"""Head scores against closed forms, against TransformerLens on the same models, and against plain hooks."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformer_lens import ActivationCache, FactoredMatrix, head_detector
from transformer_lens.utilities.matrix import composition_scores

from tests.families import nudged, paired
from tests.oracle.plain_hooks import captured, output_projection
from tests.oracle.test_against_transformer_lens import tokenizer
from workbench.head_scores import patterns, weights
from workbench.head_scores.on_task import read_out, task_scores
from workbench.models.language import HookedLM
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import resolve_model

SEVERAL = paired(4)
INPUTS = replace(
    SEVERAL, answer=tuple(ids[:1] for ids in SEVERAL.answer), wrong=tuple(ids[:1] for ids in SEVERAL.wrong)
)
each_family = pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "gpt2", "gpt_neox"])


@cache
def hooked_lm(family: str) -> HookedLM:
    return HookedLM(nudged(family), tokenizer())


# --- patterns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", [25, 50, 100])
def test_a_uniform_head_has_the_closed_form_of_every_pattern_score(period: int) -> None:
    """Harmonic numbers: ``mean over rows of 1 / (q + 1)``, and ``log (n!) / n`` for the entropy."""
    n = 2 * period + 1
    harmonic = np.cumsum(1 / np.arange(1, n + 1))
    scores = patterns.uniform_scores(n, period)
    second = (harmonic[n - 1] - harmonic[period]) / period
    assert scores["previous_token"] == pytest.approx((harmonic[n - 1] - 1) / (n - 1))
    assert scores["duplicate_token"] == pytest.approx(second)
    assert scores["induction"] == pytest.approx(second)
    assert scores["sink"] == pytest.approx(harmonic[n - 1] / n)
    assert scores["entropy"] == pytest.approx(np.log(np.arange(1, n + 1)).mean())
    assert scores["locality"] == pytest.approx((4 + 5 * (harmonic[n - 1] - harmonic[3])) / n)


def test_a_perfect_head_scores_one() -> None:
    period = 7
    n = 2 * period + 1
    for name, offset in (("previous_token", 1), ("duplicate_token", period), ("induction", period - 1)):
        A = torch.eye(n)
        rows = torch.arange(offset, n)
        A[rows] = 0
        A[rows, rows - offset] = 1
        assert float(patterns.PATTERN_SCORES[name](A, period)) == 1
    first = torch.zeros(n, n)
    first[:, 0] = 1
    assert float(patterns.sink(first, period)) == 1
    assert float(patterns.entropy(first, period)) == 0
    assert float(patterns.locality(torch.eye(n), period)) == 1


def test_unrelated_patterns_are_not_alike() -> None:
    """Their plain cosine is above one half only because both are causal."""
    generator, hidden = torch.Generator().manual_seed(0), ~torch.ones(64, 64, dtype=torch.bool).tril()
    A, B = torch.randn(2, 100, 64, 64, generator=generator).masked_fill(hidden, -torch.inf).softmax(-1)
    plain = nn.functional.cosine_similarity(A.flatten(1), B.flatten(1)).mean()
    similarity = (patterns.centred(A) * patterns.centred(B)).sum(-1).mean()
    assert plain > 0.5
    assert abs(similarity) < 0.01
    assert (patterns.centred(A) * patterns.centred(A)).sum(-1).allclose(torch.ones(()))


@each_family
def test_pattern_scores_are_those_of_the_head_detector(family: str) -> None:
    """Its score is the share of all attention: ours times the rows that count, over all rows. Its masks hold no row
    twice, as the tokens differ."""
    model, period = hooked_lm(family), 9
    ids = patterns.repeated_tokens(model, 2, period, seed=4)
    assert ids.shape == (2, 2 * period)
    assert all(len(set(row[:period].tolist())) == period for row in ids)
    for row in ids:
        text = tokenizer().decode(row)
        A = model.run_with_cache(row[None])[1]
        kinds = {"previous_token_head": 2 * period - 1, "duplicate_token_head": period, "induction_head": period}
        for kind, rows in kinds.items():
            detected = head_detector.detect_head(model, text, kind)  # pyright: ignore[reportArgumentType] - their Literal
            score = patterns.PATTERN_SCORES[kind.removesuffix("_head")]
            own = torch.stack([score(A["pattern", layer][0], period) for layer in range(model.n_layers)])
            assert torch.allclose(own * rows / (2 * period), detected, atol=1e-5)


# --- weights ----------------------------------------------------------------------------------------------------------


def folded(model: HookedLM, norm: nn.Module, weight: Tensor) -> Tensor:
    """What TransformerLens's ``fold_ln`` makes of a matrix that reads a norm."""
    gain = getattr(norm, "weight", None)
    assert gain is not None
    gain = 1 + gain if "Gemma" in type(norm).__name__ else gain
    weight = gain[:, None] * weight
    return weight - weight.mean(-2, keepdim=True) if isinstance(norm, nn.LayerNorm) else weight


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_copy_scores_and_composition_are_those_of_factored_matrices(family: str) -> None:
    model = hooked_lm(family)
    heads = weights.HeadWeights.of(model)
    copying, composed, sizes = (
        weights.copy_score(model, heads),
        weights.composition(heads),
        weights.circuit_sizes(weights.spectra(heads)),
    )
    unembed = folded(model, model.module(model.anatomy.final_norm), model.W_U)
    group = model.n_heads // model.n_kv_heads
    ov, qk = [], []
    for layer in range(model.n_layers):
        attn, norm = model.blocks[layer].attn, model.part(layer, model.anatomy.norm1)
        for head in range(model.n_heads):
            kv = head // group
            v, k = folded(model, norm, attn.W_V[kv]), folded(model, norm, attn.W_K[kv])
            ov.append(FactoredMatrix(v, attn.W_O[head]))
            qk.append(FactoredMatrix(folded(model, norm, attn.W_Q[head]), k.T))
    for i, (circuit, score) in enumerate(zip(ov, copying, strict=True)):
        values = FactoredMatrix(model.W_E @ circuit.A, circuit.B @ unembed).eigenvalues
        expected = values.real.sum() / values.abs().sum()
        assert float(score) == pytest.approx(float(expected), abs=1e-4)
        assert float(sizes["ov_norm"][i]) == pytest.approx(float(circuit.norm()), rel=1e-4)
        assert float(sizes["qk_norm"][i]) == pytest.approx(float(qk[i].norm()), rel=1e-4)
    reads = {"q": qk, "k": [m.T for m in qk], "v": ov}
    for kind, readers in reads.items():
        for reader in range(len(ov)):
            for writer in range(len(ov)):
                score = float(composed[kind][reader, writer])
                if writer // model.n_heads >= reader // model.n_heads:
                    assert np.isnan(score)
                    continue
                assert score == pytest.approx(float(composition_scores(ov[writer], readers[reader])), rel=1e-3)


def test_unrelated_heads_compose_as_one_over_the_root_of_the_width() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(12, 256, 32, generator=generator) for _ in "qkv")
    o = torch.randn(12, 32, 256, generator=generator)
    layer = torch.arange(12) // 6
    for scores in weights.composition(weights.HeadWeights(q, k, v, o, layer.float())).values():
        across = scores[6:, :6]
        assert across.isfinite().all()
        assert float(across.mean()) == pytest.approx(weights.unrelated(256), abs=2e-3)


# --- on a task --------------------------------------------------------------------------------------------------------


@each_family
def test_attributions_add_up_and_are_those_of_transformer_lens(family: str) -> None:
    model = hooked_lm(family)
    scores = task_scores(model, Recorder(resolve_model(model)), INPUTS)
    for i in range(len(INPUTS)):
        ids, right, wrong = INPUTS.clean[i], INPUTS.answer[i][0], INPUTS.wrong[i][0]
        logits, cache = model.run_with_cache(ids[None])
        assert isinstance(cache, ActivationCache)
        heads = cache.stack_head_results()
        assert isinstance(heads, Tensor)
        expected = cache.logit_attrs(heads, tokens=torch.tensor(right), incorrect_tokens=torch.tensor(wrong))
        assert np.allclose(scores.attribution[i].ravel(), expected[:, 0, -1].numpy(), atol=1e-4)
        stack: Any = cache.decompose_resid(return_labels=True, mode="all")
        parts, labels = stack
        biases = torch.stack([model.blocks[i].attn.b_O for i in range(model.n_layers)])
        parts = torch.cat([parts, biases[:, None, None].expand(model.n_layers, 1, len(ids), model.d_model)])
        branches = cache.logit_attrs(parts, tokens=torch.tensor(right), incorrect_tokens=torch.tensor(wrong))[:, 0, -1]
        for layer in range(model.n_layers):
            bias = float(branches[len(labels) + layer])  # what is norm'd behind the attention has none
            branch = float(branches[labels.index(f"{layer}_attn_out")])
            assert scores.attribution[i, layer].sum() + bias == pytest.approx(branch, abs=1e-4)
        difference = float(logits[0, -1, right] - logits[0, -1, wrong])
        assert scores.lens[i, -1] == pytest.approx(difference, abs=1e-4)
        assert scores.lens_right[i, -1] == (difference > 0)
        lens: Any = cache.logit_lens(incl_mid=False).readout.values
        for depth in range(model.n_layers):
            expected = float(lens[depth, 0, right] - lens[depth, 0, wrong])
            assert scores.lens[i, depth] == pytest.approx(expected, abs=1e-3)
    assert np.abs(scores.attribution).max() > 1e-2
    assert np.abs(scores.attribution - scores.attribution_uniform).max() > 1e-2


@each_family
def test_the_read_out_is_a_loop_over_plain_modules(family: str) -> None:
    """With all other heads' z set to zero, the attention output projection of one head's value alone."""
    model, plain = hooked_lm(family), nudged(family)
    residual, ids = 3 * torch.randn(5, model.d_model, generator=torch.Generator().manual_seed(1)), torch.arange(5) + 20
    positive, negative = read_out(model, residual, ids)
    normed = plain.get_submodule(f"{model.anatomy.layers}.1.{model.anatomy.norm1}")(residual[None])[0]
    final, unembed = plain.get_submodule(model.anatomy.final_norm), plain.get_submodule(model.anatomy.unembed)
    group = model.n_heads // model.n_kv_heads
    checked = []
    for layer in range(model.n_layers):
        projection = output_projection(plain, family, layer)
        zero = projection(torch.zeros(1, model.n_heads * model.d_head))
        block = plain.get_submodule(f"{model.anatomy.layers}.{layer}")
        values = value_of(plain, family, block, normed, model)
        for head in range(model.n_heads):
            z = torch.zeros(5, model.n_heads, model.d_head)
            z[:, head] = values[:, head // group]
            written = projection(z.flatten(1)) - zero
            if family == "gemma3":
                written = block.post_attention_layernorm(written)
            for sign, read_outs in ((1, positive), (-1, negative)):
                logits = unembed(final((sign * written)[None])[0])
                among = logits.topk(5).indices
                expected = (among == ids[:, None]).any(1).float().mean()
                checked.append(float(expected))
                assert float(read_outs[layer, head]) == pytest.approx(float(expected))
    assert 0 < np.mean(checked) < 1


def value_of(plain: Any, family: str, block: Any, normed: Tensor, model: HookedLM) -> Tensor:
    """``[pos, kv_head, d_head]``, biases included."""
    if family == "gpt2":
        return block.attn.c_attn(normed).chunk(3, -1)[2].unflatten(-1, (model.n_heads, -1))
    if family == "gpt_neox":
        return block.attention.query_key_value(normed).unflatten(-1, (model.n_heads, 3, -1))[:, :, 2]
    return block.self_attn.v_proj(normed).unflatten(-1, (model.n_kv_heads, -1))


def test_what_the_output_projection_reads_is_what_attribution_reads() -> None:
    """One head's attribution by hand, from a plain hook on the output projection."""
    plain: Any = nudged("llama")
    model = hooked_lm("llama")
    scores = task_scores(model, Recorder(resolve_model(model)), INPUTS)
    ids = INPUTS.clean[0]
    norm, projection = plain.model.norm, plain.model.layers[1].self_attn.o_proj
    z, resid = captured(plain, ids[None], (projection, "input"), (norm, "input"))
    head = slice(2 * model.d_head, 3 * model.d_head)
    written = z[0, -1, head] @ projection.weight[:, head].T
    scale = (resid[0, -1].pow(2).mean() + float(norm.variance_epsilon)).sqrt()
    rows = plain.lm_head.weight[INPUTS.answer[0][0]] - plain.lm_head.weight[INPUTS.wrong[0][0]]
    assert scores.attribution[0, 1, 2] == pytest.approx(float((written / scale * norm.weight) @ rows), abs=1e-5)
