"""Samples over the steps, against a plain loop and diffusers' schedulers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

import workbench as wb
from tests.oracle.plain_sampling import latents_of, random_dit
from workbench.errors import HookError, UsageError
from workbench.models.diffusion.dit import DiT
from workbench.plotting import matplotlib_charts
from workbench.plotting.trajectory import picture_of

HF = random_dit()
PAIRS = wb.latents([3, 0], other=[1, 4], seed=5)
STEPS, GUIDANCE = 4, 2.0


def plain_states(
    model: DiT, noise: Tensor, label: int, change: Callable[[int, Tensor], Tensor] | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Euler's states, and at each step the image on the straight line that ends at t = 0; `change` of what enters the
    output projection of layer 1."""
    now = [0]
    project = model.get_submodule("blocks.1.attn.o_proj")
    hook = project.register_forward_pre_hook(lambda _, args: (change(now[0], args[0]),) if change else None)
    states, ends = [noise], []
    for step in range(STEPS):
        now[0], t = step, 1 - step / STEPS
        both = [model(states[-1][None], torch.tensor([1000 * t]), torch.tensor([of]))[0] for of in (label, 5)]
        velocity = both[1] + GUIDANCE * (both[0] - both[1])
        ends.append(states[-1] - t * velocity)
        states.append(states[-1] - velocity / STEPS)
    hook.remove()
    return states, ends


@pytest.fixture(scope="module")
def model() -> wb.HookedDiT:
    return wb.HookedDiT(HF, steps=STEPS, guidance=GUIDANCE)


@pytest.mark.parametrize("base", ["clean", "corrupt"])
def test_states_and_estimates_are_a_plain_loops(model: wb.HookedDiT, base: str) -> None:
    seen = wb.trajectory(model, PAIRS, base=base)
    noise, labels = latents_of(PAIRS, base, HF), PAIRS.classes if base == "clean" else PAIRS.other or ()
    for i, label in enumerate(labels):
        assert isinstance(label, int)
        states, ends = plain_states(HF, noise[i], label)
        np.testing.assert_allclose(seen.latents[i], torch.stack(states), atol=1e-5)
        np.testing.assert_allclose(seen.estimates[i], torch.stack(ends), atol=1e-5)
    np.testing.assert_array_equal(seen.images, seen.latents[:, -1])
    np.testing.assert_allclose(seen.estimates[:, -1], seen.images, atol=1e-12)
    assert seen.times == (1000, 750, 500, 250) and seen.names == tuple(
        f"class {label}, seed {5 + i}" for i, label in enumerate(labels)
    )


def test_an_edit_of_some_steps_is_that_of_plain_hooks(model: wb.HookedDiT) -> None:
    def change(step: int, z: Tensor) -> Tensor:
        z = z.clone()
        if step >= 2:
            z.unflatten(-1, (4, -1))[:, :, 3] = 0
        return z

    edited = wb.trajectory(model, PAIRS, [wb.Edit("z", 1, head=3, kind="zero", step=(2, 3))])
    plain, noise = wb.trajectory(model, PAIRS), latents_of(PAIRS, "clean", HF)
    for i, label in enumerate((3, 0)):
        states, ends = plain_states(HF, noise[i], label, change)
        np.testing.assert_allclose(edited.latents[i], torch.stack(states), atol=1e-5)
        np.testing.assert_allclose(edited.estimates[i], torch.stack(ends), atol=1e-5)
    distances = plain.distances(edited)
    assert (distances[:, :3] == 0).all() and (distances[:, 3:] > 0).all()
    outcome = wb.run(model, PAIRS, list(edited.edits))
    np.testing.assert_allclose(distances[:, -1], outcome.scores("image_distance"), rtol=1e-6)


def test_patches_come_from_the_other_run(model: wb.HookedDiT) -> None:
    patched = wb.trajectory(model, PAIRS, wb.Edit("z", 1, head=2, step=1), cache=False)
    for i, (label, other) in enumerate(((3, 1), (0, 4))):
        noise, stored = latents_of(PAIRS, "clean", HF)[i], []

        def keep(step: int, z: Tensor, stored: list[Tensor] = stored) -> Tensor:
            stored.extend([z.clone()] if step == 1 else [])
            return z

        def insert(step: int, z: Tensor, stored: list[Tensor] = stored) -> Tensor:
            z = z.clone()
            if step == 1:  # the pass with the label comes first, as in the other run
                z.unflatten(-1, (4, -1))[:, :, 2] = stored.pop(0).unflatten(-1, (4, -1))[:, :, 2]
            return z

        plain_states(HF, noise, other, keep)
        states, ends = plain_states(HF, noise, label, insert)
        np.testing.assert_allclose(patched.latents[i], torch.stack(states), atol=1e-5)
        np.testing.assert_allclose(patched.estimates[i], torch.stack(ends), atol=1e-5)
        assert not stored


def test_of_ddim_the_estimate_is_diffusers_original_sample() -> None:
    hf = random_dit(prediction="noise")
    seen = wb.trajectory(wb.HookedDiT(hf, steps=5), wb.latents(2, seed=1))
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(5)
    state = latents_of(wb.latents(2, seed=1), "clean", hf)
    for step, time in enumerate(scheduler.timesteps):
        np.testing.assert_allclose(seen.latents[0, step], state[0], atol=1e-5)
        assert seen.times[step] == int(time)
        noise = hf(state, time[None], torch.tensor([2]))
        stepped: Any = scheduler.step(noise, int(time), state)
        np.testing.assert_allclose(seen.estimates[0, step], stepped.pred_original_sample[0], atol=1e-4)
        state = stepped.prev_sample
    np.testing.assert_allclose(seen.images[0], state[0], atol=1e-5)


def test_the_readout_plays_no_part(model: wb.HookedDiT) -> None:
    expected = wb.trajectory(model, PAIRS).latents
    for readout in ("velocity@1", lambda images: images.flatten(1)[:, :2]):
        np.testing.assert_array_equal(wb.trajectory(model.resampled(readout=readout), PAIRS).latents, expected)


def test_what_is_no_diffusion_model_and_what_cannot_be_compared(model: wb.HookedDiT) -> None:
    with pytest.raises(UsageError, match=r"^model=.*: expected a diffusion model with a sampler"):
        wb.trajectory(wb.load("tiny"), wb.latents(3))
    seen = wb.trajectory(model, PAIRS)
    with pytest.raises(UsageError, match=r"^other=.*: expected a trajectory of as many samples and steps"):
        seen.distances(wb.trajectory(model, wb.latents(3)))
    with pytest.raises(UsageError, match="step"):
        seen.pixels(0, 4, "estimate")
    assert seen.pixels(0, 4, "latent").shape == (8, 8, 1)
    with pytest.raises(HookError, match=r"step 1.*blocks\.1\.attn\.hook_z of head 1\.2 in step 1"):
        wb.trajectory(model, PAIRS, wb.Edit("z", 1, head=2, kind=lambda z: z * torch.nan, step=1))


def test_pictures_and_tables(model: wb.HookedDiT) -> None:
    seen = wb.trajectory(model, PAIRS)
    edited = wb.trajectory(model, PAIRS, wb.Edit("z", 0, head=1, kind="zero"))
    table = seen.table(edited)
    assert table["sample"].tolist() == ["class 3, seed 5"] * 5 + ["class 0, seed 6"] * 5
    np.testing.assert_allclose(table["distance"], seen.distances(edited).ravel())
    np.testing.assert_allclose(table["latent_std"][:5], [x.std() for x in seen.latents[0]], rtol=1e-6)
    assert table["estimate_mean"].isna().tolist() == [False] * 4 + [True] + [False] * 4 + [True]
    for picture in (seen.picture(1), seen.picture(0, edited)):
        assert matplotlib_charts.image(picture, "png", 100).startswith(b"\x89PNG")


def test_numbers_as_pixels() -> None:
    grey = np.array([[[-1.0, 0.0], [1.0, 7.0]]])
    assert picture_of(grey)[..., 0].tolist() == [[0, 128], [255, 255]]
    video = np.stack([np.full((1, 2, 3), value) for value in (-1.0, 1.0)], 1)  # [channel, frame, row, column]
    assert picture_of(video)[..., 0].tolist() == [[0, 0, 0, 255, 255, 255]] * 2
    latent = np.arange(16, dtype=float).reshape(4, 2, 2)
    seen = picture_of(latent)
    assert seen.shape == (2, 2, 3) and seen.min() == 0 and seen.max() == 255
    assert (picture_of(np.zeros((4, 2, 2))) == 128).all()


@pytest.mark.parametrize("steps", [1, 2, 6, 30])
def test_the_words_of_a_picture_are_inside_and_name_the_edits(steps: int) -> None:
    loaded: Any = wb.load("digits-dit")
    model = loaded.resampled(steps=steps)
    latents = wb.latents(3, n=1, seed=5)
    edits = [wb.Edit("z", 1, head=head, kind="scale", factor=0.5, step=0) for head in range(3)]
    seen, edited = wb.trajectory(model, latents), wb.trajectory(model, latents, edits)
    for picture in (seen.picture(0), seen.picture(0, edited), edited.picture(0)):
        picture.draw_without_rendering()
        figure: Any = picture
        for words in (figure._suptitle, figure._supxlabel):
            extent = words.get_window_extent()
            assert extent.x0 >= 0 and extent.x1 <= picture.bbox.width, words.get_text()
            assert extent.y0 >= 0 and extent.y1 <= picture.bbox.height
        assert picture.get_suptitle() == "digits-dit · class 3, seed 5"
    foot = " ".join(seen.picture(0, edited).get_supxlabel().split())
    named = "; ".join(f"scale 0.5 z 1.{head} in step 0" for head in range(3))
    assert f"Upper two rows: without edits. Lower two rows: with edits ({named})." in foot
    other = wb.trajectory(model, wb.latents(8, n=1, seed=5))
    assert "Lower two rows: class 8, seed 5, without edits." in " ".join(seen.picture(0, other).get_supxlabel().split())
