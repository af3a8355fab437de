"""Steps and NaN in the user's own pipeline, against plain hooks and the pipeline's own callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3_img2img import StableDiffusion3Img2ImgPipeline
from diffusers.schedulers.scheduling_ddim_inverse import DDIMInverseScheduler
from diffusers.schedulers.scheduling_flow_match_heun_discrete import FlowMatchHeunDiscreteScheduler
from torch import Tensor

import workbench as wb
from tests.small_diffusers import (
    IMAGE,
    Plain,
    call_pipeline,
    close,
    dit,
    flux,
    pixart,
    sample,
    scaled,
    sd3,
    small_pipeline,
)
from workbench.errors import HookError, UsageError


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("make", [dit, pixart, sd3, flux])
def test_steps_of_the_users_own_pipeline(make: Callable[..., Any], calls: int) -> None:
    model, times = make(), [900.0, 600.0, 300.0]
    hooked, base = wb.HookedDiffusers(model), "transformer_blocks.1." + ("attn" if make in (sd3, flux) else "attn1")
    outputs = {sd3: ["to_out.0", "to_add_out"], flux: ["to_add_out", "to_out.0"]}.get(make, IMAGE)
    unhooked = sample(model, times, calls=calls)
    with Plain(model, base, outputs) as plain:
        sample(model, times, calls=calls)
    with hooked.recording("blocks.1.attn.hook_z") as cache:
        assert torch.equal(sample(model, times, calls=calls), unhooked)
    assert list(cache) == [f"blocks.1.attn.hook_z@{step}" for step in range(3)]
    for step, z in enumerate(cache.values()):
        passes = range(calls * step, calls * (step + 1))
        assert torch.equal(z, torch.cat([torch.cat([part[i] for part in plain.seen], 1) for i in passes]))
    counter = iter(range(1000))

    def in_step_1(z: Tensor) -> Tensor:
        return scaled(z) if next(counter) // (calls * len(outputs)) == 1 else z

    with Plain(model, base, outputs, in_step_1):
        expected = sample(model, times, calls=calls)
    with hooked.hooks([("blocks.1.attn.hook_z@1", lambda z, hook: scaled(z))]):
        edited = sample(model, times, calls=calls)
    assert close(edited, expected)
    assert float((edited - unhooked).abs().max()) > 1e-4
    with hooked.recording("blocks.1.attn.hook_z", steps=[0, 2]) as cache:
        sample(model, times)
    assert list(cache) == ["blocks.1.attn.hook_z@0", "blocks.1.attn.hook_z@2"]
    with hooked.recording(["blocks.1.attn.hook_z@2", "blocks.0.attn.hook_v"]) as named:
        sample(model, times)
    assert set(named) == {"blocks.1.attn.hook_z@2", *(f"blocks.0.attn.hook_v@{step}" for step in range(3))}
    assert torch.equal(named["blocks.1.attn.hook_z@2"], cache["blocks.1.attn.hook_z@2"])
    with (
        pytest.raises(UsageError, match=r"^steps=1: expected None, because blocks\.1\.attn\.hook_z@2 has its step"),
        hooked.recording("blocks.1.attn.hook_z@2", steps=1),
    ):
        pass


def test_a_later_timestep_begins_anew() -> None:
    model, seen = dit(), []
    hooked = wb.HookedDiffusers(model)
    with hooked.hooks([("blocks.0.attn.hook_z", lambda z, hook: seen.append(hooked.step))]):
        sample(model, [900, 500])
        sample(model, [900, 500, 200])
    assert seen == [0, 1, 0, 1, 2]
    with (
        pytest.raises(HookError, match=r"^A second sampling begins: a recording holds one\."),
        hooked.recording("blocks.0.attn.hook_z"),
    ):
        sample(model, [900, 500])
        sample(model, [900, 500])
    with hooked.hooks([("blocks.0.attn.hook_z", lambda z, hook: None)]):  # nothing is left behind
        sample(model, [900])


class Watch:
    """The step that each call of a transformer runs in, and the ``i`` of the pipeline's callback."""

    def __init__(self, hooked: wb.HookedDiffusers) -> None:
        self.hooked, self.steps, self.events = hooked, [], []

    def hook(self, z: Tensor, hook: Any) -> None:
        self.events.append(self.hooked.step)

    def callback(self, pipe: Any, i: int, t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        self.steps.append((i, self.events))
        self.events = []
        return kwargs


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("case", ["euler", "heun", "skip layers", "from an image", "one step"])
def test_steps_are_those_of_the_pipelines_callback(case: str, times: int) -> None:
    scheduler = FlowMatchHeunDiscreteScheduler() if case == "heun" else None
    pipe = small_pipeline(sd3, scheduler)
    options: dict[str, Any] = {}
    calls = {"skip layers": 2}.get(case, 1)
    if case == "skip layers":
        options = {"skip_guidance_layers": [2], "skip_layer_guidance_start": -1.0, "skip_layer_guidance_stop": 1.0}
    elif case == "from an image":
        pipe = StableDiffusion3Img2ImgPipeline(**pipe.components)
        pipe.set_progress_bar_config(disable=True)
        options = {"image": torch.zeros(1, 2, 8, 8), "strength": 0.6, "num_inference_steps": 5}
    elif case == "one step":
        options = {"num_inference_steps": 1}
    hooked = wb.HookedDiffusers(pipe)
    watch = Watch(hooked)
    with hooked.hooks([("blocks.0.attn.hook_z", watch.hook)]):
        for _ in range(times):
            call_pipeline(pipe, callback_on_step_end=watch.callback, **options)
    n = {"heun": 5, "one step": 1}.get(case, 3)
    assert watch.steps == [(i, [i] * calls) for _ in range(times) for i in range(n)]
    assert "step" not in vars(pipe.scheduler)
    seen: list[int] = []
    with hooked.hooks([(f"blocks.0.attn.hook_z@{n - 1}", lambda z, hook: seen.append(hooked.step))]):
        call_pipeline(pipe, **options)
    assert seen == [n - 1] * calls


def test_a_schedule_that_rises_has_steps_too() -> None:
    """Inversion: from an image to its noise, in a loop of one's own."""
    pipe = small_pipeline(dit, DDIMInverseScheduler())
    hooked, seen = wb.HookedDiffusers(pipe), []
    scheduler, x = pipe.scheduler, torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    with hooked.hooks([("blocks.0.attn.hook_z", lambda z, hook: seen.append(hooked.step))]):
        scheduler.set_timesteps(4)
        for t in scheduler.timesteps:
            noise = pipe.transformer(x, timestep=t[None], class_labels=torch.tensor([1])).sample
            x = scheduler.step(noise[:, :2], t, x).prev_sample
    assert seen == [0, 1, 2, 3]


def test_a_step_that_cannot_be_told_is_an_error() -> None:
    pipe = small_pipeline(sd3, FlowMatchHeunDiscreteScheduler())
    alone = wb.HookedDiffusers(pipe.transformer)
    with (
        pytest.raises(
            HookError, match=r"^Which step is running cannot be told: two calls at timestep .* evaluates twi"
        ),
        alone.hooks([("blocks.0.attn.hook_z@3", lambda z, hook: None)]),
    ):
        call_pipeline(pipe)
    with pytest.raises(HookError, match="cannot be told"), alone.recording("blocks.0.attn.hook_z"):
        call_pipeline(pipe)
    with alone.hooks([("blocks.0.attn.hook_z", lambda z, hook: 0 * z)]):  # every step is no question
        call_pipeline(pipe)
    model = dit()
    hooked = wb.HookedDiffusers(model)
    one_of_step_0 = ("blocks.0.attn.hook_z@0", lambda z, hook: None)
    with (
        pytest.raises(HookError, match=r"the timestep went from 300 to 900, in a sampling of one"),
        hooked.hooks([one_of_step_0]),
    ):
        sample(model, [300, 900])
    times, labels = torch.tensor([900, 300]), torch.tensor([1, 2])
    noise: Any = torch.randn(2, 2, 8, 8)
    with pytest.raises(HookError, match="inputs of one call have different timesteps"), hooked.hooks([one_of_step_0]):
        model(noise, timestep=times, class_labels=labels)
    small = small_pipeline(dit)
    small.scheduler.set_timesteps(3)
    hooked = wb.HookedDiffusers(small)
    with (
        pytest.raises(HookError, match="without new timesteps of the scheduler"),
        hooked.hooks([("blocks.0.attn.hook_z@2", lambda z, hook: None)]),
    ):
        for t in [*small.scheduler.timesteps] * 2:
            noise = small.transformer(noise[:1], timestep=t[None], class_labels=labels[:1]).sample[:, :2]
            noise = small.scheduler.step(noise, t, noise).prev_sample


# --- NaN


def test_nan_stops_a_pipeline_with_step_and_edits() -> None:
    pipe = small_pipeline(sd3)
    hooked, calls = wb.HookedDiffusers(pipe), []
    edits = [wb.Edit("z", 1, head=1, step=1, kind="scale", factor=1e30), wb.Edit("z", 0, kind="zero", step=0)]
    message = (
        r"^Sampling gave NaN or infinity in step 1, after edits at blocks\.0\.attn\.hook_z \(first in step 0\), "
        r"blocks\.1\.attn\.hook_z \(first in step 1\)\.$"
    )
    watch = ("blocks.2.attn.hook_z", lambda z, hook: calls.append(hooked.step))
    with pytest.raises(HookError, match=message), hooked.hooks([*edits, watch]):
        call_pipeline(pipe)
    assert calls == [0, 1]
    with torch.no_grad():
        pipe.transformer.proj_out.bias[0] = float("inf")
    with (
        pytest.raises(HookError, match=r"^Sampling gave NaN or infinity in step 0, after no edit\.$"),
        hooked.recording("blocks.0.attn.hook_z"),
    ):
        call_pipeline(pipe)
    with torch.no_grad():
        pipe.transformer.proj_out.bias[0] = 0
    with hooked.recording("blocks.0.attn.hook_z"):
        call_pipeline(pipe)
