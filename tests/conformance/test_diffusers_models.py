"""Every transformer of diffusers that `HookedDiffusers` takes: diffusers' own numbers, and heads as plain hooks have
them. Sizes are drawn for each class: heads, layers, widths and words."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.conformance.diffusers_zoo import PATCHES, ZOO, made_eager, make
from tests.oracle.plain_diffusers import PlainAttention
from tests.small_diffusers import IMAGE, SINGLE, Plain, call, close, dit, flux, inputs_of, pixart, scaled, sd3, sd35
from workbench.models.diffusion.diffusers_families import FAMILIES

each = pytest.mark.parametrize("name", ZOO)
SITES = ("q", "k", "v", "pattern", "z")


def test_every_class_that_is_hooked_in_place_is_here() -> None:
    assert {name.partition(",")[0] for name in ZOO} == set(FAMILIES)
    assert all(type(make(name)[0]).__name__ == name.partition(",")[0] for name in ZOO)


def hook_of(model: wb.HookedDiffusers, place: str, layer: int, site: str) -> str:
    """q and k as attention receives them."""
    return model.hook_name(f"{place}.hook_{'rot_' * (site in 'qk')}{site}", layer)


def attentions(model: Any, name: str, inputs: dict[str, Any]) -> list[tuple[str, int, PlainAttention]]:
    """Site, layer and plain hooks of every attention."""
    mask = inputs.get("encoder_attention_mask")
    return [(attends.site, *place) for attends in ZOO[name][1] for place in attends.in_layers(model, mask)]


@each
def test_without_hooks_it_is_diffusers_model_bit_for_bit(name: str) -> None:
    model, words = make(name)
    inputs = inputs_of(model, words=words)
    expected, hooked = call(model, **inputs), wb.HookedDiffusers(model)
    assert torch.equal(hooked(**inputs).sample, expected)
    output, _ = hooked.run_with_cache(**inputs)
    assert torch.equal(output.sample, expected)
    with hooked.hooks([("blocks.1.attn.hook_z", lambda z, hook: 0 * z)]):
        assert not close(call(model, **inputs), expected)
    assert torch.equal(hooked(**inputs).sample, expected) and torch.equal(call(model, **inputs), expected)
    eager = made_eager(model)
    assert eager == ("SD3" not in name)
    expected = call(model, **inputs)
    assert torch.equal(hooked(**inputs).sample, expected)
    with hooked.hooks([("blocks.1.hook_resid_pre", lambda x, hook: x)]):
        assert torch.equal(call(model, **inputs), expected)


def recorded(name: str) -> tuple[Any, int, dict[str, Any], wb.HookedDiffusers, Any]:
    """A model, its words, inputs, the model hooked, and what a run of them recorded."""
    model, words = make(name)
    inputs = inputs_of(model, words=words)
    hooked = wb.HookedDiffusers(model)
    return model, words, inputs, hooked, hooked.run_with_cache(**inputs)[1]


@each
def test_recorded_heads_are_those_of_plain_hooks(name: str) -> None:
    model, _, inputs, hooked, cache = recorded(name)
    places = attentions(model, name, inputs)
    assert {hooked.hook_name(f"{at}.hook_z", layer) for at, layer, _ in places} == {
        hook for hook in hooked.hook_dict if hook.endswith("hook_z")
    }
    for at, layer, plain in places:
        sites = plain.read(lambda: call(model, **inputs))
        for site in ("q", "k", "v", "pattern"):
            assert close(cache[f"{hook_of(hooked, at, layer, site)}@0"], sites[site]), (at, layer, site)
        z, n = cache[f"{hook_of(hooked, at, layer, 'z')}@0"], sites["z"].shape[1]
        assert torch.equal(z[:, :n], sites["z"])  # the last layer of SD3 gives no text
        assert close(z, torch.einsum("bhds,bshx->bdhx", sites["pattern"], sites["v"]))


@each
def test_parts_of_patterns_are_those_of_plain_hooks(name: str) -> None:
    model, words, inputs, hooked, cache = recorded(name)
    for attends in ZOO[name][1]:
        rows, columns = (_slices(parts, words) for parts in (attends.parts, attends.src or attends.parts))
        for layer, plain in attends.in_layers(model, inputs.get("encoder_attention_mask")):
            pattern = plain.read(lambda: call(model, **inputs))["pattern"]
            hook = hooked.hook_name(f"{attends.site}.hook_pattern", layer)
            for dest, src in itertools.product(rows, columns):
                part = hooked.part(hook, cache[f"{hook}@0"], dest, src)
                assert close(part, pattern[:, :, rows[dest], columns[src]])


def _slices(parts: tuple[str, ...], words: int) -> dict[str, slice]:
    lengths = [{"image": PATCHES, "text": words}[part] for part in parts]
    ends = list(itertools.accumulate(lengths))
    return {part: slice(end - n, end) for part, n, end in zip(parts, lengths, ends, strict=True)}


@each
def test_an_edit_of_one_head_is_that_of_plain_hooks(name: str) -> None:
    """Zeros, and values in another order, at every head of every layer."""
    model, words = make(name)
    inputs = inputs_of(model, words=words)
    hooked, base = wb.HookedDiffusers(model), call(model, **inputs)
    for at, layer, plain in attentions(model, name, inputs):
        own = plain.read(lambda: call(model, **inputs))
        for site, head in itertools.product(SITES, range(plain.heads)):
            part = (slice(None), head) if site == "pattern" else (slice(None), slice(None), head)
            for change in (torch.zeros_like, lambda x: x.flip(-1)):

                def edit(x: Tensor, hook: Any, part: Any = part, change: Any = change) -> Tensor:
                    x = x.clone()
                    x[part] = change(x[part])
                    return x

                with plain.replaced(head, plain.z_after(own, site, head, change)):
                    expected = call(model, **inputs)
                with hooked.hooks([(hook_of(hooked, at, layer, site), edit)]):
                    assert close(call(model, **inputs), expected), (at, layer, site, head)
                assert float((expected - base).abs().max()) > 1e-4, (at, layer, site, head)
        with plain.replaced(0, torch.zeros_like(own["z"][:, :, 0])):
            expected = call(model, **inputs)
        with hooked.hooks([wb.Edit(f"{at}.hook_z", layer, head=0, kind="zero")]):
            assert close(call(model, **inputs), expected)
    assert torch.equal(call(model, **inputs), base)


@pytest.mark.parametrize(
    ("model", "site", "base", "outputs"),
    [
        (lambda: dit(11), "attn", "transformer_blocks.{}.attn1", IMAGE),
        (lambda: pixart(11), "cross_attn", "transformer_blocks.{}.attn2", IMAGE),
        (lambda: sd3(11), "attn", "transformer_blocks.{}.attn", ["to_out.0", "to_add_out"]),
        (lambda: sd35(12, dual=(1, 10)), "attn2", "transformer_blocks.{}.attn2", IMAGE),
        (lambda: flux(11), "attn", "transformer_blocks.{}.attn", ["to_add_out", "to_out.0"]),
        (lambda: flux(2, single=11), "single_blocks.attn", "single_transformer_blocks.{}", SINGLE),
    ],
    ids=["dit", "pixart", "sd3", "sd35", "flux", "flux-single"],
)
def test_an_edit_of_layer_1_leaves_layer_10_alone(
    model: Callable[[], Any], site: str, base: str, outputs: list[str]
) -> None:
    hf = model()
    hooked, inputs = wb.HookedDiffusers(hf), inputs_of(hf)
    names = [hooked.hook_name(f"{site}.hook_z", layer) for layer in (1, 10)]
    outputs_of_10 = outputs if "to_add_out" not in outputs else IMAGE  # the last layer of SD3 gives no text
    with Plain(hf, base.format(1), outputs, scaled):
        expected = call(hf, **inputs)
    with Plain(hf, base.format(10), outputs_of_10, scaled):
        other = call(hf, **inputs)
    called: list[str] = []

    def scale(z: Tensor, hook: Any) -> Tensor:
        called.append(hook.name)
        return scaled(z)

    with hooked.hooks([(names[0], scale)]):
        assert close(call(hf, **inputs), expected)
    assert called == names[:1]
    with hooked.hooks([wb.Edit(f"{site}.hook_z", 10, kind=lambda z: z), (names[0], scale)]):
        assert close(call(hf, **inputs), expected)
    assert not close(other, expected)
