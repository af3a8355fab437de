"""diffusers' own transformers hooked in place: residual streams, and the parts of joint patterns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.small_diffusers import TEXT, call, close, dit, flux, inputs_of, pixart, sd3, sd35
from workbench.errors import UsageError


@pytest.mark.parametrize("make", [dit, pixart, sd3, sd35, flux])
def test_residual_streams_are_what_layers_get_and_give(make: Callable[..., Any]) -> None:
    model = make()
    inputs, hooked, calls = inputs_of(model), wb.HookedDiffusers(model), []
    handle = model.transformer_blocks[1].register_forward_hook(
        lambda _, args, kwargs, output: calls.append((args, kwargs, output)), with_kwargs=True
    )
    call(model, **inputs)
    handle.remove()
    (args, kwargs, output), cache = calls[0], hooked.run_with_cache(**inputs)[1]
    assert torch.equal(cache["blocks.1.hook_resid_pre@0"], args[0] if args else kwargs["hidden_states"])
    assert torch.equal(cache["blocks.1.hook_resid_post@0"], output[1] if isinstance(output, tuple) else output)
    if isinstance(output, tuple):
        assert torch.equal(cache["blocks.1.hook_text_resid_pre@0"], kwargs["encoder_hidden_states"])
        assert torch.equal(cache["blocks.1.hook_text_resid_post@0"], output[0])
    with hooked.hooks([("blocks.1.hook_resid_post", lambda x, hook: 2 * x)]):
        edited = call(model, **inputs)
    double = model.transformer_blocks[1].register_forward_hook(
        lambda _, args, output: (output[0], 2 * output[1]) if isinstance(output, tuple) else 2 * output
    )
    expected = call(model, **inputs)
    double.remove()
    assert torch.equal(edited, expected)


@pytest.mark.parametrize(("make", "text_first"), [(sd3, False), (flux, True)])
def test_parts_of_a_joint_pattern_have_names(make: Callable[..., Any], text_first: bool) -> None:
    model = make()
    hooked, inputs, name = wb.HookedDiffusers(model), inputs_of(model), "blocks.1.attn.hook_pattern"
    text, image = (slice(0, TEXT), slice(TEXT, None)) if text_first else (slice(16, None), slice(0, 16))
    _, cache = hooked.run_with_cache(**inputs)
    pattern, z = cache[f"{name}@0"], cache["blocks.1.attn.hook_z@0"]
    assert torch.equal(hooked.part(f"{name}@0", pattern, "image", "text"), pattern[:, :, image, text])
    assert torch.equal(hooked.part(name, pattern, src="image"), pattern[..., image])
    assert torch.equal(hooked.part("blocks.1.attn.hook_z", z, "text"), z[:, text])
    assert torch.equal(hooked.part("blocks.1.attn.hook_v", z, src="image"), z[:, image])

    def no_text(pattern: Tensor, hook: Any) -> Tensor:
        hooked.part(hook.name, pattern, "image", "text")[:, 1] = 0
        return pattern

    v = cache["blocks.1.attn.hook_v@0"].transpose(1, 2)
    edited = pattern.clone()
    edited[:, 1, image, text] = 0
    z = (edited @ v).transpose(1, 2)
    with hooked.hooks([(name, no_text)]), hooked.recording("blocks.1.attn.hook_z") as recorded:
        call(model, **inputs)
    assert close(recorded["blocks.1.attn.hook_z@0"], z)
    for bad in ({"dest": "sound"}, {"dest": "image", "src": "video"}):
        with pytest.raises(UsageError, match="expected"):
            hooked.part(name, pattern, **bad)
    with pytest.raises(UsageError, match="as in the last call of the model"):
        hooked.part(name, pattern[:, :, 1:], "image")
    with pytest.raises(UsageError, match="no such axis"):
        hooked.part("blocks.1.attn.hook_z", z, src="text")
