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
from workbench.patching.batches import BATCH_SIZE
from workbench.patching.memory import VECTORS, keep_freed_memory
from workbench.patching.plan import Plan
from workbench.patching.progress import Progress, ProgressCounter
from workbench.patching.sweep_batch import Recorded, SweepBatch
from workbench.results.sweep import Sweep


@keep_freed_memory()
def attribution(plan: Plan, progress: Progress | None = None) -> Sweep:
    """The estimate of every cell: ``values = base + estimated change``.

    Raises:
        UsageError: the metric has no gradient (an accuracy), or the model does not resume.
    """
    inputs = plan.inputs
    if not plan.resumable.resumes:
        raise UsageError("Attribution needs a model that resumes exactly, and this one does not: use sweep.")
    if plan.metric.reference and not plan.denoise:
        raise UsageError(
            f"{plan.metric.name} has its least value, and gradient 0, in the clean run, which is the one edited here: "
            "use method='bfloat16', or another metric."
        )
    rows = np.empty((len(inputs), 2 + len(plan.cells)))
    done = ProgressCounter(len(inputs), "attribution", progress)
    values = None if plan.edit == "patch" else plan.values()
    for group in inputs.groups(BATCH_SIZE):
        batch = plan.batch(group)
        source = [np.nan] * len(group.members)
        if values is None:
            source = batch.take_from(plan.source_ids)
        else:
            batch.take(values)
        change = _changes(plan, batch)
        rows[list(group.members)] = np.column_stack(
            [batch.base_scores, source, np.array(batch.base_scores)[:, None] + change.T]
        )
        done(len(group.members))
    return plan.sweep(rows, screen="attribution", cells=len(plan.cells) * len(inputs))


def _changes(plan: Plan, batch: SweepBatch) -> Float[np.ndarray, "cell prompt"]:
    """The estimated change of each prompt's metric by each cell's edit."""
    found = np.zeros((len(plan.cells), len(batch.members)))
    size = _at_once(plan, batch)
    for at in range(0, len(batch.members), size):
        prompts = range(len(batch.members))[at : at + size]
        own, gradients = _gradients(plan, batch, prompts)
        for depth in plan.depths:
            mine = [(c, cell) for c, cell in enumerate(plan.cells) if cell.depth == depth]
            for j, k in enumerate(prompts):
                given = batch.given[k]
                value = given(own[depth][j]) if callable(given) else given[depth]
                # Per position from the first that can change on, and per head: the sum over its dimensions.
                each = ((value - own[depth][j]) * gradients[depth][j]).sum(-1).double().cpu().numpy()
                for c, cell in mine:
                    of_head = each if cell.head is None else each[:, cell.head]
                    found[c, k] = sum(
                        of_head.sum() if place is None else of_head[place - batch.first].sum()
                        for place in batch.places(k, cell, plan.shared_positions)
                        if place is None or place >= batch.first
                    )
    return found


def _gradients(plan: Plan, batch: SweepBatch, prompts: Sequence[int]) -> tuple[Recorded, Recorded]:
    """Some prompts' activations at every edited depth, and the gradients of their metrics with respect to them, from
    the first position that can change on: what was before it is a constant, kept by the base run."""
    resumable, base, start, seen = plan.resumable, batch.base, batch.first, {}

    def keeper(depth: int) -> Callable[[Tensor], Tensor]:
        def keep(x: Tensor) -> Tensor:
            seen[depth] = x if x.requires_grad else x.detach().requires_grad_()
            return seen[depth]

        return keep

    rows = torch.tensor(prompts)
    with resumable.weights_frozen(), torch.enable_grad():
        stream = resumable.stream_at(base, plan.depths[0], rows, start)
        for depth in range(plan.depths[0], resumable.n_layers * resumable.n_steps):
            taps = {batch.hooks[depth]: keeper(depth)} if depth in batch.hooks else {}
            stream = resumable.block(base, depth, rows, start, stream, lambda _, taps=taps: taps, all_positions=True)
        readout = resumable.readout(base, rows, stream, batch.scorer.tokens)
        total = torch.stack([batch.scorer.scores(k, readout[j, None]).sum() for j, k in enumerate(prompts)]).sum()
        if not total.requires_grad:
            raise UsageError(
                f"The metric {plan.metric.name!r} has no gradient, so attribution says nothing of it: use "
                "method='bfloat16', or a metric such as logit_difference."
            )
        found = torch.autograd.grad(total, list(seen.values()), materialize_grads=True)
    return (
        {depth: batch.positions_first(x.detach()) for depth, x in seen.items()},
        {depth: batch.positions_first(x) for depth, x in zip(seen, found, strict=True)},
    )


def _at_once(plan: Plan, batch: SweepBatch) -> int:
    """How many prompts' graphs fit into the memory limit: each keeps every layer's activations."""
    resumable: Any = plan.resumable
    d_model = getattr(getattr(resumable, "model", resumable), "d_model", 1024)
    layers = resumable.n_layers * resumable.n_steps
    each = 4 * layers * (batch.length - batch.first) * (VECTORS * d_model + 2 * resumable.n_heads * batch.length)
    return max(1, min(len(batch.members), int(plan.memory_gb * 1e9 // each)))
