"""What cannot be hooked in place is refused in a line, and hooked models leave each other alone."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn

import workbench as wb
from tests.small_diffusers import HEADS, WIDTH, call, dit, flux, inputs_of, sample, sd3
from workbench.errors import HookError, UnknownName, UnsupportedModel, UsageError


def test_what_cannot_be_hooked_is_refused_in_a_line() -> None:
    model = sd3()
    hooked, inputs = wb.HookedDiffusers(model), inputs_of(model)
    for site in ("attn_out", "resid_mid", "mlp_out"):
        with pytest.raises(
            UnknownName, match=f"SD3Transformer2DModel applies gates inline, so that {site} has no place"
        ):
            hooked.add_hook(f"blocks.0.hook_{site}", lambda x, hook: x)
    with pytest.raises(UnknownName, match="Did you mean"):
        hooked.add_hook("blocks.3.attn.hook_z", lambda x, hook: x)
    with (
        pytest.raises(HookError, match=r"hook_z@4: this run had 2 steps, 0 to 1\. Give one"),
        hooked.hooks([("blocks.0.attn.hook_z@4", lambda x, hook: x)]),
    ):
        sample(model, [900, 500])
    with (
        pytest.raises(HookError, match="An edit must keep the shape"),
        hooked.hooks([("blocks.0.attn.hook_z", lambda x, hook: x[:, 1:])]),
    ):
        call(model, **inputs)
    unet = UNet2DModel(block_out_channels=(32,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",))
    with pytest.raises(UnsupportedModel, match=r"^UNet2DModel is a U-Net: expected a transformer, DiT"):
        wb.HookedDiffusers(unet)
    with pytest.raises(UnsupportedModel, match=r"^Linear is not among the models"):
        wb.HookedDiffusers(nn.Linear(2, 2))
    with pytest.raises(UsageError, match="expected a pipeline of diffusers, or its transformer"):
        wb.HookedDiffusers("stable-diffusion-3")
    with pytest.raises(UnsupportedModel, match="is compiled"):
        wb.HookedDiffusers(torch.compile(model, backend="eager"))
    with pytest.raises(UsageError, match=r"nothing resumes a run of SD3Transformer2DModel in its pipeline"):
        wb.record(hooked, wb.latents(1), ["z"])
    model.enable_gradient_checkpointing()
    with pytest.raises(UnsupportedModel, match=r"Call disable_gradient_checkpointing\(\)\."), torch.enable_grad():
        hooked(**inputs)


class Twice:
    """A processor that attends twice."""

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        heads = attn.to_q(hidden_states).unflatten(-1, (HEADS, WIDTH)).transpose(1, 2)
        attend = nn.functional.scaled_dot_product_attention
        return attn.to_out[0]((attend(heads, heads, heads) + attend(heads, heads, heads)).transpose(1, 2).flatten(2))


def test_a_processor_that_attends_itself_or_twice_is_an_error() -> None:
    model = dit()
    inputs, hooked = inputs_of(model), wb.HookedDiffusers(model)
    for processor, message in ((AttnProcessor(), "AttnProcessor computes attention itself"), (Twice(), "2 times")):
        model.transformer_blocks[1].attn1.processor = processor
        unhooked = call(model, **inputs)
        with (
            pytest.raises(UnsupportedModel, match=rf"^blocks\.1\.attn: .*{message}"),
            hooked.hooks([("blocks.1.attn.hook_z", lambda z, hook: None)]),
        ):
            call(model, **inputs)
        with hooked.hooks([("blocks.0.attn.hook_z", lambda z, hook: None)]):
            assert torch.equal(call(model, **inputs), unhooked)


def test_two_models_do_not_disturb_each_other() -> None:
    one, other = sd3(), flux()
    inputs, others = inputs_of(one), inputs_of(other)
    unhooked, unhooked_other = call(one, **inputs), call(other, **others)
    hooked, hooked_other = wb.HookedDiffusers(one), wb.HookedDiffusers(other)
    edits = [("blocks.1.attn.hook_z", lambda z, hook: 0 * z)]
    with hooked.hooks(edits):
        edited = call(one, **inputs)
        assert torch.equal(call(other, **others), unhooked_other)
        with hooked_other.hooks(edits):
            edited_other = call(other, **others)
            assert torch.equal(call(one, **inputs), edited)
        from_thread: list[Tensor] = []
        thread = threading.Thread(target=lambda: from_thread.append(call(one, **inputs)))
        thread.start()
        thread.join()
    assert torch.equal(from_thread[0], unhooked)  # hooks are those of the thread that set them
    assert not torch.equal(edited, unhooked)
    assert not torch.equal(edited_other, unhooked_other)
    assert torch.equal(call(one, **inputs), unhooked)
    assert torch.equal(call(other, **others), unhooked_other)
    assert all("forward" not in vars(module) for model in (one, other) for module in model.modules())


def test_hooks_within_hooks_are_called_once_each() -> None:
    model, seen = sd3(), []
    hooked, inputs = wb.HookedDiffusers(model), inputs_of(model)
    with hooked.hooks([("blocks.1.attn.hook_z", lambda z, hook: seen.append("z"))]):
        with hooked.hooks([("blocks.1.attn.hook_v", lambda z, hook: seen.append("v"))]):
            call(model, **inputs)
        call(model, **inputs)
    assert seen == ["v", "z", "z"]
