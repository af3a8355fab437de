"""Attribution patching: what every edit of a sweep would change, to first order, from one backward pass a prompt.

``change ≈ Σ (value − own) · ∂ metric / ∂ activation``, summed over the positions and dimensions that the edit writes,
with the gradient taken in the unedited run (Nanda 2023, "Attribution Patching"; Syed, Rager & Conmy, arXiv
2310.10348). Exact only where the metric is linear in the activation: a screen, not a measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import UsageError
from workbench.patching.batches import UNIT
from workbench.patching.memory import VECTORS, reused
from workbench.patching.plan import Plan
from workbench.patching.progress import Progress, Tally
from workbench.patching.sweep_batch import Recorded, Unit
from workbench.results.sweep import Sweep


@reused()
def attribution(plan: Plan, progress: Progress | None = None) -> Sweep:
    """The estimate of every cell: ``values = base + estimated change``.

    Raises:
        UsageError: the metric has no gradient (an accuracy), or the model does not resume.
    """
    inputs = plan.inputs
    if not plan.tower.resumable:
        raise UsageError("Attribution needs a model that resumes exactly, and this one does not: use sweep.")
    if plan.metric.reference and not plan.denoise:
        raise UsageError(
            f"{plan.metric.name} has its least value, and gradient 0, in the clean run, which is the one edited here: "
            "use method='bfloat16', or another metric."
        )
    rows = np.empty((len(inputs), 2 + len(plan.cells)))
    done = Tally(len(inputs), "attribution", progress)
    values = None if plan.edit == "patch" else plan.values()
    for group in inputs.groups(UNIT):
        unit = plan.unit(group)
        source = [np.nan] * len(group.members)
        if values is None:
            source = unit.take_from(plan.source_ids)
        else:
            unit.take(values)
        change = _changes(plan, unit)
        rows[list(group.members)] = np.column_stack(
            [unit.base_scores, source, np.array(unit.base_scores)[:, None] + change.T]
        )
        done(len(group.members))
    return plan.sweep(rows, screen="attribution", cells=len(plan.cells) * len(inputs))


def _changes(plan: Plan, unit: Unit) -> Float[np.ndarray, "cell prompt"]:
    """The estimated change of each prompt's metric by each cell's edit."""
    found = np.zeros((len(plan.cells), len(unit.members)))
    size = _at_once(plan, unit)
    for at in range(0, len(unit.members), size):
        prompts = range(len(unit.members))[at : at + size]
        own, gradients = _gradients(plan, unit, prompts)
        for stage in plan.stages:
            mine = [(c, cell) for c, cell in enumerate(plan.cells) if cell.stage == stage]
            for j, k in enumerate(prompts):
                given = unit.given[k]
                value = given(own[stage][j]) if callable(given) else given[stage]
                # Per position from the first that can change on, and per head: the sum over its dimensions.
                each = ((value - own[stage][j]) * gradients[stage][j]).sum(-1).double().cpu().numpy()
                for c, cell in mine:
                    of_head = each if cell.head is None else each[:, cell.head]
                    found[c, k] = sum(
                        of_head.sum() if place is None else of_head[place - unit.first].sum()
                        for place in unit.places(k, cell, plan.whole)
                        if place is None or place >= unit.first
                    )
    return found


def _gradients(plan: Plan, unit: Unit, prompts: Sequence[int]) -> tuple[Recorded, Recorded]:
    """Some prompts' activations at every edited stage, and the gradients of their metrics with respect to them, from
    the first position that can change on: what was before it is a constant, kept by the base run."""
    tower, base, start, seen = plan.tower, unit.base, unit.first, {}

    def keeper(stage: int) -> Callable[[Tensor], Tensor]:
        def keep(x: Tensor) -> Tensor:
            seen[stage] = x if x.requires_grad else x.detach().requires_grad_()
            return seen[stage]

        return keep

    rows = torch.tensor(prompts)
    with tower.frozen(), torch.enable_grad():
        stream = tower.enter(base, plan.stages[0], rows, start)
        for stage in range(plan.stages[0], tower.n_layers * tower.n_steps):
            taps = {unit.hooks[stage]: keeper(stage)} if stage in unit.hooks else {}
            stream = tower.block(base, stage, rows, start, stream, lambda _, taps=taps: taps, all_positions=True)
        readout = tower.readout(base, rows, stream, unit.scorer.tokens)
        total = torch.stack([unit.scorer.scores(k, readout[j, None]).sum() for j, k in enumerate(prompts)]).sum()
        if not total.requires_grad:
            raise UsageError(
                f"The metric {plan.metric.name!r} has no gradient, so attribution says nothing of it: use "
                "method='bfloat16', or a metric such as logit_difference."
            )
        found = torch.autograd.grad(total, list(seen.values()), materialize_grads=True)
    return (
        {stage: unit.positions_first(x.detach()) for stage, x in seen.items()},
        {stage: unit.positions_first(x) for stage, x in zip(seen, found, strict=True)},
    )


def _at_once(plan: Plan, unit: Unit) -> int:
    """How many prompts' graphs fit into the memory limit: each keeps every layer's activations."""
    tower: Any = plan.tower
    d_model = getattr(getattr(tower, "model", tower), "d_model", 1024)
    layers = tower.n_layers * tower.n_steps
    each = 4 * layers * (unit.length - unit.first) * (VECTORS * d_model + 2 * tower.n_heads * unit.length)
    return max(1, min(len(unit.members), int(plan.memory_gb * 1e9 // each)))
