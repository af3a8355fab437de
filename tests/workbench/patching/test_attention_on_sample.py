"""The patterns of a layer in a sampling step, against softmax(q k) of plain hooks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.oracle.plain_sampling import latents_of, random_dit
from workbench.errors import UsageError
from workbench.models.diffusion.dit import DiT

STEPS, GUIDANCE, HEADS = 3, 2.0, 4
LATENTS = wb.latents(3, seed=2)


def plain_patterns(hf: DiT, layer: int, step: int) -> list[Tensor]:
    """``[head, dest, src]`` of the pass with the class and of that without, from the projections' outputs."""
    stored: list[dict[str, Tensor]] = []
    attn = hf.get_submodule(f"blocks.{layer}.attn")
    hooks = [
        getattr(attn, f"{name}_proj").register_forward_hook(
            lambda _, args, out, name=name: stored.append({name: out[0].unflatten(-1, (HEADS, -1)).transpose(0, 1)})
        )
        for name in "qk"
    ]
    x = latents_of(LATENTS, "clean", hf)
    for now in range(step + 1):
        stored.clear()
        t = 1 - now / STEPS
        both = [hf(x, torch.tensor([1000 * t]), torch.tensor([label]))[0] for label in (3, 5)]
        x = x - (both[1] + GUIDANCE * (both[0] - both[1])) / STEPS
    for hook in hooks:
        hook.remove()
    passes = [stored[0] | stored[1], stored[2] | stored[3]]
    return [(p["q"] @ p["k"].mT / p["q"].shape[-1] ** 0.5).softmax(-1) for p in passes]


@pytest.mark.parametrize("step", [0, 2])
def test_both_passes_of_guidance_are_those_of_plain_hooks(step: int) -> None:
    hf = random_dit()
    model = wb.HookedDiT(hf, steps=STEPS, guidance=GUIDANCE)
    for branch, expected in zip(("label", "none"), plain_patterns(hf, 1, step), strict=True):
        seen = wb.attention_on_sample(model, LATENTS, 1, step, branch=branch, cache=False)
        np.testing.assert_allclose(seen.pattern, expected, atol=1e-5)
        assert seen.grid == (4, 4) and seen.labels == tuple(f"{i},{j}" for i in range(4) for j in range(4))
        name = {"label": "with the class", "none": "without the class"}[branch]
        named = wb.attention_on_sample(model, LATENTS, 1, step, branch=name, cache=False)
        np.testing.assert_array_equal(named.pattern, seen.pattern)
        assert seen.title(2, "1,3") == f"Head 1.2 on class 3, seed 2, step {step}, {name}, from 1,3"
        np.testing.assert_allclose(seen.patches(2, "1,3").ravel(), expected[2, 7], atol=1e-5)


def test_the_picture_is_that_of_the_step() -> None:
    model = wb.HookedDiT(random_dit(), steps=STEPS)
    over_steps = wb.trajectory(model, LATENTS)
    for shows, images in (("estimate", over_steps.estimates), ("latent", over_steps.latents)):
        seen = wb.attention_on_sample(model, LATENTS, 0, 1, shows=shows, cache=False)
        expected = np.rint((images[0, 1, 0].clip(-1, 1) + 1) * 127.5)
        np.testing.assert_array_equal(seen.pixels[..., 0], expected)
        reused = wb.attention_on_sample(model, LATENTS, 0, 1, shows=shows, over_steps=over_steps, cache=False)
        np.testing.assert_array_equal(reused.pixels, seen.pixels)
    assert "the class" not in seen.title(0, 0)  # without guidance there is one pass
    edited = wb.trajectory(model, LATENTS, wb.Edit("z", 0, kind="zero"))
    other, fewer = wb.trajectory(model, wb.latents(3, seed=1)), wb.trajectory(model.resampled(steps=2), LATENTS)
    for wrong in (edited, other, fewer, wb.trajectory(model, wb.latents([3, 3], seed=2))):
        with pytest.raises(
            UsageError, match=r"^over_steps=.*: expected wb\.trajectory of class 3, seed 2, without edits"
        ):
            wb.attention_on_sample(model, LATENTS, 0, 1, over_steps=wrong, cache=False)


def test_frames_lie_side_by_side() -> None:
    hf = random_dit(num_frames=3)
    model = wb.HookedDiT(hf, steps=2)
    seen = wb.attention_on_sample(model, wb.latents(1), 0, 1, cache=False)
    assert seen.grid == (4, 12) and seen.pixels.shape == (8, 24, 1)
    at, to = seen.index("2,1,3"), seen.index("1,0,2")
    assert (at, to) == (1 * 12 + 2 * 4 + 3, 0 * 12 + 1 * 4 + 2)
    recorded = wb.record(model, wb.latents(1), ["pattern"], 0, cache=False).clean["pattern"][0][1, 0]
    np.testing.assert_allclose(seen.pattern[2, at, to], recorded[2, 2 * 16 + 1 * 4 + 3, 1 * 16 + 2], rtol=1e-6)
    assert seen.patches(2, "2,1,3")[0, 6] == seen.pattern[2, at, to]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latents": wb.latents([1, 2])}, r"^latents=.*: expected latents of one sample"),
        ({"layer": 3}, r"^layer=3: expected"),
        ({"step": 3}, r"^step=3: expected"),
        ({"branch": "none"}, r"^branch='none': expected 'label' or 'with the class', because without guidance"),
        ({"branch": "both"}, r"^branch='both': "),
        ({"shows": "noise"}, r"^shows='noise': "),
        ({"model": wb.load("tiny")}, r"^model=.*: expected a diffusion model"),
    ],
)
def test_what_cannot_be_shown_is_one_line(arguments: dict, message: str) -> None:
    model = wb.HookedDiT(random_dit(), steps=STEPS, check=False)
    with pytest.raises((UsageError, KeyError), match=message):
        wb.attention_on_sample(
            **{"model": model, "latents": LATENTS, "layer": 0, "step": 0, "cache": False, **arguments}
        )
