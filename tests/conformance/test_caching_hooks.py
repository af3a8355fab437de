"""TransformerLens's arguments of `run_with_cache` and `add_caching_hooks`, at every hook point, against indexing the
full cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.families import VOCABULARY, nudged
from workbench.errors import UnknownName, UsageError
from workbench.models.language import HookedLM

IDS = torch.randint(0, VOCABULARY, (2, 7), generator=torch.Generator().manual_seed(1))
#: As many heads as positions would hide a cut of the wrong axis: the models have 6 and 2.
POSITIONS: dict[str, tuple[Any, Callable[[int], list[int]]]] = {
    "last": (-1, lambda n: [n - 1]),
    "integer": (3, lambda n: [3]),
    "torch integer": (torch.tensor(2), lambda n: [2]),
    "first k": ((2,), lambda n: [0, 1]),
    "range": ((1, 4), lambda n: [1, 2, 3]),
    "steps": ((0, 7, 3), lambda n: [0, 3, 6]),
    "slice": (slice(-3, None), lambda n: [n - 3, n - 2, n - 1]),
    "list": ([5, 0, -1], lambda n: [5, 0, n - 1]),
    "tensor": (torch.tensor([1, 6]), lambda n: [1, 6]),
}
FAMILIES = pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "gpt2", "gpt_neox"])


@cache
def model_of(family: str) -> HookedLM:
    return HookedLM(nudged(family).requires_grad_(True))


def indexed(x: Tensor, name: str, rows: list[int]) -> Tensor:
    """Positions of an activation: axis 1, in patterns and scores the destinations."""
    if name.removesuffix("_grad").endswith(("hook_pattern", "hook_attn_scores")):
        return x[:, :, rows]
    return x[:, rows]


@pytest.mark.parametrize("chosen", POSITIONS)
@FAMILIES
def test_pos_slice_takes_positions_at_every_hook_point(family: str, chosen: str) -> None:
    model, (pos_slice, rows) = model_of(family), POSITIONS[chosen]
    for ids in (IDS, IDS[:1]):
        _, full = model.run_with_cache(ids)
        _, some = model.run_with_cache(ids, pos_slice=pos_slice)
        assert set(some) == set(full) == set(model.hook_dict)
        for name in full:
            assert torch.equal(some[name], indexed(full[name], name, rows(7))), name
    _, one = model.run_with_cache(ids, pos_slice=pos_slice, remove_batch_dim=True)
    for name in full:
        assert torch.equal(one[name], indexed(full[name], name, rows(7))[0]), name


@FAMILIES
def test_pos_slice_takes_positions_of_gradients(family: str) -> None:
    model = model_of(family)
    _, full = model.run_with_cache(IDS, return_type="loss", incl_bwd=True)
    _, some = model.run_with_cache(IDS, return_type="loss", incl_bwd=True, pos_slice=[1, -2])
    assert set(some) == set(full) == {*model.hook_dict, *(f"{name}_grad" for name in model.hook_dict)}
    for name in full:
        assert torch.equal(some[name], indexed(full[name], name, [1, 5])), name
    assert not model.has_active_hooks()


def test_the_dictionary_has_its_batch_dimension_removed_too() -> None:
    model = model_of("llama")
    _, activations = model.run_with_cache(IDS[:1], return_cache_object=False, remove_batch_dim=True)
    assert type(activations) is dict and activations["blocks.0.attn.hook_z"].shape == (7, 6, 8)
    _, activations = model.run_with_cache(IDS, return_cache_object=False)
    assert type(activations) is dict and activations["blocks.0.attn.hook_z"].shape == (2, 7, 6, 8)


def test_activations_are_stored_on_the_device() -> None:
    _, stored = model_of("llama").run_with_cache(IDS, device="meta", pos_slice=-1)
    assert {x.device.type for x in stored.values()} == {"meta"}
    assert stored["blocks.0.attn.hook_rot_k"].shape == (2, 1, 2, 8)
    _, stored = model_of("llama").run_with_cache(IDS)
    assert {x.device.type for x in stored.values()} == {"cpu"}


def test_hooks_stay_until_they_are_reset() -> None:
    model, name = model_of("llama"), "blocks.1.attn.hook_z"
    seen: list[str] = []
    try:
        model.add_hook(name, lambda x, hook: seen.append(hook.name))
        _, stored = model.run_with_cache(IDS, names_filter=name)
        assert len(model.hook_dict[name].fwd_hooks) == 1 and seen == [name]  # one's own hook is left where it is
        _, stored = model.run_with_cache(IDS, names_filter=name, reset_hooks_end=False, return_cache_object=False)
        first = stored[name]
        model(IDS.flip(1))
        assert not torch.equal(stored[name], first)
    finally:
        model.reset_hooks()
    last = stored[name]
    model(IDS)
    assert stored[name] is last and not model.has_active_hooks() and seen == [name] * 3


def test_contexts_are_cleared_on_request() -> None:
    model, name = model_of("llama"), "blocks.1.attn.hook_z"
    for clear in (False, True):
        model.hook_dict[name].ctx["note"] = 1
        model.run_with_cache(IDS, names_filter=name, clear_contexts=clear)
        assert bool(model.hook_dict[name].ctx) is not clear


@pytest.mark.parametrize("remove", [False, True])
def test_caching_hooks_of_ones_own(remove: bool) -> None:
    model, names = model_of("llama"), ["blocks.1.attn.hook_rot_q", "hook_embed"]
    _, full = model.run_with_cache(IDS[:1], return_type="loss", incl_bwd=True)
    try:
        stored = model.add_caching_hooks(names, incl_bwd=True, remove_batch_dim=remove)
        model(IDS[:1], return_type="loss").backward()
    finally:
        model.reset_hooks()
    assert set(stored) == {*names, *(f"{name}_grad" for name in names)}
    for name in stored:
        expected = full[name][0] if remove else full[name]
        assert stored[name].shape == expected.shape and torch.allclose(stored[name], expected, atol=1e-5), name


@pytest.mark.parametrize("call", ["run_with_cache", "get_caching_hooks", "add_caching_hooks", "add_hook"])
def test_a_hook_point_that_does_not_exist_is_refused(call: str) -> None:
    model = model_of("llama")

    def ask(names: Any) -> None:
        if call == "run_with_cache":
            model.run_with_cache(IDS, names_filter=names)
        elif call == "add_hook":
            model.add_hook(names, lambda x, hook: None)
        else:
            getattr(model, call)(names)

    with pytest.raises(UnknownName, match=r"blocks\.1\.attn\.hook_z"):
        ask("blocks.1.attn.hook_zz")
    with pytest.raises(UsageError, match="matches none"):
        ask(lambda name: False)
    assert not model.has_active_hooks()
