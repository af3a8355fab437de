"""Recording some heads is the whole recording, selected; of patterns only these are computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import workbench as wb
from tests.families import hooked, paired
from workbench.models import reference_attention
from workbench.models.attention_edits import PartialTap

SITES = ["z", "q", "k", "v", "pattern", "resid_post"]
HEADS = (4, 1)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("operator", ["", "sliding-window(window=3)", "lightning"])
def test_the_heads_are_those_of_the_whole_recording(family: str, cached: bool, operator: str, tmp_path: Path) -> None:
    model, inputs = hooked(family), paired(2)
    if operator:
        with pytest.warns(UserWarning, match="drops") if (family, operator) == ("gemma2", "lightning") else _nothing():
            model = wb.swap(model, {1: operator}, cache=False)
    whole = wb.record(model, inputs, SITES, cache=False)
    some = wb.record(model, inputs, SITES, heads=HEADS, cache=tmp_path if cached else False)
    group = model.n_heads // model.n_kv_heads
    kv_heads = list(dict.fromkeys(head // group for head in HEADS))
    for i in range(2):
        for site in ("z", "q"):
            assert torch.allclose(some.clean[site][i], whole.clean[site][i][:, :, list(HEADS)], atol=1e-5)
        for site in ("k", "v"):
            assert torch.allclose(some.clean[site][i], whole.clean[site][i][:, :, kv_heads], atol=1e-5)
        assert torch.allclose(some.clean["pattern"][i], whole.clean["pattern"][i][:, list(HEADS)], atol=1e-5)
        assert torch.equal(some.clean["resid_post"][i], whole.clean["resid_post"][i])


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_only_the_heads_and_rows_of_a_tap_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = hooked("llama"), paired(1).clean[0][None]
    shapes: list[torch.Size] = []
    own = reference_attention.softmax

    def softmax(scores: torch.Tensor, *rest: Any) -> torch.Tensor:
        shapes.append(scores.shape)
        return own(scores, *rest)

    monkeypatch.setattr(reference_attention, "softmax", softmax)
    before, length = model(ids), ids.shape[1]
    seen: list[torch.Tensor] = []
    with model.running({"blocks.1.attn.hook_pattern": PartialTap(seen.append, (5, 2), (3, length - 1))}):
        assert torch.equal(model.hf(ids).logits, before)
    assert shapes == [(1, 2, 2, length)]
    _, cache = model.run_with_cache(ids)
    assert torch.allclose(seen[0], cache["blocks.1.attn.hook_pattern"][:, [5, 2]][:, :, [3, length - 1]], atol=1e-6)


@pytest.mark.parametrize("operator", ["", "sliding-window(window=4)", "lightning"])
def test_an_edit_of_some_heads_and_rows_is_the_edit_of_the_whole_pattern(operator: str) -> None:
    model, ids = hooked("llama"), paired(1).clean[0][None]
    if operator:
        model = wb.swap(model, {1: operator}, cache=False)

    def whole(x: torch.Tensor, hook: Any) -> torch.Tensor:
        x = x.clone()
        x[:, [[5], [2]], [3, 7]] *= 0.5
        return x

    expected = model.run_with_hooks(ids, fwd_hooks=[("blocks.1.attn.hook_pattern", whole)])
    with model.running({"blocks.1.attn.hook_pattern": PartialTap(lambda x: x / 2, (5, 2), (3, 7))}):
        assert torch.allclose(model.hf(ids).logits, expected, atol=1e-4)
    assert not torch.allclose(model(ids), expected, atol=1e-2)


def test_a_pattern_that_is_changed_in_place_counts_as_edited() -> None:
    model, ids = hooked("llama"), paired(1).clean[0][None]

    def in_place(x: torch.Tensor, hook: Any) -> None:
        x[:, 0] = 0

    def returned(x: torch.Tensor, hook: Any) -> torch.Tensor:
        x = x.clone()
        x[:, 0] = 0
        return x

    results = [model.run_with_hooks(ids, fwd_hooks=[("blocks.0.attn.hook_pattern", f)]) for f in (in_place, returned)]
    assert torch.equal(*results) and not torch.allclose(results[0], model(ids), atol=1e-2)
