"""Recordings and edits in the user's own pipeline, against plain hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.small_diffusers import (
    PIPELINES,
    Plain,
    PlainEdit,
    call_pipeline,
    close,
    scaled,
    sd3,
    small_pipeline,
)
from workbench.errors import HookError, UnknownName, UsageError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # of diffusers, with NumPy 2


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


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize(("make", "part", "base", "outputs"), PIPELINES)
def test_a_head_takes_the_activations_of_another_prompt(
    make: Callable[..., Any], part: str, base: str, outputs: list[str], step: int | None
) -> None:
    pipe = small_pipeline(make)
    hooked, unhooked, site = wb.HookedDiffusers(pipe), call_pipeline(pipe), f"{part}.hook_z"
    with Plain(pipe.transformer, base.format(1), outputs) as other:
        call_pipeline(pipe, prompt=1)
    with PlainEdit(pipe.transformer, base.format(1), outputs, 2, range(3) if step is None else [step], other):
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
        (wb.Edit("z", 1, head=0, step=2), source, UsageError, r"^edits\[0\]\.step=2: expected a step from 0 to 1, "),
        (wb.Edit("z", 1, head=0, position="prompt"), source, UnknownName, r"^position='prompt': expected 'image'"),
        (wb.Edit("z", 1, head=0), source, HookError, r"^The source has no blocks\.1\.attn\.hook_z@2: record it"),
        (wb.Edit("z", 0, head=0), source, UsageError, r"^source: expected blocks\.0\.attn\.hook_z in it"),
        (wb.Edit("z", 1, kind="zero"), source, UsageError, r"^source=.*: expected None, because no edit is a patch"),
        (wb.Edit("z", 3, head=0), source, UsageError, r"^layer=3: expected a layer from 0 to 2"),
        (wb.Edit("z", 1, head=3), source, UsageError, r"^edits\[0\]\.head=3"),
        (wb.Edit("z", 1, position=21, kind="zero"), None, UsageError, r"^position=21: expected a position from -21"),
        (wb.Edit("z", 1, position=-22, kind="zero"), None, UsageError, r"^position=-22: expected a position from -21"),
        (wb.Edit("z", 1, head=0, kind="mean"), None, UsageError, r"^edits\[0\]\.kind='mean'"),
        (wb.Edit("resid_mid", 1, kind="zero"), None, UnknownName, r"applies gates inline"),
        (wb.Edit("cross_attn.hook_z", 1, kind="zero"), None, UnknownName, r"cross_attn\.hook_z"),
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


def test_a_source_of_another_schedule_is_refused() -> None:
    pipe = small_pipeline(sd3)
    hooked = wb.HookedDiffusers(pipe)
    with hooked.recording("blocks.1.attn.hook_z") as source:
        call_pipeline(pipe, prompt=1, num_inference_steps=4)
    with (
        pytest.raises(HookError, match=r"^The source has blocks\.1\.attn\.hook_z@3, and this run had no step 3\."),
        hooked.hooks([wb.Edit("z", 1, head=2)], source=source),
    ):
        call_pipeline(pipe)
    with hooked.hooks([wb.Edit("z", 1, head=2, step=1)], source=source):  # a step that is named is the user's choice
        call_pipeline(pipe)
