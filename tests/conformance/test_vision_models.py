"""Every vision transformer that `HookedViT` takes: transformers' own numbers, and sweeps as plain hooks give them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t
from torch import Tensor

import workbench as wb
from tests.conformance.vision_zoo import (
    D_HEAD,
    HEADS,
    LAYERS,
    SIZES,
    ZOO,
    first_two,
    image_pairs,
    make,
    outputs,
    pixels,
    projections,
)
from tests.oracle.plain_hooks import edited, head_slice
from workbench.models.catalog import VISION_FAMILIES
from workbench.models.vision_families import FAMILIES

each = pytest.mark.parametrize("name", ZOO)


@contextmanager
def z_replaced(model: Any, layer: int, head: int, values: Tensor, at: Any = slice(None)) -> Iterator[None]:
    """One head's z by plain hooks on the output projection, at some positions."""

    def change(z: Tensor) -> Tensor:
        z, part = z.clone(), head_slice(head, D_HEAD)
        z[:, at, part] = values[:, at, part]
        return z

    with edited((projections(model)[layer], "input", change)):
        yield


def z_of(model: Any, images: Tensor) -> list[Tensor]:
    seen: list[Tensor] = []

    def read(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return x

    with edited(*((part, "input", read) for part in projections(model))):
        outputs(model, images)
    return seen


def test_every_family_is_listed_where_models_are_loaded() -> None:
    assert set(VISION_FAMILIES) == set(FAMILIES)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@each
def test_without_hooks_it_is_transformers_model_bit_for_bit(name: str, implementation: str) -> None:
    images, copy = pixels(3, 2), make(name, implementation)
    expected, model = outputs(copy, images), wb.HookedViT(make(name, implementation))
    assert model.attention_implementation == implementation
    assert torch.equal(model(images), expected)
    assert torch.equal(model(model.pixels_to_inputs(images)), expected)
    assert (
        model.run_with_hooks(
            images, fwd_hooks=[("blocks.1.attn.hook_pattern", lambda x, hook: torch.zeros_like(x))]
        ).allclose(expected, atol=1e-3)
        is False
    )
    assert torch.equal(model(images), expected) and torch.equal(outputs(model.hf, images), expected)


@each
def test_it_passes_the_checks_of_every_model(name: str) -> None:
    model = wb.HookedViT(make(name))
    assert model.resumable and not model.causal, model.why_not_resumable
    wb.testing.check_model(model)


@each
def test_a_sweep_of_all_heads_is_that_of_plain_hooks(name: str) -> None:
    plain, model = make(name).double(), wb.HookedViT(make(name).double())  # rounding hides nothing
    assert len(projections(plain)) == LAYERS
    clean, corrupt, inputs = image_pairs(model)
    clean, corrupt = clean.double(), corrupt.double()
    swept = wb.sweep(model, inputs, direction="noise", metric=first_two, cache=False)
    assert swept.info["exact"] == "resumed"
    source = z_of(plain, corrupt)
    for layer in range(LAYERS):
        for head in range(HEADS):
            with z_replaced(plain, layer, head, source[layer]):
                expected = first_two(outputs(plain, clean), None)
            assert swept.values[layer, head] == pytest.approx(expected.double().numpy(), abs=1e-9)
    assert np.abs(swept.delta).max() > 1e-3


@each
def test_positions_have_the_names_of_the_tokens_and_patches(name: str) -> None:
    plain, model = make(name).double(), wb.HookedViT(make(name).double())  # rounding hides nothing
    clean, corrupt, inputs = image_pairs(model)
    clean, corrupt = clean.double(), corrupt.double()
    added = ZOO[name][1]
    assert model.added_positions == added
    assert model.labels(inputs.clean[0]) == (*added, *(f"{i},{j}" for i in range(4) for j in range(4)))
    patches, source = slice(len(added), None), z_of(plain, corrupt)
    swept = wb.sweep(model, inputs, positions="patches", direction="noise", metric=first_two, cache=False)
    edit = wb.Edit("z", 1, head=2, position="patches")
    ran = wb.run(model, inputs, [edit], cache=False).scores(first_two)
    places = wb.sweep(
        model, inputs, by=["head", "position"], heads=[2], direction="noise", metric=first_two, cache=False
    )
    assert places.labels["position"] == model.labels(inputs.clean[0])
    with z_replaced(plain, 1, 2, source[1], patches):
        expected = first_two(outputs(plain, clean), None).double().numpy()
    assert swept.values[1, 2] == pytest.approx(expected, abs=1e-9)
    assert ran.double().numpy() == pytest.approx(expected, abs=1e-9)
    at = len(added) + 6
    with z_replaced(plain, 1, 2, source[1], at):
        expected = first_two(outputs(plain, clean), None).double().numpy()
    assert places.values[1, 0, at] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["ViT classifier", "DINOv2 with registers", "BEiT classifier"])
def test_direct_paths_start_at_the_class_token(name: str) -> None:
    """To the outputs: one head's z of the corrupt run, every other head's frozen there, MLPs recomputed."""
    plain, model = make(name), wb.HookedViT(make(name))
    clean, corrupt, inputs = image_pairs(model)
    patched = wb.path_patch(model, inputs, metric=first_two, cache=False)
    assert patched.info["position"] == "cls"
    own, source = z_of(plain, clean), z_of(plain, corrupt)

    def frozen(layer: int, sender: tuple[int, int]) -> Callable[[Tensor], Tensor]:
        def change(z: Tensor) -> Tensor:
            z, part = z.clone(), head_slice(sender[1], D_HEAD)
            z[:, 0] = own[layer][:, 0]
            if layer == sender[0]:
                z[:, 0, part] = source[layer][:, 0, part]
            return z

        return change

    for sender in ((0, 1), (1, 3), (2, 0)):
        with edited(*((part, "input", frozen(i, sender)) for i, part in enumerate(projections(plain)))):
            expected = first_two(outputs(plain, clean), None).double().numpy()
        assert patched.values[sender] == pytest.approx(expected, rel=1e-6, abs=1e-5)


def test_paths_without_a_class_token_name_their_position() -> None:
    model = wb.HookedViT(make("I-JEPA classifier"))
    inputs = image_pairs(model)[2]
    with pytest.raises(wb.WorkbenchError, match=r"position=None: .*name neither 'end' nor 'cls'"):
        wb.path_patch(model, inputs, cache=False)
    with pytest.raises(wb.WorkbenchError, match="position='patches': expected one position"):
        wb.path_patch(model, inputs, position="patches", cache=False)
    assert np.isfinite(wb.path_patch(model, inputs, position="2,3", cache=False).values).all()


@pytest.mark.parametrize("name", ["ViT classifier", "DINOv2", "BEiT with a bias in each layer"])
def test_the_rest_of_the_engine(name: str, tmp_path: Path) -> None:
    model = wb.HookedViT(make(name))
    inputs = image_pairs(model)[2]
    options: dict[str, Any] = {"metric": first_two, "cache": False}
    swept = wb.sweep(model, inputs, **options)
    cached, computed = (wb.record(model, inputs, ["z", "pattern", "v"], cache=store) for store in (tmp_path, False))
    again = wb.record(model, inputs, ["z", "pattern", "v"], cache=tmp_path)
    for site in ("z", "pattern", "v"):
        assert torch.equal(cached.clean[site][0], again.clean[site][0])
        assert torch.allclose(cached.clean[site][0], computed.clean[site][0], atol=1e-5)
    z, v, pattern = (computed.clean[site][1] for site in ("z", "v", "pattern"))
    assert torch.allclose(torch.einsum("lhds,lshx->ldhx", pattern, v), z, atol=1e-5)
    estimate = wb.estimate(model, inputs, ["z"], cache=False)
    assert estimate.runs == 6 and estimate.size >= 6 * LAYERS * len(inputs.clean[0]) * HEADS * D_HEAD * 4
    screened = wb.screen(model, inputs, confirm=0.5, **options)
    exact = np.isfinite(screened.exact.values).all(-1)
    assert exact.sum() == LAYERS * HEADS // 2
    assert screened.exact.values[exact] == pytest.approx(swept.values[exact], abs=1e-6)
    sets = wb.sweep_sets(model, inputs, {"one": [wb.Head(1, 2)]}, edit="patch", base="corrupt", **options)
    assert sets.values[0] == pytest.approx(swept.values[1, 2], abs=1e-6)
    swept.save(tmp_path / "sweep.safetensors")
    loaded = wb.Sweep.load(tmp_path / "sweep.safetensors")
    assert np.array_equal(loaded.values, swept.values) and loaded.info["model"] == swept.info["model"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["ViT classifier", "DINOv2 with registers", "DINOv3", "CLIP tower", "BEiT classifier"])
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    copy, model = make(name).to(dtype), wb.HookedViT(make(name).to(dtype))
    images = pixels(2, 2)
    assert torch.equal(model(images), outputs(copy, images.to(dtype)))
    clean, corrupt, inputs = image_pairs(model, 2)
    swept = wb.sweep(model, inputs, direction="noise", metric=first_two, cache=False)
    source = z_of(copy, corrupt.to(dtype))
    with z_replaced(copy, 1, 1, source[1]):
        expected = first_two(outputs(copy, clean.to(dtype)).float(), None).double().numpy()
    scale = float(outputs(copy, clean.to(dtype)).abs().max())
    assert swept.values[1, 1] == pytest.approx(expected, abs=(0.05 if dtype == torch.bfloat16 else 0.01) * scale)


@pytest.mark.parametrize("name", ["DINOv2", "DINOv3", "BEiT with a bias in each layer"])
def test_images_of_another_size_are_proven_at_that_size(name: str) -> None:
    plain, model = make(name), wb.HookedViT(make(name))
    clean, corrupt, inputs = image_pairs(model, side=24)
    assert model.patch_grid(len(inputs.clean[0])) == (6, 6)
    swept = wb.sweep(model, inputs, direction="noise", metric=first_two, cache=False)
    assert swept.info["exact"] == "resumed"
    source = z_of(plain, corrupt)
    with z_replaced(plain, 0, 3, source[0]):
        expected = first_two(outputs(plain, clean), None).double().numpy()
    assert swept.values[0, 3] == pytest.approx(expected, rel=1e-6, abs=1e-5)


def test_the_check_at_load_time_takes_few_patches_where_any_number_is_taken() -> None:
    large = {**SIZES, "image_size": 64}
    assert wb.HookedViT(t.DINOv3ViTModel(t.DINOv3ViTConfig(**large)).eval()).trial().shape[1] == 17
    assert wb.HookedViT(t.ViTModel(t.ViTConfig(**large)).eval()).trial().shape[1] == 1 + (64 // 4) ** 2


def test_another_encoder_of_the_same_weights_is_another_model() -> None:
    """One reads what its pooler gives, the other its class token."""
    whole, bare = make("ViT"), make("ViT without a pooler")
    bare.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("pooler")})
    pooled, cls = wb.HookedViT(whole), wb.HookedViT(bare)
    assert (pooled.feature, cls.feature) == ("pooler", "cls")
    assert pooled.identity.current() is not None
    assert pooled.identity.current() != cls.identity.current()


def test_the_pooling_head_of_siglip_is_run_and_said_to_be_out_of_reach() -> None:
    torch.manual_seed(0)
    tower = t.SiglipVisionModel(t.SiglipVisionConfig(**SIZES)).eval().requires_grad_(False)
    with pytest.warns(UserWarning, match="pooling head attends by torch.nn.MultiheadAttention; .* out of reach"):
        model = wb.HookedViT(tower)
    images = pixels(2, 2)
    assert torch.equal(model(images), outputs(tower, images)) and model.feature == "pooler"
    wb.testing.check_model(model)
