"""`attention_on_sample`: the patterns of a layer's heads in a step of a diffusion model's sample."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import arguments
from workbench.core import PASSES, full_name
from workbench.inputs.latents import Latents
from workbench.models.in_forward import attends_in_shares
from workbench.models.precision import at_least_float32
from workbench.patching.record import record
from workbench.patching.trajectory import sample_names, sampled_how, sampled_to_the_end, trajectory

if TYPE_CHECKING:
    from workbench.plotting.image_attention import ImageAttention
    from workbench.plotting.trajectory import Trajectory


def attention_on_sample(
    model: Any,
    latents: Any,
    layer: int,
    step: int,
    *,
    branch: str = "label",
    shows: str = "estimate",
    over_steps: Trajectory | None = None,
    cache: Any = None,
) -> ImageAttention:
    """The attention of every head of a layer in one sampling step: ``pattern[head, dest, src]`` over the patches of one
    pass, and a picture of the sample in that step.

    The frames of a video lie side by side, and its patches are named ``"frame,row,column"``.

    Args:
        model: a `HookedDiT`.
        latents: `workbench.latents` of one sample; of a pair the clean run is shown.
        layer, step: which ones.
        branch: which pass of guidance: ``"label"`` or ``"with the class"``, ``"none"`` or ``"without the class"``.
        shows: the picture: ``"estimate"``, the image that the step's prediction points at, or ``"latent"``, the sample
            before the step.
        over_steps: `workbench.trajectory` of the same sample without edits, which is computed where it is not given.
        cache: as in `workbench.record`.

    Raises:
        UsageError: no diffusion model, more than one sample, no such layer, step or pass, the trajectory of another
            sample, or a layer whose operator has no matrix.

    Examples:
        >>> model = wb.load("digits-dit").resampled(steps=4, guidance=2.0)
        >>> seen = wb.attention_on_sample(model, wb.latents(3), layer=1, step=2)
        >>> seen.pattern.shape, seen.patches(head=1, position="2,3").shape  # [head, dest, src], [row, column]
        ((4, 16, 16), (4, 4))
    """
    from workbench.plotting.image_attention import ImageAttention
    from workbench.plotting.trajectory import VIEWS, Trajectory

    model = sampled_to_the_end(model)
    if not isinstance(latents, Latents) or len(latents) != 1:
        raise arguments.refusal("latents", latents, "latents of one sample", "Use wb.latents(3, seed=0).")
    layer = arguments.index("layer", layer, model.n_layers, "layer")
    step = arguments.index("step", step, model.n_steps, "step")
    arguments.one_of("shows", shows, VIEWS)
    of_pass = {name: key for key, name in PASSES.items()}
    branch = of_pass.get(arguments.one_of("branch", branch, [*PASSES, *of_pass]), branch)
    if branch == "none" and model.branches == 1:
        raise arguments.refusal(
            "branch", branch, "'label' or 'with the class'", because="without guidance every pass has the class"
        )
    clean = Latents(latents.classes, None, latents.seed, latents.seed)
    if over_steps is None:
        over_steps = trajectory(model, clean)
    elif not isinstance(over_steps, Trajectory) or (over_steps.names, over_steps.edits, over_steps.info) != (
        sample_names(clean, "clean"),
        (),
        sampled_how(model),
    ):
        expected = f"wb.trajectory of {sample_names(clean, 'clean')[0]}, without edits, sampled in the same way"
        raise arguments.refusal("over_steps", over_steps, expected)
    recorded = record(model, clean, ["pattern"], layer, steps=step, cache=cache).clean["pattern"][0]
    n, first = model.n_positions, model.n_positions * (branch == "none")
    pattern = recorded.flatten(0, -4)[0, :, first : first + n, first : first + n]
    grid, order = _side_by_side(model.hf.config.grid)
    labels = np.array(model.labels(model.trial()[0])[:n])[order]
    which = f", {PASSES[branch]}" if model.branches > 1 else ""
    return ImageAttention(
        at_least_float32(pattern).cpu().numpy()[:, order][:, :, order],
        grid,
        (),
        over_steps.pixels(0, step, shows),
        layer,
        full_name(model.provenance.get("name", ""), model.operators),
        f"{over_steps.names[0]}, step {step}{which}",
        attends_in_shares(model, layer),
        tuple(map(str, labels)),
    )


def _side_by_side(grid: tuple[int, ...]) -> tuple[tuple[int, int], np.ndarray]:
    """Rows and columns of a picture of all patches, frames side by side, and the position of each of its patches."""
    *frames, rows, columns = grid
    n = math.prod(frames)
    places = np.arange(n * rows * columns).reshape(n, rows, columns)
    return (rows, n * columns), places.transpose(1, 0, 2).ravel()
