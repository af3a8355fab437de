"""q, k, v and pattern of every head of every class of vision transformers, against plain hooks on transformers' model.

Sizes are drawn for each class: heads, layers, widths and patches."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.conformance.vision_zoo import OUTPUTS, ZOO, attentions, first_two, image_pairs, make, outputs, random_sizes
from tests.oracle.plain_vision import PlainViT

each = pytest.mark.parametrize("name", ZOO)
SITES = ("q", "k", "v", "pattern")
EXACT = 1e-9  # in float64, where rounding hides nothing


def plain_and_hooked(name: str) -> tuple[PlainViT, wb.HookedViT]:
    sizes = random_sizes(name)
    copy, hooked = (make(name, sizes=sizes).double() for _ in range(2))
    for model in (copy, hooked):
        for layer in attentions(model):
            layer.get_parameter("q_proj.weight").mul_(4)  # patterns that are not uniform
    layers = attentions(copy)
    assert len(layers) == sizes["num_hidden_layers"]
    output = next(x for x in OUTPUTS if hasattr(layers[0], x))
    return PlainViT(copy, layers, output, sizes["num_attention_heads"]), wb.HookedViT(hooked)


def assert_close(value: Tensor, expected: Tensor, tolerance: float = EXACT) -> None:
    torch.testing.assert_close(value, expected.to(value), rtol=0, atol=tolerance * max(1, float(expected.abs().max())))


def pairs_of(model: wb.HookedViT, name: str) -> tuple[Tensor, Tensor, wb.PairedInputs]:
    clean, corrupt, inputs = image_pairs(model, 2, random_sizes(name)["image_size"])
    return clean.double(), corrupt.double(), inputs


@each
def test_recorded_q_k_v_and_patterns_are_those_of_plain_hooks(name: str) -> None:
    plain, model = plain_and_hooked(name)
    clean, corrupt, inputs = pairs_of(model, name)
    recording: Any = wb.record(model, inputs, [*SITES, "z"], cache=False)
    for images, recorded in ((clean, recording.clean), (corrupt, recording.corrupt)):
        assert torch.equal(model(images), outputs(plain.model, images))
        _, cache = model.run_with_cache(images)
        for i, sites in enumerate(plain.read(lambda images=images: outputs(plain.model, images))):
            for site in (*SITES, "z"):
                assert_close(cache[f"blocks.{i}.attn.hook_{site}"], sites[site])
                received = sites[f"rot_{site}" if site in "qk" else site]  # as attention has it
                for row, value in enumerate(recorded[site]):
                    assert_close(value[i], received[row])
            rotates = not torch.equal(sites["q"], sites["rot_q"])
            assert rotates == (f"blocks.{i}.attn.hook_rot_q" in model.hook_dict) == ("DINOv3" in name)
            for site in ("rot_q", "rot_k") if rotates else ():
                assert_close(cache[f"blocks.{i}.attn.hook_{site}"], sites[site])


@each
def test_the_pattern_written_out_is_that_of_eager_attention(name: str) -> None:
    plain, model = plain_and_hooked(name)
    plain.model.set_attn_implementation("eager")
    for sites in plain.read(lambda: outputs(plain.model, pairs_of(model, name)[0])):
        assert_close(sites["pattern"], sites["eager"], 1e-5)  # some take the softmax in float32


@each
def test_an_edit_of_one_head_is_that_of_plain_hooks(name: str) -> None:
    """By a function in a whole forward, and by values of other images in a sweep of all heads."""
    plain, model = plain_and_hooked(name)
    clean, corrupt, inputs = pairs_of(model, name)
    own, other = (plain.read(lambda x=x: outputs(plain.model, x)) for x in (clean, corrupt))
    base = outputs(plain.model, clean)
    for site in SITES:
        swept = wb.sweep(model, inputs, site=site, direction="noise", metric=first_two, cache=False)
        assert swept.values.shape[:2] == (len(own), plain.n_heads)
        assert abs(swept.delta).max() > 1e-5
        for layer, head in itertools.product(range(len(own)), range(plain.n_heads)):
            part = (slice(None), head) if site == "pattern" else (slice(None), slice(None), head)

            def flip(x: Tensor, hook: Any, part: Any = part) -> Tensor:
                x[part] = x[part].flip(-1)
                return x

            with plain.edited(site, layer, head, lambda x: x.flip(-1), own[layer]):
                expected = outputs(plain.model, clean)
            assert_close(model.run_with_hooks(clean, fwd_hooks=[(f"blocks.{layer}.attn.hook_{site}", flip)]), expected)
            assert float((expected - base).abs().max()) > 1e-5
            with plain.edited(site, layer, head, lambda _, x=other[layer][site][part]: x, own[layer]):
                patched = first_two(outputs(plain.model, clean), None)
            assert_close(torch.tensor(swept.values[layer, head]), patched)
