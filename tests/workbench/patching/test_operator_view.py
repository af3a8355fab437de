"""One head under another operator: against Hugging Face's own layers with a window, a published formula in plain torch,
and plain hooks and weights."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from transformers import Qwen2Config, Qwen2ForCausalLM

import workbench as wb
from tests.families import SIZES, VOCABULARY, hooked, randomised
from workbench.attention.operator import Operator
from workbench.errors import UnknownName, UsageError
from workbench.models import operator_check
from workbench.models.language import HookedLM
from workbench.patching import operator_view
from workbench.plotting.operator_view import HeadOutput

TEXT = "When Anna and Paul went out, Paul gave a rose to"
LAYER, HEAD = 1, 3


def qwen2(*kinds: str) -> Any:
    """With a window of 4 in the layers of that kind; the same weights for any kinds."""
    config = Qwen2Config(
        **SIZES, num_key_value_heads=2, use_sliding_window=True, sliding_window=4, layer_types=list(kinds)
    )
    config._attn_implementation = "eager"
    return randomised(Qwen2ForCausalLM(config).eval())


def matrix(side: HeadOutput) -> np.ndarray:
    assert side.matrix is not None
    return side.matrix


def written(side: HeadOutput) -> np.ndarray:
    assert side.written is not None
    return side.written


def effects_of(side: HeadOutput) -> np.ndarray:
    assert side.effects is not None
    return side.effects


def z_of(hf: Any, layer: int, ids: torch.Tensor, **arguments: Any) -> tuple[torch.Tensor, Any]:
    """What enters a layer's output projection, by a plain hook, and the outputs."""
    entering: list[torch.Tensor] = []
    projection = hf.model.layers[layer].self_attn.o_proj
    handle = projection.register_forward_pre_hook(lambda _, args: entering.append(args[0]))
    try:
        with torch.no_grad():
            outputs = hf(ids, **arguments)
    finally:
        handle.remove()
    return entering[0][0], outputs


def test_a_sliding_window_is_hugging_faces_own_layer() -> None:
    full, some = "full_attention", "sliding_attention"
    plain, reference = qwen2(full, full, full), qwen2(full, some, full)
    reference.load_state_dict(plain.state_dict())
    ids = torch.randint(0, VOCABULARY, (1, 20), generator=torch.Generator().manual_seed(5))
    view = wb.operator_view(HookedLM(plain), ids[0], LAYER, HEAD, "sliding-window(window=4)", cache=False)
    for side, hf in ((view.own, plain), (view.swapped, reference)):
        z, outputs = z_of(hf, LAYER, ids, output_attentions=True)
        head = z.unflatten(-1, (6, 8))[:, HEAD]
        W_O = hf.model.layers[LAYER].self_attn.o_proj.weight.T.unflatten(0, (6, 8))[HEAD]
        np.testing.assert_allclose(matrix(side), outputs.attentions[LAYER][0, HEAD], atol=1e-5)
        np.testing.assert_allclose(side.z, head, atol=1e-4)
        np.testing.assert_allclose(written(side), (head @ W_O).detach(), atol=1e-4)
        np.testing.assert_allclose(side.logits, outputs.logits[0, -1], atol=1e-3)
        np.testing.assert_allclose(side.probabilities, outputs.logits[0, -1].softmax(-1), atol=1e-5)
    assert np.abs(matrix(view.own) - matrix(view.swapped)).max() > 0.1
    assert np.abs(view.own.logits - view.swapped.logits).max() > 0.1


@pytest.mark.parametrize("norm", [True, False])
def test_lightning_is_its_formula_on_the_same_q_k_and_v(norm: bool) -> None:
    model = wb.load("tiny")
    view = wb.operator_view(model, TEXT, LAYER, HEAD, f"lightning(norm={norm})", cache=False)
    recorded = wb.record(model, TEXT, ["q", "k", "v"], LAYER, cache=False).clean
    q, k, v = (recorded[site][0][0].double().transpose(0, 1) for site in "qkv")
    k, v = (x.repeat_interleave(model.n_heads // model.n_kv_heads, 0) for x in (k, v))
    n_heads, length = q.shape[:2]
    factor = 1 - LAYER / (model.n_layers - 1) + 1e-5
    z, A = torch.zeros(v.shape, dtype=torch.float64), torch.zeros(n_heads, length, length, dtype=torch.float64)
    for head in range(n_heads):
        slope = 2.0 ** (-8 * (head + 1) / n_heads) * factor
        for i in range(length):
            for j in range(i + 1):
                A[head, i, j] = np.exp(-slope * (i - j)) * (q[head, i] @ k[head, j])
                z[head, i] += A[head, i, j] * v[head, j]
    if norm:
        z = z / (z.square().mean((0, 2), keepdim=True) + 1e-6).sqrt()
    scale = float(A.abs().max())
    np.testing.assert_allclose(matrix(view.swapped), A[HEAD], atol=1e-5 * scale)
    np.testing.assert_allclose(view.swapped.z, z[HEAD], atol=1e-5 * float(z.abs().max()))
    assert view.limits() == ((pytest.approx(scale_of(view), rel=1e-6), True),) * 2
    assert any("a further step follows" in note for note in view.notes) == norm


def scale_of(view: wb.OperatorView) -> float:
    return max(float(np.abs(matrix(side)).max()) for side in (view.own, view.swapped))


def test_the_operator_gets_the_heads_own_q_k_and_v() -> None:
    model = wb.load("tiny")
    swapped = wb.swap(model, {LAYER: "lightning"}, cache=False)
    both = [wb.record(m, TEXT, ["q", "k", "v"], LAYER, cache=False).clean for m in (model, swapped)]
    assert all(torch.equal(both[0][site][0], both[1][site][0]) for site in "qkv")


@pytest.mark.parametrize("operator", ["sliding-window(window=3, sinks=1)", "lightning"])
def test_next_tokens_are_those_of_the_swapped_model(operator: str) -> None:
    model = wb.load("tiny")
    view = wb.operator_view(model, TEXT, 0, 2, operator, cache=False)
    ids = model.to_tokens(TEXT)
    with torch.no_grad():
        own = model.hf(ids).logits[0, -1].double()
        swapped = wb.swap(model, {0: operator}, cache=False).hf(ids).logits[0, -1].double()
    np.testing.assert_allclose(view.swapped.logits, swapped, atol=1e-3)
    table = view.next_tokens(k=3)
    best = [model.tokenizer.decode(int(i)) for i in swapped.topk(3).indices]
    assert set(best) <= set(table["token"])
    row = dict(zip(table["token"], table["swapped"], strict=True))
    assert row[best[0]] == pytest.approx(float(swapped.softmax(-1).max()), abs=1e-5)
    kl = float((own.softmax(-1) * (own.log_softmax(-1) - swapped.log_softmax(-1))).sum())
    assert kl > 0.1 and view.kl == pytest.approx(kl, rel=1e-3)


def test_the_divergence_of_next_tokens_knows_excluded_ones_and_hides_no_nan() -> None:
    view = wb.operator_view(wb.load("tiny"), TEXT, 0, 2, "sliding-window(window=3)", cache=False)
    own, swapped = view.own.logits.astype(float), view.swapped.logits.astype(float)
    masked = own.copy()
    masked[:5] = -np.inf
    p, q = softmax(masked), softmax(swapped)

    def kl(own: np.ndarray, swapped: np.ndarray) -> float:
        return replace(view, own=replace(view.own, logits=own), swapped=replace(view.swapped, logits=swapped)).kl

    assert kl(masked, swapped) == pytest.approx(rel_entr(p, q).sum(), rel=1e-9)
    assert np.isinf(kl(own, masked)) and np.isnan(kl(own, np.full_like(own, np.nan)))


def test_what_it_promotes_is_its_output_through_the_final_norm_and_the_unembedding() -> None:
    model, operator = wb.load("tiny"), "sliding-window(window=3)"
    view, ids = wb.operator_view(model, TEXT, LAYER, HEAD, operator, cache=False), model.to_tokens(TEXT)
    for side, hf in ((view.own, model.hf), (view.swapped, wb.swap(model, {LAYER: operator}, cache=False).hf)):
        entering: list[torch.Tensor] = []
        handle = hf.model.norm.register_forward_pre_hook(lambda _, args, into=entering: into.append(args[0][0, -1]))
        z, _ = z_of(hf, LAYER, ids)
        handle.remove()
        width, norm = model.d_head, hf.model.norm
        W_O = hf.model.layers[LAYER].self_attn.o_proj.weight.T[HEAD * width : (HEAD + 1) * width]
        output = z[-1, HEAD * width : (HEAD + 1) * width] @ W_O
        scale = (entering[0].square().mean() + norm.variance_epsilon).sqrt()
        expected = (output / scale * norm.weight) @ hf.lm_head.weight.T
        np.testing.assert_allclose(effects_of(side), expected.detach(), atol=1e-4)
    effects = effects_of(view.swapped)
    first = dict(zip(*(view.promoted(k=1)[name] for name in ("token", "swapped")), strict=True))
    assert first[model.tokenizer.decode(int(np.argmax(effects)))] == pytest.approx(float(effects.max()))


def test_the_table_has_norms_and_cosines() -> None:
    view = wb.operator_view(wb.load("tiny"), TEXT, LAYER, HEAD, "sliding-window(window=1)", cache=False)
    table, (own, swapped) = view.table(), view.outputs
    assert table["token"].tolist() == list(view.tokens)
    norms = np.linalg.norm(own, axis=-1), np.linalg.norm(swapped, axis=-1)
    np.testing.assert_allclose(table[["own", "swapped"]].to_numpy().T, norms, rtol=1e-5)
    cosine = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(own, swapped, strict=True)]
    np.testing.assert_allclose(table["cosine"], cosine, atol=1e-5)
    assert abs(cosine[-1]) < 0.99 and cosine[0] > 0.99999  # the first token sees itself alone either way


def test_softmax_changes_nothing_and_charts_share_one_scale() -> None:
    view = wb.operator_view(wb.load("tiny"), TEXT, LAYER, HEAD, "softmax", cache=False)
    assert view.swapped.matrix is not None
    np.testing.assert_allclose(
        view.swapped.matrix, wb.attention_view(wb.load("tiny"), TEXT, LAYER, HEAD).pattern, atol=1e-5
    )
    assert view.kl < 1e-8 and not view.notes
    signed = wb.operator_view(wb.load("tiny"), TEXT, LAYER, HEAD, "lightning", cache=False)
    for shares in (False, True):
        first, second = signed.charts(shares)
        assert (first.limit, first.diverging) == (second.limit, second.diverging) and second.diverging
    own, swapped = signed.matrices(shares=True)
    assert own is not None and swapped is not None
    np.testing.assert_allclose(np.abs(swapped).sum(-1), 1, atol=1e-5)


def squared(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, call: Any) -> torch.Tensor:
    return torch.cumsum(v * v, 2)[:, :, -q.shape[2] :]


#: It has no matrix.
SQUARED = Operator(
    name="squared", version=1, source="of this test", status="control", causal="token", row_stochastic=False,
    linear_in_v=False, matrix_axis="none", resumes="keys", efficient=squared, ignores=("q", "k"),
)  # fmt: skip


def test_an_operator_without_a_matrix_shows_its_influence() -> None:
    model = wb.load("tiny")
    view = wb.operator_view(model, TEXT, LAYER, HEAD, SQUARED, cache=False)
    v = wb.record(model, TEXT, ["v"], LAYER, cache=False).clean["v"][0][0]
    expected = v.square().cumsum(0)[:, HEAD // (model.n_heads // model.n_kv_heads)]
    np.testing.assert_allclose(view.swapped.z, expected, rtol=1e-4)
    norms = 2 * v[:, HEAD // (model.n_heads // model.n_kv_heads)].norm(dim=-1)  # z_i = Σ_{j ≤ i} v_j²
    influence = torch.ones(len(v), len(v)).tril() * norms
    np.testing.assert_allclose(matrix(view.swapped), influence, rtol=1e-4)
    assert view.own.matrix is not None and "influence" in view.swapped.scale
    own, swapped = view.charts()  # each on its own scale: they are no amounts of one thing
    limits = [float(view.own.matrix.max()), float(influence.max())]
    assert [own.limit, swapped.limit] == pytest.approx(limits, rel=1e-4)
    assert any("no matrix" in note for note in view.notes) and view._repr_html_().count("<img") == 2


def test_a_long_prompt_has_no_influence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_view, "LONGEST_INFLUENCE", 4)
    view = wb.operator_view(wb.load("tiny"), TEXT, LAYER, HEAD, SQUARED, cache=False)
    assert view.swapped.matrix is None and len(view.charts()) == 1 and "beyond 4 tokens" in view.notes[-1]


def test_a_swapped_model_is_compared_as_it_is() -> None:
    model = wb.load("tiny")
    view = wb.operator_view(
        wb.swap(model, {LAYER: "lightning"}, cache=False), TEXT, LAYER, HEAD, "softmax", cache=False
    )
    reverse = wb.operator_view(model, TEXT, LAYER, HEAD, "lightning", cache=False)
    np.testing.assert_allclose(view.own.z, reverse.swapped.z, atol=1e-4)
    np.testing.assert_allclose(view.swapped.logits, reverse.own.logits, atol=1e-3)
    assert view.own.scale == reverse.swapped.scale != view.swapped.scale


def test_what_the_swap_drops_and_makes_up_is_in_the_notes() -> None:
    ids = list(range(3, 13))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same, as a warning of wb.swap
        view = wb.operator_view(hooked("gemma3"), ids, 0, 1, "lightning", cache=False)
    assert "lightning drops the window of this layer." in view.notes


def test_the_check_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[Any] = []
    check = operator_check._compute_what_they_say
    monkeypatch.setattr(operator_check, "_compute_what_they_say", lambda *args: (checks.append(args), check(*args)))
    model = wb.load("tiny")
    for text, head in ((TEXT, 0), ("Then, Mary and John", 1)):
        wb.operator_view(model, text, LAYER, head, "lightning", cache=tmp_path)
    assert len(checks) == 1


def operator(**fields: Any) -> Operator:
    return Operator(**{"name": "odd", "version": 1, "source": "of this test", "status": "control", **fields})


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (operator(needs=("grid",)), "a grid of positions"),
        (operator(needs=("grid", "data")), "a grid of positions and data besides the prompt"),
        ("fixed-qk(form='sequence')", "a text of its own"),
        (operator(needs=lambda settings: ("data",)), "data besides the prompt"),
        (operator(role="pair"), "two streams"),
        (operator(causal="no", mask=lambda q, k, call: None), "bidirectional=True"),
        (3, "expected one such as"),
    ],
)
def test_what_one_prompt_does_not_have_is_refused_in_one_line(odd: Any, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as refusal:
        wb.operator_view(wb.load("tiny"), TEXT, LAYER, HEAD, odd, cache=False)
    assert "\n" not in str(refusal.value)


def test_unknown_names_layers_and_heads_are_refused() -> None:
    model = wb.load("tiny")
    with pytest.raises(UnknownName, match="lightning"):
        wb.operator_view(model, TEXT, LAYER, HEAD, "lightnin", cache=False)
    with pytest.raises(UsageError, match="layer=7"):
        wb.operator_view(model, TEXT, 7, HEAD, "softmax", cache=False)
    with pytest.raises(UsageError, match="head=8"):
        wb.operator_view(model, TEXT, LAYER, 8, "softmax", cache=False)
