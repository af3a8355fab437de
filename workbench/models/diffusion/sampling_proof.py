"""The proof that runs of a diffusion transformer resume exactly in the steps, passes and precision in use.

The check at load time sees one pass, in the first step and with one label a row. Layers that count their calls, keep
something between steps, or depend on how many passes there are, are found here: rows of the inputs in use are edited in
some steps, once in a whole run and once in one that is resumed there, and have to end in the same sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from workbench.errors import HookError
from workbench.models.precision import TOLERANCE
from workbench.models.resumption import FAILURES

if TYPE_CHECKING:
    from workbench.models.diffusion.resumable import ResumableSampling


def places(n_steps: int, n_layers: int) -> Iterator[tuple[int, int]]:
    """The steps and layers that are entered: the first step, one in the middle and the last, each in another layer."""
    steps = sorted({0, n_steps // 2, n_steps - 1})
    layers = [n_layers - 1, 0, n_layers // 2]
    yield from zip(steps, layers, strict=False)


@torch.no_grad()
def why_not_resumed(resumable: ResumableSampling, inputs: Shaped[Tensor, "two pos column"]) -> str:
    """Why runs that enter a step are not exact on these inputs; empty where they are."""
    model = resumable.model
    rows = torch.tensor([0, len(inputs) - 1, 0], device=model.device)  # several runs may resume one input
    try:
        base = resumable.base_run(inputs)
        unedited = model.sampled(inputs)[rows]
        if off := _off(base.streams[-1][1][rows], unedited, unedited, model.dtype):
            return f"differs by {off:.2g} before any edit"
        for step, layer in places(resumable.n_steps, resumable.n_layers):
            tap = {model.hook_name("z", layer): _turned}
            whole = model.sampled(inputs[rows], lambda now, at=step, tap=tap: model.running(tap if now == at else {}))
            depth = step * resumable.n_layers + layer
            stream = resumable.stream_at(base, depth, rows, 0)
            stream = resumable.block(base, depth, rows, 0, stream, lambda _, tap=tap: tap)
            for later in range(depth + 1, resumable.n_steps * resumable.n_layers):
                stream = resumable.block(base, later, rows, 0, stream, lambda _: {})
            if off := _off(stream[1], whole, unedited, model.dtype):
                return f"differs by {off:.2g} after an edit of layer {layer} in step {step}"
    except HookError:
        raise
    except FAILURES as error:
        return f"failed ({error})"
    return ""


def _turned(z: Float[Tensor, "row pos head d_head"]) -> Float[Tensor, "row pos head d_head"]:
    """z with the first head's sign turned."""
    z = z.clone()
    z[:, :, 0] *= -1
    return z


def _off(resumed: Tensor, whole: Tensor, unedited: Tensor, dtype: torch.dtype) -> float:
    """The largest difference, where the order of sums does not explain it; else 0."""
    off = float((resumed - whole).abs().max())
    effect, scale = float((whole - unedited).abs().max()), float(whole.abs().max())
    return 0.0 if off <= TOLERANCE[dtype] * (effect + 0.1 * scale) else off
