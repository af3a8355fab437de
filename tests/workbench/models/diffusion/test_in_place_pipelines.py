"""Steps, edits and NaN in the user's own pipeline, against plain hooks and the pipeline's own callback."""

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
    PIPELINES,
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
from workbench.errors import HookError, UnknownName, UsageError


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


pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # of diffusers, with NumPy 2

# --- diffusers' own pipelines


@pytest.mark.parametrize(("make", "part", "base", "outputs"), PIPELINES)
def test_pipelines_of_diffusers_are_hooked(make: Callable[..., Any], part: str, base: str, outputs: list[str]) -> None:
    pipe = small_pipeline(make)
    hooked, unhooked = wb.HookedDiffusers(pipe), call_pipeline(pipe)
    name = hooked.hook_name(f"{part}.hook_z", 0)
    with Plain(pipe.transformer, base.format(0), outputs) as plain:
        call_pipeline(pipe)
    with hooked.recording(name) as cache:
        assert torch.equal(call_pipeline(pipe), unhooked)
    assert list(cache) == [f"{name}@{step}" for step in range(3)]
    for step, z in enumerate(cache.values()):
        assert torch.equal(z, torch.cat([part[step] for part in plain.seen], 1))
    with Plain(pipe.transformer, base.format(0), outputs, scaled):
        expected = call_pipeline(pipe)
    with hooked.hooks([(name, lambda z, hook: scaled(z))]):
        assert close(call_pipeline(pipe), expected)
    assert not close(unhooked, expected)
    assert torch.equal(call_pipeline(pipe), unhooked)


class PlainPatch(Plain):
    """Plain hooks that write a head of what other plain hooks have seen, in one step or in all."""

    def __init__(self, model: Any, base: str, outputs: list[str], other: Plain, head: int, step: int | None) -> None:
        self.other, self.head, self.step = other, head, step
        super().__init__(model, base, outputs, lambda z: z)

    def _hook(self, i: int, change: Any) -> Callable[..., Any]:
        def patch(z: Tensor) -> Tensor:
            now = len(self.seen[i]) - 1
            if self.step in (None, now):
                z[:, :, self.head] = self.other.seen[i][now][:, :, self.head]
            return z

        return super()._hook(i, patch)


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize(("make", "part", "base", "outputs"), PIPELINES)
def test_a_head_takes_the_activations_of_another_prompt(
    make: Callable[..., Any], part: str, base: str, outputs: list[str], step: int | None
) -> None:
    pipe = small_pipeline(make)
    hooked, unhooked, site = wb.HookedDiffusers(pipe), call_pipeline(pipe), f"{part}.hook_z"
    with Plain(pipe.transformer, base.format(1), outputs) as other:
        call_pipeline(pipe, prompt=1)
    with PlainPatch(pipe.transformer, base.format(1), outputs, other, 2, step):
        expected = call_pipeline(pipe)
    with hooked.recording(hooked.hook_name(site, 1)) as source:
        call_pipeline(pipe, prompt=1)
    with hooked.hooks([wb.Edit(site, 1, head=2, step=step)], source=source):
        patched = call_pipeline(pipe)
    assert float((patched - expected).abs().max()) < 1e-5
    assert float((expected - unhooked).abs().max()) > 1e-4
    assert torch.equal(call_pipeline(pipe), unhooked)


def by_hand(kind: str) -> Callable[[Tensor], Tensor]:
    vector = torch.linspace(-1, 1, 8)
    return {"zero": lambda z: 0 * z, "scale": lambda z: -2 * z, "add": lambda z: z + vector}[kind]


@pytest.mark.parametrize(
    ("kind", "argument"), [("zero", {}), ("scale", {"factor": -2.0}), ("add", {"vector": torch.linspace(-1, 1, 8)})]
)
def test_kinds_of_edits_are_those_of_a_hook(kind: str, argument: dict[str, Any]) -> None:
    pipe = small_pipeline(sd3)
    hooked, change = wb.HookedDiffusers(pipe), by_hand(kind)

    def head_1(z: Tensor) -> Tensor:
        z[:, :, 1] = change(z[:, :, 1])
        return z

    with Plain(pipe.transformer, "transformer_blocks.1.attn", ["to_out.0", "to_add_out"], head_1):
        expected = call_pipeline(pipe)
    with hooked.hooks([wb.Edit("z", 1, head=1, kind=kind, **argument)]):
        assert close(call_pipeline(pipe), expected)
    with hooked.hooks([wb.Edit("z", 1, head=1, kind=change)]):
        assert close(call_pipeline(pipe), expected)
    # The text's rows alone: those that to_add_out projects.
    with Plain(pipe.transformer, "transformer_blocks.1.attn", ["to_add_out"], head_1):
        expected = call_pipeline(pipe)
    with hooked.hooks(wb.Edit("z", 1, head=1, kind=kind, position="text", **argument)):
        assert close(call_pipeline(pipe), expected)


def test_attention_to_itself_gives_a_head_its_own_values() -> None:
    """Perturbed attention, of one head and of the image's rows."""
    pipe = small_pipeline(sd3)
    hooked, name = wb.HookedDiffusers(pipe), "blocks.1.attn.hook_"
    with hooked.recording([f"{name}v", f"{name}z"]) as before:
        call_pipeline(pipe)
    edits = [wb.Edit("pattern", 1, head=1, kind="identity", u=1.0, position="image", step=0)]
    with hooked.hooks(edits), hooked.recording([f"{name}v", f"{name}z"]) as after:
        call_pipeline(pipe)
    z, v, plain = after[f"{name}z@0"], before[f"{name}v@0"], before[f"{name}z@0"]
    assert close(z[:, :16, 1], v[:, :16, 1])
    assert close(z[:, 16:, 1], plain[:, 16:, 1])
    assert close(z[:, :, 0], plain[:, :, 0])


def test_edits_that_cannot_be_made_are_refused_in_a_line() -> None:
    pipe = small_pipeline(sd3)
    hooked = wb.HookedDiffusers(pipe)
    with hooked.recording("blocks.1.attn.hook_z", steps=[0, 1]) as source:
        call_pipeline(pipe)
    cases: list[tuple[wb.Edit, Any, type[Exception], str]] = [
        (wb.Edit("z", 1, head=0), None, UsageError, r"^source=None: expected recorded activations"),
        (wb.Edit("z", 1, head=0, step=2), source, UsageError, r"^source: expected blocks\.1\.attn\.hook_z@2 in it"),
        (wb.Edit("z", 1, head=0), source, HookError, r"^The source has no blocks\.1\.attn\.hook_z@2: record it"),
        (wb.Edit("z", 0, head=0), source, UsageError, r"^source: expected blocks\.0\.attn\.hook_z in it"),
        (wb.Edit("z", 3, head=0), source, UsageError, r"^layer=3: expected a layer from 0 to 2"),
        (wb.Edit("z", 1, head=3), source, UsageError, r"^edits\[0\]\.head=3"),
        (wb.Edit("z", 1, head=0, kind="mean"), source, UsageError, r"^edits\[0\]\.kind='mean'"),
        (wb.Edit("resid_mid", 1, kind="zero"), source, UnknownName, r"applies gates inline"),
        (wb.Edit("cross_attn.hook_z", 1, kind="zero"), source, UnknownName, r"cross_attn\.hook_z"),
    ]
    for edit, recorded, kind, message in cases:
        with pytest.raises(kind, match=message), hooked.hooks([edit], source=recorded):
            call_pipeline(pipe)
    with (
        pytest.raises(
            HookError, match=r"the source has .*\(2, 20, 3, 8\)>, and this run .*\(1, 21, 3, 8\)> behind 0 rows\. Both"
        ),
        hooked.hooks([wb.Edit("z", 1, head=0, step=0)], source={"blocks.1.attn.hook_z@0": torch.zeros(2, 20, 3, 8)}),
    ):
        call_pipeline(pipe, guidance_scale=1.0)
    # Rows that are left over: the pipeline without guidance has the first half of those with it.
    with (
        pytest.raises(HookError, match=r"^blocks\.1\.attn\.hook_z@0: the source has 2 rows, and this run 1\."),
        hooked.hooks([wb.Edit("z", 1, head=0, step=0)], source=source),
    ):
        call_pipeline(pipe, guidance_scale=1.0)


# --- steps


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
