"""`trajectory`: samples of a diffusion model over the sampling steps, with or without edits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from workbench import arguments
from workbench.cache import store_of
from workbench.core import RECORDED_KINDS, Edit, full_name
from workbench.inputs.latents import Latents
from workbench.models.diffusion.hooked import HookedDiT
from workbench.models.diffusion.resumable import ResumableSampling
from workbench.patching.batches import BATCH_SIZE, batches
from workbench.patching.cone import full_forward_taps, naming_edits
from workbench.patching.edits import Edits, edit_list
from workbench.patching.progress import Progress, ProgressCounter
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import model_identity, resolve_inputs, resolve_model

if TYPE_CHECKING:
    from workbench.plotting.trajectory import Trajectory


def trajectory(
    model: Any,
    inputs: Any,
    edits: Sequence[Edit] | Edit = (),
    *,
    base: str = "clean",
    mean_over: Any = None,
    seed: int = 0,
    cache: Any = None,
    progress: Progress | None = None,
) -> Trajectory:
    """Samples over the sampling steps: as they are before each step, and the image that each step's prediction points
    at.

    With the prediction p of a step, after guidance: for a velocity at time t the image is ``x − t p`` (rectified
    flow), for noise ``(x − √(1 − ᾱ) p) / √ᾱ`` (Song, Meng and Ermon 2021, equation 9); after the last step both are
    the finished sample. Every step is run, whatever the model's readout.

    Args:
        model: a `HookedDiT`.
        inputs: `wb.latents`, or `PairedInputs`.
        edits, base, mean_over, seed, cache: as in `workbench.run`.
        progress: called with (done, total, what) after each batch.

    Raises:
        UsageError: no diffusion model, or edits that cannot be made.
        HookError: an edit made the sample NaN or infinite.

    Examples:
        >>> model = wb.load("digits-dit").resampled(steps=4)
        >>> plain = wb.trajectory(model, wb.latents(3))
        >>> edited = wb.trajectory(model, wb.latents(3), wb.Edit("z", 1, head=2, kind="zero", step=(2, 3)))
        >>> [bool(x) for x in plain.distances(edited)[0] > 0]  # of the states 0 to 4
        [False, False, False, True, True]
    """
    from workbench.plotting.trajectory import Trajectory

    model = sampled_to_the_end(model)
    base, edits = arguments.one_of("base", base, ("clean", "corrupt")), edit_list("edits", edits)
    prepared, names = resolve_inputs(inputs, model, "inputs"), sample_names(inputs, base)
    base_inputs = prepared if base == "clean" else prepared.swapped()
    store = store_of(cache) if any(edit.kind in RECORDED_KINDS for edit in edits) else None
    resumable: Any = resolve_model(model)
    assert isinstance(resumable, ResumableSampling)
    recorder = Recorder(resumable, store, model_identity(resumable, store))
    resolved, ids = Edits.of(recorder, base_inputs, edits, mean_over, seed, model), base_inputs.clean
    latents: list[Any] = [None] * len(ids)
    estimates: list[Any] = [None] * len(ids)
    done = ProgressCounter(len(ids), "sampling", progress)
    for members in batches(ids, BATCH_SIZE):
        runs = [resolved.edited_run(i) for i in members]
        taps, expand = full_forward_taps(resumable, runs)
        with naming_edits(runs, resumable.n_layers):
            over_steps = resumable.trajectory(torch.stack([ids[i] for i in members]), taps, expand)
        for i, *parts in zip(members, *(part.cpu() for part in over_steps), strict=True):
            latents[i], estimates[i] = parts
        done(len(members))
    return Trajectory(
        torch.stack(latents).numpy(),
        torch.stack(estimates).numpy(),
        tuple(step.time for step in model.sampling.schedule),
        names or prepared.where or tuple(f"sample {i}" for i in range(len(ids))),
        full_name(model.provenance.get("name", ""), model.operators),
        edits,
        sampled_how(model),
    )


def sampled_to_the_end(model: Any) -> HookedDiT:
    """The model, reading the finished sample's pixels.

    Raises:
        UsageError: no `HookedDiT`.
    """
    if not isinstance(model, HookedDiT):
        do = "Use wb.load(name), or wb.HookedDiT(model)."
        raise arguments.refusal("model", model, "a diffusion model with a sampler of the workbench's", do)
    resolve_model(model)  # no active hooks
    readout = model.sampling.readout
    return model if readout.read is None and readout.step is None else model.resampled(readout=None)


def sampled_how(model: HookedDiT) -> dict[str, Any]:
    """Sampler, steps and guidance, JSON-able."""
    return {name: fact for name, fact in model.sampling.info().items() if name != "readout"}


def sample_names(inputs: Any, base: str) -> tuple[str, ...]:
    """``"class 3, seed 0"`` of each sample; none of inputs that were made otherwise."""
    if not isinstance(inputs, Latents):
        return ()
    classes, seed = inputs.classes, inputs.seed
    if base == "corrupt":
        classes, seed = inputs.other or inputs.classes, inputs.other_seed
    return tuple(
        f"{'no class' if label is None else f'class {label}'}, seed {seed + i}" for i, label in enumerate(classes)
    )
