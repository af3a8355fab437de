"""diffusers' own transformers hooked in place, against plain hooks on the untouched model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.small_diffusers import (
    CASES,
    IDS,
    IMAGE,
    SINGLE,
    TEXT,
    WIDTH,
    Plain,
    call,
    close,
    dit,
    flux,
    inputs_of,
    pixart,
    scaled,
    sd3,
    sd35,
)
from workbench.errors import UsageError


@pytest.mark.parametrize(("make", "name", "base", "outputs"), CASES, ids=IDS)
def test_recorded_and_edited_heads_are_those_of_plain_hooks(
    make: Callable[..., Any], name: str, base: str, outputs: list[str]
) -> None:
    model = make()
    inputs, hooked = inputs_of(model), wb.HookedDiffusers(model)
    unhooked = call(model, **inputs)
    with Plain(model, base, outputs) as plain:
        call(model, **inputs)
    output, cache = hooked.run_with_cache(**inputs)
    assert torch.equal(output.sample, unhooked)
    z = cache[f"{name}.hook_z@0"]
    assert torch.equal(z[:, : plain.z.shape[1]], plain.z)
    rot = "rot_" if make is flux else ""
    q, k, v = (cache[f"{name}.hook_{x}@0"].transpose(1, 2) for x in (f"{rot}q", f"{rot}k", "v"))
    scores, pattern = cache[f"{name}.hook_attn_scores@0"], cache[f"{name}.hook_pattern@0"]
    seen = scores[0, 0, 0] > -1000
    assert close(scores[..., seen], (q @ k.mT / WIDTH**0.5)[..., seen])
    assert close(pattern, scores.softmax(-1))
    assert close((pattern @ v).transpose(1, 2), z)
    with Plain(model, base, outputs, scaled):
        expected = call(model, **inputs)
    with hooked.hooks([(f"{name}.hook_z", lambda z, hook: scaled(z))]):
        edited = call(model, **inputs)
    assert close(edited, expected)
    assert float((expected - unhooked).abs().max()) > 1e-3
    assert torch.equal(call(model, **inputs), unhooked)


@pytest.mark.parametrize(("make", "name", "base", "outputs"), CASES, ids=IDS)
def test_edited_q_k_v_and_patterns_are_those_of_attention_written_out(
    make: Callable[..., Any], name: str, base: str, outputs: list[str]
) -> None:
    model = make()
    inputs, hooked = inputs_of(model), wb.HookedDiffusers(model)
    _, cache = hooked.run_with_cache(**inputs)
    rot = "rot_" if make is flux else ""
    names = {"q": f"{name}.hook_{rot}q", "k": f"{name}.hook_{rot}k", "v": f"{name}.hook_v", "pattern": ""}
    names["pattern"] = f"{name}.hook_pattern"
    bias = cache[f"{name}.hook_attn_scores@0"]
    bias = torch.where(bias < -1000, bias, 0)
    for site, hook in names.items():
        now = {x: cache[f"{own}@0"].clone() for x, own in names.items()}
        at = (slice(None), 1) if site == "pattern" else (slice(None), slice(None), 1)
        now[site][at] = 0.5 * now[site][at].flip(-1)

        def edit(x: Tensor, hook: Any, at: Any = at) -> Tensor:
            x = x.clone()
            x[at] = 0.5 * x[at].flip(-1)
            return x

        q, k, v = (now[x].transpose(1, 2) for x in "qkv")
        pattern = now["pattern"] if site == "pattern" else (q @ k.mT / WIDTH**0.5 + bias).softmax(-1)
        z = (pattern @ v).transpose(1, 2)
        with Plain(model, base, outputs) as plain, hooked.hooks([(hook, edit)]):
            edited = call(model, **inputs)
        assert close(plain.z, z[:, : plain.z.shape[1]])
        assert float((plain.z - cache[f"{name}.hook_z@0"][:, : plain.z.shape[1]]).abs().max()) > 1e-3
        with hooked.hooks([(f"{name}.hook_z", lambda _, hook, z=z: z)]):
            assert close(edited, call(model, **inputs))


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
