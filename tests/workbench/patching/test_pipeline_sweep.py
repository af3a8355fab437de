"""Sweeps over heads and steps of diffusers' own pipelines, against whole pipelines with plain hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.small_diffusers import HEADS, PIPELINES, Plain, PlainEdit, call_pipeline, dit, flux, sd3, small_pipeline
from workbench.errors import HookError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # of diffusers, with NumPy 2
STEPS, LAYERS = 3, 2


def energy(images: Tensor) -> Tensor:
    return images.flatten(1).square().sum(1)


def of_prompt(pipe: Any, prompt: int = 0, **changes: Any) -> Callable[[torch.Generator], Tensor]:
    return lambda generator: call_pipeline(pipe, generator, prompt, **changes)


def images_of(pipe: Any, seed: int, prompt: int = 0) -> Tensor:
    return call_pipeline(pipe, torch.Generator().manual_seed(seed), prompt)


def by_plain_hooks(
    pipe: Any, base: str, outputs: list[str], seeds: tuple[int, ...], steps: list[list[int]], patch: bool
) -> np.ndarray:
    """``[step, layer, head, example]``, each a run of the whole pipeline."""
    values = np.zeros((len(steps), LAYERS, HEADS, len(seeds)))
    for i, seed in enumerate(seeds):
        for layer in range(LAYERS):
            with Plain(pipe.transformer, base.format(layer), outputs) as other:
                images_of(pipe, seed, prompt=1)
            for s, of_cell in enumerate(steps):
                for head in range(HEADS):
                    source = other if patch else None
                    with PlainEdit(pipe.transformer, base.format(layer), outputs, head, of_cell, source):
                        values[s, layer, head, i] = float(energy(images_of(pipe, seed))[0])
    return values


@pytest.mark.parametrize(("make", "part", "base", "outputs"), PIPELINES)
def test_each_cell_is_the_whole_pipeline_with_plain_hooks(
    make: Callable[..., Any], part: str, base: str, outputs: list[str]
) -> None:
    pipe, seeds = small_pipeline(make), (3, 8)
    hooked, site = wb.HookedDiffusers(pipe), f"{part}.hook_z"
    calls: list[int] = []
    handle = pipe.transformer.transformer_blocks[0].register_forward_hook(lambda *_: calls.append(1))
    sweep = wb.sweep_pipeline(
        hooked, of_prompt(pipe), of_prompt(pipe, 1), site=site, metric=energy, layers=range(LAYERS), seeds=seeds
    )
    handle.remove()
    expected = by_plain_hooks(pipe, base, outputs, seeds, [[0], [1], [2]], patch=True)
    scale = float(np.abs(expected).max())
    assert sweep.axes == ("step", "layer", "head")
    assert sweep.values.shape == (STEPS, LAYERS, HEADS, len(seeds))
    np.testing.assert_allclose(sweep.values, expected, rtol=0, atol=1e-5 * scale)
    np.testing.assert_allclose(sweep.base, [float(energy(images_of(pipe, s))[0]) for s in seeds], rtol=1e-6)
    assert sweep.source is not None
    np.testing.assert_allclose(sweep.source, [float(energy(images_of(pipe, s, 1))[0]) for s in seeds], rtol=1e-6)
    assert float(np.abs(sweep.delta).max()) > 1e-5 * scale
    assert sweep.info["exact"] == "resumed at the step"
    # Whole runs call the transformer 3 times; entered at step s, 3 − s times. Before: base, source and two proofs.
    cells = LAYERS * HEADS
    assert len(calls) == len(seeds) * (2 * STEPS + cells * (3 + 2 + 1)) + (2 + 1)


def test_an_edit_in_every_step_and_one_of_all_heads() -> None:
    pipe, base, outputs = small_pipeline(sd3), "transformer_blocks.{}.attn", ["to_out.0", "to_add_out"]
    hooked, options = wb.HookedDiffusers(pipe), {"metric": energy, "layers": range(LAYERS)}
    every = wb.sweep_pipeline(hooked, of_prompt(pipe), edit="zero", by="head", **options)
    expected = by_plain_hooks(pipe, base, outputs, (0,), [[0, 1, 2]], patch=False)
    np.testing.assert_allclose(every.values, expected[0], rtol=1e-5)
    assert every.axes == ("layer", "head")
    assert every.source is None
    late = wb.sweep_pipeline(hooked, of_prompt(pipe), edit="zero", by="head", steps=[1, 2], heads=[2], **options)
    expected = by_plain_hooks(pipe, base, outputs, (0,), [[1, 2]], patch=False)
    np.testing.assert_allclose(late.values, expected[0][:, 2:], rtol=1e-5)
    whole = wb.sweep_pipeline(hooked, of_prompt(pipe), edit="scale", factor=0.0, by=["step", "layer"], **options)
    with hooked.hooks([wb.Edit("z", 1, kind="zero", step=2)]):
        assert whole.values[2, 1] == pytest.approx(float(energy(call_pipeline(pipe))[0]), rel=1e-6)
    assert "blocks" not in whole.table().columns
    assert whole.name((2, 1)) == "layer 1 in step 2"


def test_metrics_of_pixels_by_name() -> None:
    pipe = small_pipeline(dit)
    hooked = wb.HookedDiffusers(pipe)
    pipe.register_to_config(_name_or_path="/home/me/models/tiny-dit")
    first, other = images_of(pipe, 0), images_of(pipe, 0, 1)
    sweep = wb.sweep_pipeline(hooked, of_prompt(pipe), of_prompt(pipe, 1), layers=0, heads=0, steps=2)
    with hooked.hooks([wb.Edit("z", 0, head=0, step=2, kind="zero")]):
        zeroed = images_of(pipe, 0)
    assert sweep.base.tolist() == [0.0]
    assert sweep.source is not None
    assert sweep.source[0] == pytest.approx(float((other - first).square().mean().sqrt()), rel=1e-5)
    contrast = wb.sweep_pipeline(hooked, of_prompt(pipe), edit="zero", metric="contrast", layers=0, heads=0, steps=2)
    assert contrast.values.item() == pytest.approx(float(zeroed.mean(1).std(correction=0)), rel=1e-5)
    assert contrast.info["units"] == "pixel values"
    assert contrast.info["model"] == "./tiny-dit"  # never where it lies on this machine
    assert str(contrast).startswith("Sweep(1 step × 1 layer × 1 head, n = 1, ./tiny-dit, DiTPipeline, z, ")


def test_guidance_in_two_calls_and_a_loop_of_ones_own() -> None:
    """What the pipeline does between calls is its own: nothing of it is assumed."""
    pipe = small_pipeline(dit)
    model, scheduler = pipe.transformer, pipe.scheduler

    def loop(generator: torch.Generator, label: int = 3) -> Tensor:
        x = torch.randn(2, 2, 8, 8, generator=generator)
        scheduler.set_timesteps(STEPS)
        for t in scheduler.timesteps:
            labels = torch.full((2,), label)
            labelled, without = (
                model(x, timestep=t.expand(2), class_labels=y).sample[:, :2] for y in (labels, 1000 + 0 * labels)
            )
            x = scheduler.step(without + 2 * (labelled - without), t, x, eta=0.5, generator=generator).prev_sample
        return x

    hooked = wb.HookedDiffusers(pipe)
    sweep = wb.sweep_pipeline(hooked, loop, lambda g: loop(g, 7), metric=energy, layers=[1], heads=[2])
    assert sweep.values.shape == (STEPS, 1, 1, 2)
    assert sweep.info["exact"] == "resumed at the step"
    base, outputs = "transformer_blocks.1.attn1", ["to_out.0"]
    with Plain(model, base, outputs) as other, torch.no_grad():
        loop(torch.Generator().manual_seed(0), 7)
    for step in range(STEPS):
        with PlainEdit(model, base, outputs, 2, [2 * step, 2 * step + 1], other), torch.no_grad():
            expected = energy(loop(torch.Generator().manual_seed(0)))
        np.testing.assert_allclose(sweep.values[step, 0, 0], expected.numpy(), rtol=1e-5)


def test_a_pipeline_that_looks_inside_its_transformer_is_run_whole() -> None:
    """A cache of features between steps: what a layer gave in the step before changes this one."""
    pipe = small_pipeline(sd3)
    before: list[Tensor] = []

    def add_last(_: Any, args: Any, output: Any) -> Any:
        image = output[1] + (0.1 * before[-1] if before else 0)
        before[:] = [output[1]]
        return output[0], image

    def run(generator: torch.Generator, prompt: int = 0) -> Tensor:
        before.clear()
        return call_pipeline(pipe, generator, prompt)

    handle = pipe.transformer.transformer_blocks[1].register_forward_hook(add_last)
    hooked = wb.HookedDiffusers(pipe)
    with pytest.warns(UserWarning, match=r"enters at a step gives other images, so the sweep makes whole runs"):
        sweep = wb.sweep_pipeline(hooked, run, edit="zero", metric=energy, layers=[0], heads=[1])
    assert sweep.info["exact"] == "full runs"
    for step in range(STEPS):
        with PlainEdit(pipe.transformer, "transformer_blocks.0.attn", ["to_out.0", "to_add_out"], 1, [step], None):
            expected = float(energy(run(torch.Generator().manual_seed(0)))[0])
        assert sweep.values[step, 0, 0, 0] == pytest.approx(expected, rel=1e-5)
    handle.remove()


def test_what_is_no_sweep_of_a_pipeline_is_refused_in_a_line() -> None:
    pipe = small_pipeline(flux)
    hooked, run = wb.HookedDiffusers(pipe), of_prompt(pipe)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"model": pipe}, r"^model=.*: expected a wb\.HookedDiffusers"),
        ({"run": "a prompt"}, r"^run='a prompt': expected a function of a generator"),
        ({"run": lambda: None}, r"^run=.*: expected a function of a generator"),
        ({"edit": "patch"}, r"^source=None: expected a function of a generator, because edit='patch'"),
        ({"source": run}, r"^source=.*: expected None, because only edit='patch' uses it"),
        ({"edit": "mean"}, r"^edit='mean': expected"),
        ({"metric": "logit_difference"}, r"^metric='logit_difference': expected a metric of pixels"),
        ({"steps": 7}, r"^steps=7: expected a step from 0 to 2"),
        ({"layers": 5}, r"^layers=5: expected a layer"),
        ({"heads": 5}, r"^heads=5: expected a head"),
        ({"seeds": -1}, r"^seeds=-1: expected"),
        ({"site": "resid_pre", "edit": "zero"}, r"^by='head': expected 'layer' or 'step', because blocks\.0\.hook_res"),
        ({"run": lambda generator: 3}, r"^run: returned 3, expected images"),
        ({"run": lambda generator: torch.zeros(1, 3, 8, 8)}, r"^run: expected a call of the model's transformer"),
        ({"metric": lambda images: images}, r"^metric=.*returned .*, expected one number an image"),
        ({"run": lambda generator: (run(generator), run(generator))[1]}, r"^run: expected one sampling"),
        ({"run": lambda generator: call_pipeline(pipe, torch.Generator().manual_seed(torch.seed() % 99999))},
         r"^run: expected the same images from the same seed, and two runs differ\. Pass the generator on"),
    ]  # fmt: skip
    for changes, message in cases:
        arguments = {"model": hooked, "run": run, "edit": "zero", "layers": 0, "heads": 0} | changes
        with pytest.raises(UsageError, match=message):
            wb.sweep_pipeline(**arguments)
    with pytest.raises(UsageError, match=r"Use wb\.sweep_pipeline"):
        wb.sweep(hooked, wb.latents(1))
    with pytest.raises(UsageError, match=r"^source: it has 4 steps, and run 3\. Take one schedule\."):
        wb.sweep_pipeline(hooked, run, of_prompt(pipe, 1, num_inference_steps=4), metric=energy, steps=0)
    joint = small_pipeline(sd3)
    with pytest.raises(HookError, match="Both need the same size of image, length of text"):
        wb.sweep_pipeline(
            wb.HookedDiffusers(joint),
            of_prompt(joint),
            of_prompt(joint, 1, guidance_scale=1.0),
            metric=energy,
        )
