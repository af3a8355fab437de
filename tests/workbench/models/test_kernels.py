"""Only what is hooked is explicit: which kernel ran where, and reading leaves every number as it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import workbench as wb
from tests.families import hooked, hugging_face, paired
from workbench.models.attention_edits import PartialTap
from workbench.models.language import HookedLM


def kernels(model: HookedLM) -> list[str]:
    return model.kernels()["kernel"].tolist()


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_reading_everything_leaves_the_output_bit_for_bit(family: str) -> None:
    model, ids = hooked(family), paired(1).clean[0][None]
    expected = model(ids)
    output, cache = model.run_with_cache(ids)
    assert torch.equal(output, expected)
    assert kernels(model) == [model.attention_implementation] * model.n_layers
    z = cache["blocks.1.attn.hook_z"]
    again, _ = model.run_with_cache(ids, names_filter=["blocks.1.attn.hook_z"])
    assert torch.equal(again, expected) and torch.equal(_["blocks.1.attn.hook_z"], z)


def test_with_gradients_too_and_these_reach_the_pattern() -> None:
    model, ids = HookedLM(hugging_face("llama").requires_grad_(True)), paired(1).clean[0][None]
    expected = model(ids)
    patterns: list[torch.Tensor] = []

    def save(x: torch.Tensor, hook: Any) -> None:
        x.retain_grad()
        patterns.append(x)

    name = "blocks.1.attn.hook_pattern"
    output = model.run_with_hooks(ids, fwd_hooks=[(name, save)])
    assert torch.equal(output, expected)
    output[0, -1, 5].backward()
    gradient = patterns[0].grad
    assert gradient is not None
    # Against a finite difference of an edited pattern.
    step = torch.zeros_like(patterns[0])
    step[0, 2, -1, 3] = 1e-2
    up, down = (
        model.run_with_hooks(ids, fwd_hooks=[(name, lambda x, hook, s=sign: x + s * step)])[0, -1, 5].item()
        for sign in (1, -1)
    )
    assert float(gradient[0, 2, -1, 3]) == pytest.approx((up - down) / 2e-2, rel=0.02, abs=1e-3)


def test_kernels_say_what_ran_where_and_why() -> None:
    model, ids = hooked("llama"), paired(1).clean[0][None]
    model(ids)
    assert kernels(model) == ["sdpa"] * 3
    edit = ("blocks.1.attn.hook_pattern", lambda x, hook: x / 2)
    model.run_with_hooks(ids, fwd_hooks=[edit])
    assert kernels(model) == ["sdpa", "explicit", "sdpa"]
    with model.running({"blocks.2.attn.hook_pattern": PartialTap(lambda x: x / 2, (3,))}):
        model.hf(ids)
    assert model.kernels()["why"].tolist()[2] == "the pattern of head 3 is edited"
    swapped = wb.swap(model, {1: "lightning"}, cache=False)
    swapped(ids)
    assert kernels(swapped) == ["sdpa", "lightning", "sdpa"]
    swapped.run_with_hooks(ids, fwd_hooks=[edit])
    assert kernels(swapped) == ["sdpa", "lightning, explicit", "sdpa"]
