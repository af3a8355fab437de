"""Models with other operators: sweeps are what plain hooks on the same modules give in full forwards, and a sliding
window is what Hugging Face computes of a configuration that has one."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

import workbench as wb
from tests.families import VOCABULARY, hooked, paired
from tests.oracle.plain_hooks import Plain
from tests.oracle.test_path_against_plain_hooks import PAIRS, published
from workbench.attention.operator import operator as wb_operator
from workbench.core import Head
from workbench.models.language import HookedLM
from workbench.registry import OPERATORS

#: What operators are tried with besides their defaults, in a causal model of 9 and 11 tokens.
SETTINGS = {
    "sliding-window": "window=3",
    "neighbourhood": "window=4, stride=2",
    "context-causal": "block=4",
    "static": "length=32",
    "block-mixture": "block=3, top_k=2",
    "block-linear": "block=4",
    "recurrent-chunks": "chunk=3",
    "proxy-heads": "block=3, share=0.5, stride=1",
    "pyramid-sparse": "query_block=4, key_block=2, tile=2",
    "bi-level-routing": "regions=3, top_k=1",
    "pattern-reordered": "block=3",
}
FAMILIES = ("llama", "qwen3", "gpt2", "gpt_neox", "gemma3")
SOME = ("sliding-window(window=3, sinks=1)", "lightning", "lightning(norm=False)")


def swapped(family: str, operator: str, layers: Any = "all") -> HookedLM:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they drop of Gemma's windows
        return wb.swap(hooked(family), {layers: operator}, cache=False)


def difference(logits: torch.Tensor, inputs: Any, i: int) -> float:
    return float(logits[list(inputs.answer[i])].mean() - logits[list(inputs.wrong[i])].mean())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("operator", SOME)
@pytest.mark.parametrize("site", ["z", "mlp_out"])
def test_sweeps_are_what_plain_hooks_give(family: str, operator: str, site: str) -> None:
    model, inputs = swapped(family, operator), paired(2)
    assert model.resumable and model.causal
    by = "head" if site == "z" else "layer"
    sweep = wb.sweep(model, inputs, site=site, by=by, edit="zero", cache=False)
    plain = Plain(model.hf, family)
    heads = range(model.n_heads) if site == "z" else [None]
    largest = 0.0
    for i, ids in enumerate(inputs.clean):
        logits = plain.logits(ids)
        tolerance = max(1e-4, 1e-5 * float(logits.abs().max()))
        for layer in range(model.n_layers):
            for head in heads:

                def zero(x: torch.Tensor, head: Any = head) -> None:
                    (x if head is None else x[:, head]).zero_()

                expected = difference(plain.logits(ids, (site, layer, zero)), inputs, i)
                largest = max(largest, abs(expected - difference(logits, inputs, i)))
                value = sweep.values[layer, head, i] if head is not None else sweep.values[layer, i]
                assert value == pytest.approx(expected, abs=tolerance)
    assert largest > 1e-2


def swappable() -> list[str]:
    """What goes into a language model: mixers that need no grid, no data and no permission."""
    names = []
    for name in OPERATORS.names():
        bound = wb_operator(name)
        needs = (
            set(bound.declared("needs")) & {"grid", "data", "second stream"} if bound.operator.module is None else ()
        )
        if bound.operator.role == "mixer" and not needs and bound.causal != "no":
            names.append(f"{name}({SETTINGS.get(name, '')})")
    return names


@pytest.mark.parametrize("operator", [*swappable(), "fixed-qk(length=32)", "fixed-qk(form=static)"])
def test_every_operator_is_swept_as_plain_hooks_do(operator: str) -> None:
    model, inputs = swapped("llama", operator, 1), paired(2)
    assert model.resumable == ("static)" not in operator)
    assert model.causal == (model.operators[1].causal in ("model", "token", "block"))
    sweep = wb.sweep(model, inputs, edit="zero", cache=False)
    plain = Plain(model.hf, "llama")
    largest = 0.0
    for i, ids in enumerate(inputs.clean):
        logits = plain.logits(ids)
        tolerance = max(1e-4, 1e-5 * float(logits.abs().max()))
        for layer, head in product(range(model.n_layers), range(model.n_heads)):
            expected = difference(plain.logits(ids, ("z", layer, lambda x, head=head: x[:, head].zero_())), inputs, i)
            largest = max(largest, abs(expected - difference(logits, inputs, i)))
            assert sweep.values[layer, head, i] == pytest.approx(expected, abs=tolerance)
    assert largest > 1e-2
    patched = wb.sweep(
        model, inputs, site="resid_pre", by="position", layers=[0, 1], positions=["S", "end"], cache=False
    )
    for i, (ids, other) in enumerate(zip(inputs.clean, inputs.corrupt, strict=True)):
        tolerance = max(1e-4, 1e-5 * float(plain.logits(ids).abs().max()))
        for (a, layer), (b, name) in product(enumerate([0, 1]), enumerate(["S", "end"])):
            at = inputs.positions[i][name]
            source = plain.read(ids, "resid_pre", layer)[at].clone()
            expected = difference(
                plain.logits(other, ("resid_pre", layer, lambda x, s=source, at=at: x[at].copy_(s))), inputs, i
            )
            assert patched.values[a, b, i] == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_sliding_window_is_hugging_faces_own(implementation: str) -> None:
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "attn_implementation": implementation,
    }  # fmt: skip
    own = MistralForCausalLM(MistralConfig(sliding_window=5, **sizes)).eval()
    plain = MistralForCausalLM(MistralConfig(sliding_window=None, **sizes)).eval()
    plain.load_state_dict({name: 5 * x for name, x in own.state_dict().items()})
    own.load_state_dict(plain.state_dict())
    ids = torch.randint(0, VOCABULARY, (2, 40), generator=torch.Generator().manual_seed(1))
    model = wb.swap(HookedLM(plain), {"all": "sliding-window(window=5)"}, cache=False)
    with torch.no_grad():
        expected = own(ids).logits
        assert float((plain(ids).logits - expected).abs().max()) > 0.1
        assert torch.allclose(model(ids), expected, atol=1e-4)
        assert torch.allclose(model.hf(ids).logits, expected, atol=1e-4)
    _, cache = model.run_with_cache(ids)
    reference = HookedLM(own).run_with_cache(ids)[1]
    for name in ("blocks.1.attn.hook_pattern", "blocks.1.attn.hook_attn_scores", "blocks.0.attn.hook_z"):
        assert torch.allclose(cache[name].clamp(min=-1e30), reference[name].clamp(min=-1e30), atol=1e-4)


@pytest.mark.parametrize("operator", ["softmax", "sliding-window(window=4)", "lightning"])
def test_padding_and_generation_are_as_without(operator: str) -> None:
    model = swapped("llama", operator)
    ids = torch.randint(3, VOCABULARY, (1, 9), generator=torch.Generator().manual_seed(2))
    expected = model(ids)[0]
    for left in (0, 4):
        row = torch.zeros(1, 13, dtype=torch.long)
        row[:, left : left + 9] = ids
        mask = torch.zeros(1, 13, dtype=torch.long)
        mask[:, left : left + 9] = 1
        padded = model(row, attention_mask=mask)[0, left : left + 9]
        assert torch.allclose(padded, expected, atol=1e-4 * float(expected.abs().max()))
    longer = wb.generate(model, ids[0], max_new_tokens=3)
    with_cache = model.hf.generate(ids, max_new_tokens=3, do_sample=False, use_cache=True)
    assert torch.equal(longer, with_cache[0])


def test_weights_are_shared_and_the_original_is_untouched() -> None:
    model, ids = hooked("llama"), paired(1).clean[0][None]
    before = model(ids)
    changed = wb.swap(model, {0: "sliding-window(window=2)"}, cache=False)
    own = {name.replace(".workbench_operator", ""): x.data_ptr() for name, x in changed.hf.named_parameters()}
    assert own == {name: x.data_ptr() for name, x in model.hf.named_parameters()}
    assert torch.equal(model(ids), before) and not torch.equal(changed(ids), before)
    assert torch.equal(wb.swap(changed, {0: "softmax"}, cache=False)(ids), before)


def test_reading_leaves_a_swapped_model_as_it_is_and_editing_goes_through_the_matrix() -> None:
    model, ids = swapped("llama", "lightning(norm=False)"), paired(1).clean[0][None]
    before = model(ids)
    names = [
        f"blocks.{layer}.attn.{hook}"
        for layer in range(model.n_layers)
        for hook in ("hook_z", "hook_pattern", "hook_v")
    ]
    output, cache = model.run_with_cache(ids, names_filter=names)
    assert torch.equal(output, before)
    for layer in range(model.n_layers):
        pattern, v, z = (cache[f"blocks.{layer}.attn.hook_{site}"] for site in ("pattern", "v", "z"))
        v = v.repeat_interleave(model.n_heads // model.n_kv_heads, 2)
        assert torch.allclose(torch.einsum("bhij,bjhd->bihd", pattern, v), z, atol=1e-4)
    halved = model.run_with_hooks(ids, fwd_hooks=[("blocks.1.attn.hook_pattern", lambda x, hook: x / 2)])
    by_z = model.run_with_hooks(ids, fwd_hooks=[("blocks.1.attn.hook_z", lambda x, hook: x / 2)])
    assert torch.allclose(halved, by_z, atol=1e-4) and not torch.allclose(halved, before, atol=1e-2)


def test_copies_and_the_cache_know_the_operators(tmp_path: Path) -> None:
    from workbench.head_scores.random_weights import random_model
    from workbench.models.bfloat16 import in_bfloat16

    model, task = swapped("llama", "sliding-window(window=2)"), paired(2)
    assert random_model(model).operators == in_bfloat16(model).operators == model.operators
    ids = task.clean[0][None]
    half = in_bfloat16(model)(ids).float()
    assert (half - model(ids)).abs().mean() < 0.2 * (half - hooked("llama")(ids)).abs().mean()
    sweeps = [
        wb.sweep(m, task, cache=tmp_path)
        for m in (hooked("llama"), model, swapped("llama", "sliding-window(window=3)"), swapped("llama", "lightning"))
    ]
    for sweep, m in zip(sweeps[1:], (model,), strict=False):
        fresh = wb.sweep(m, task, cache=False)
        assert np.allclose(sweep.values, fresh.values, atol=1e-5)
    values = [sweep.values for sweep in sweeps]
    assert all(not np.allclose(a, b, atol=1e-3) for i, a in enumerate(values) for b in values[:i])


@pytest.mark.parametrize(
    "operator", ["sliding-window(window=3)", "context-causal(block=4)", "lightning", "delta", "block-linear(block=4)"]
)
@pytest.mark.parametrize(("position", "freeze"), [("end", "position"), (4, "all")])
@pytest.mark.parametrize("into", ["", "v"])
def test_paths_are_patched_as_published(operator: str, position: str | int, freeze: Any, into: str) -> None:
    model, inputs = swapped("llama", operator, (1, 2)), PAIRS
    receivers = [Head(2, 3), Head(2, 4)] if into else None
    options: dict[str, Any] = {"receivers": receivers, "into": into, "share_kv": True} if into else {}
    result = wb.path_patch(model, inputs, position=position, freeze=freeze, cache=False, **options)
    for example, sender in ((0, Head(0, 1)), (2, Head(1, 5))):
        at = inputs.positions[example][position] if isinstance(position, str) else position
        expected = published("llama", example, sender, receivers, into or "q", at, freeze == "all", model)
        largest = float(model.hf(inputs.clean[example][None]).logits.detach().abs().max())
        value = result.values[sender.layer, sender.index, example]
        assert value == pytest.approx(expected, abs=max(1e-4, 1e-5 * largest))
    if position == "end":
        assert np.nanmax(np.abs(result.delta)) > 1e-3


@pytest.mark.parametrize("operator", ["sliding-window(window=3)", "lightning", "gated-delta"])
def test_a_screen_ranks_the_heads_of_the_swapped_model(operator: str) -> None:
    model, inputs = swapped("llama", operator), paired(4)
    exact = wb.sweep(model, inputs, cache=False)
    screen = wb.screen(model, inputs, confirm=0.4, cache=False)
    cells = screen.confirmed
    assert 0 < cells.sum() < cells.size
    assert np.allclose(screen.exact.values[cells], exact.values[cells], atol=1e-4)
    assert np.corrcoef(screen.estimate.mean_delta.ravel(), exact.mean_delta.ravel())[0, 1] > 0.5


def test_scores_of_a_swapped_model() -> None:
    """Of a layer whose rows are shares they are those of its patterns; of another's the pattern scores are NaN."""
    model = wb.load("tiny")
    signed = wb.scores_on(wb.swap(model, {0: "lightning"}, cache=False), wb.task("ioi", n=2), cache=False)
    assert signed.info["without_pattern_scores"] == {
        "0": "lightning: the rows of its matrix are no shares of attention"
    }
    assert np.isnan(signed["entropy"][0]).all() and np.isfinite(signed["entropy"][1]).all()
    assert np.isfinite(signed["direct_logit_attribution"]).all()
    swapped_model = wb.swap(model, {0: "moneta", 1: "sliding-window(window=3)"}, cache=False)
    for scores in (
        wb.scores_on(swapped_model, wb.task("ioi", n=4), cache=False),
        wb.scores(swapped_model, cache=False),
    ):
        assert np.isnan(scores["locality"][0]).all()
        assert np.allclose(scores["locality"][1], 1, atol=1e-5)  # all of it within the five nearest


def test_an_operator_that_counts_from_the_first_position_refuses_padding_there() -> None:
    model = swapped("llama", "sliding-window(window=3, sinks=1)")
    ids = torch.randint(3, VOCABULARY, (1, 8), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[:, -2:] = 0
    assert torch.allclose(model(ids, attention_mask=mask)[0, :6], model(ids[:, :6])[0], atol=1e-4)
    with pytest.raises(wb.WorkbenchError, match=r"counts positions from the first\. Pad on the right"):
        model(ids, attention_mask=mask.flip(1))


def test_two_threads_run_one_swapped_model() -> None:
    """Gates are of the run's own input, also where the modules are called without the model's lock."""
    model = swapped("llama", "gated-delta")
    rows = [torch.randint(3, VOCABULARY, (1, 9 + i), generator=torch.Generator().manual_seed(i)) for i in range(8)]
    with torch.no_grad():
        expected = [model.hf(ids).logits for ids in rows]

        def run(ids: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return model.hf(ids).logits

        with ThreadPoolExecutor(4) as pool:
            assert all(map(torch.equal, pool.map(run, rows * 5), expected * 5))


def test_a_gate_goes_in_beside_the_identity_mixer_and_says_so() -> None:
    """With a gate of one half, z is half of the head's own value."""
    gate = wb.Operator(
        name="half",
        version=1,
        source="this test",
        status="control",
        role="gate",
        causal="token",
        ignores=("q", "k"),
        matrix_axis="channel",
        row_stochastic=False,
        form="position-wise",
        matrix=lambda q, k, call: torch.eye(q.shape[2], k.shape[2]).expand(*q.shape[:2], q.shape[3], -1, -1) / 2,
        efficient=lambda q, k, v, call: v[:, :, v.shape[2] - q.shape[2] :] / 2,
    )
    with pytest.warns(UserWarning, match=r"half is a gate: .* identity mixer, so that no position of layer 1 attends"):
        model = wb.swap(hooked("llama"), {1: gate}, cache=False)
    _, cache = model.run_with_cache(paired(1).clean[0][None])
    v = cache["blocks.1.attn.hook_v"].repeat_interleave(model.n_heads // model.n_kv_heads, 2)
    assert torch.equal(cache["blocks.1.attn.hook_z"], v / 2)


def test_another_operator_replaces_one_that_read_token_embeddings() -> None:
    model, ids = hooked("llama"), paired(1).clean[0][None]
    static = swapped("llama", "fixed-qk(form=static)", 1)
    again = wb.swap(static, {1: "softmax"}, cache=False)
    calls: list[int] = []
    with again.running({"blocks.1.attn.hook_q": lambda x: calls.append(1)}):
        assert torch.equal(again.hf(ids).logits, model(ids))
    assert len(calls) == 1 and not torch.equal(static(ids), model(ids))


def test_cached_keys_are_refused_where_earlier_rows_depend_on_later_positions() -> None:
    model, ids = swapped("llama", "block-linear(block=4)"), paired(1).clean[0][None]
    with pytest.raises(wb.WorkbenchError, match=r"cached keys and values do not hold\. Run without"):
        model.hf.generate(ids, max_new_tokens=2, do_sample=False, use_cache=True)
    assert model.hf.generate(ids, max_new_tokens=2, do_sample=False, use_cache=False).shape[1] == ids.shape[1] + 2


def test_a_mask_that_is_not_boolean_is_refused_in_one_line() -> None:
    scores = wb.Operator(
        name="scores",
        version=1,
        source="this test",
        status="control",
        mask=lambda q, k, call: torch.zeros(1, 1, q.shape[2], k.shape[2]),
    )
    with pytest.raises(wb.WorkbenchError, match=r"mask of scores is of torch\.float32: expected torch\.bool"):
        wb.swap(hooked("llama"), {1: scores}, cache=False)
