"""diffusers' DiT in `HookedDiT`, unmodified: against our DiT with its weights, and against a loop with plain hooks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.workbench.models.diffusion.test_diffusers_weights import SIZES, of_diffusers
from workbench.errors import UnknownName, UnsupportedModel, UsageError
from workbench.models.diffusion.diffusers_weights import from_diffusers

PAIRS = wb.latents(1, other=2, n=2, seed=0)


def spread(outputs: Tensor, _: Any = None) -> Tensor:
    return outputs.std(-1)


def euler(model: Any, noise: Tensor, label: int, steps: int, guidance: float, change: Any = None) -> Tensor:
    """A plain sampling loop; `change` is done to head 1 of layer 0 in step 1, in both passes."""
    x, none = noise[None], model.config.num_embeds_ada_norm
    for step in range(steps):
        project, handle = model.transformer_blocks[0].attn1.to_out[0], None
        if change is not None and step == 1:
            handle = project.register_forward_pre_hook(lambda _, args: (change(args[0].clone()),))
        time = torch.tensor([1000 * (1 - step / steps)])
        labelled, unlabelled = (
            model(x, timestep=time, class_labels=torch.tensor([i])).sample[:, : x.shape[1]] for i in (label, none)
        )
        if handle is not None:
            handle.remove()
        x = x - (unlabelled + guidance * (labelled - unlabelled)) / steps
    return x[0]


@pytest.mark.parametrize("sizes", SIZES[:2])
def test_sweeps_equal_those_of_our_dit(sizes: tuple[Any, ...]) -> None:
    reference = of_diffusers(sizes)
    hooked = wb.HookedDiT(reference, steps=3, guidance=2.0)
    converted = wb.HookedDiT(from_diffusers(reference), steps=3, guidance=2.0)
    assert hooked.resumable and hooked.sampling.sampler == "ddim"
    images, expected_images = hooked.images(PAIRS), converted.images(PAIRS)
    limit = 1e-5 * max(1, float(expected_images.abs().max()))
    assert float((images - expected_images).abs().max()) < limit
    for by in ("head", ["step", "head"]):
        sweep, expected = (
            wb.sweep(model, PAIRS, by=by, metric=spread, direction="noise") for model in (hooked, converted)
        )
        assert sweep.values.shape == expected.values.shape
        assert float(np.abs(sweep.values - expected.values).max()) < limit
        assert float(np.abs(expected.values).max()) > 1e-3


def test_an_edit_in_one_step_equals_a_plain_loop() -> None:
    model, steps, guidance = of_diffusers(SIZES[0]), 3, 2.0
    hooked = wb.HookedDiT(model, sampler="euler", steps=steps, guidance=guidance)
    inputs = hooked.prepare(PAIRS)
    noise = PAIRS.noise("clean", hooked.hf.config.image_shape)
    unhooked = torch.stack([euler(model, x, 1, steps, guidance) for x in noise])
    assert float((hooked.images(PAIRS) - unhooked).abs().max()) < 1e-5

    def zero(z: Tensor) -> Tensor:
        z[..., 8:16] = 0
        return z

    def edit(z: Tensor, hook: Any) -> Tensor:
        z = z.clone()
        z[:, :, 1] = 0
        return z

    expected = torch.stack([euler(model, x, 1, steps, guidance, zero) for x in noise])
    edited = hooked.run_with_hooks(torch.stack(inputs.clean), fwd_hooks=[("blocks.0.attn.hook_z@1", edit)])
    assert float((edited - expected.flatten(1)).abs().max()) < 1e-5
    assert float((expected - unhooked).abs().max()) > 1e-4
    outcome = wb.run(hooked, PAIRS, [wb.Edit("z", 0, head=1, kind="zero", step=1)])
    assert float((outcome.logits - expected.flatten(1)).abs().max()) < 1e-5


def test_what_inline_gates_leave_out_and_what_is_refused() -> None:
    model = of_diffusers(SIZES[0])
    hooked = wb.HookedDiT(model, steps=2)
    for site in ("attn_out", "resid_mid", "mlp_out"):
        with pytest.raises(UnknownName, match="This model has no such site"):
            hooked.hook_name(site, 0)
    with pytest.raises(UsageError, match=r"wb\.HookedDiffusers hooks diffusers' other models"):
        wb.HookedDiT(torch.nn.Linear(2, 2))
    model.train()
    with pytest.raises(UnsupportedModel, match=r"drops labels at random in training mode: call model\.eval\(\)"):
        hooked.images(PAIRS)
    model.eval()
    with pytest.raises(UsageError, match="the model predicts noise, and euler needs velocity"):
        hooked.resampled(sampler="euler")


@pytest.mark.parametrize("operator", ["uniform", "linear"])
def test_operators_go_in_as_they_do_into_our_dit(operator: str) -> None:
    reference = of_diffusers(SIZES[0])
    hooked, converted = (wb.HookedDiT(x, steps=2, guidance=2.0) for x in (reference, from_diffusers(reference)))
    before = hooked.images(PAIRS)
    images, expected = (wb.swap(model, {1: operator}).images(PAIRS) for model in (hooked, converted))
    assert float((images - expected).abs().max()) < 1e-5 * max(1, float(expected.abs().max()))
    assert float((images - before).abs().max()) > 1e-4
    assert torch.equal(hooked.images(PAIRS), before)
