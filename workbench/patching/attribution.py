"""Attribution patching: what every edit of a sweep would change, to first order, from one backward pass per input.

``change ≈ Σ (value − own) · ∂ metric / ∂ activation``, summed over the steps, positions and dimensions that the edit
writes, with the gradient taken in the unedited run (Nanda 2023, "Attribution Patching"; Syed, Rager & Conmy, arXiv
2310.10348). Exact only where the metric is linear in the activation: a screen, not a measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from workbench.cache.result_cache import ResultCache
from workbench.errors import UsageError
from workbench.inputs.paired import Group
from workbench.models.precision import at_least_float32
from workbench.models.resumable import Tap
from workbench.patching.capture import Capture
from workbench.patching.cone import EachPosition
from workbench.patching.measure import Measurement, measure
from workbench.patching.memory import VECTORS, keep_freed_memory
from workbench.patching.plan import Plan
from workbench.patching.progress import Progress, ProgressCounter
from workbench.patching.sweep_batch import SweepBatch
from workbench.results.sweep import Sweep


@keep_freed_memory()
def attribution(plan: Plan, progress: Progress | None = None) -> Sweep:
    """The estimate of every cell: ``values = base + estimated change``.

    Raises:
        UsageError: the metric has no gradient (an accuracy), or the model does not resume.
    """
    if not plan.resumable.resumes:
        raise UsageError("Attribution needs a model whose runs resume exactly, and this model's do not. Use wb.sweep.")
    if plan.metric.reference and plan.settings.direction == "noise":
        raise UsageError(
            f"{plan.metric.name} is at its minimum, with gradient 0, in the clean run, which is the run edited here. "
            "Use method='bfloat16', or another metric."
        )
    counter = ProgressCounter(len(plan.inputs), "attribution", progress)
    values = None if plan.settings.edit == "patch" else plan.values()

    def compute(group: Group) -> Measurement:
        batch = plan.batch(group)
        source = np.full(len(group.members), np.nan)
        if values is None:
            source[:] = batch.insert_from(plan.source_ids)
        else:
            batch.insert(values)
        base = np.array(batch.base_scores)
        change = _changes(plan, batch)
        counter(len(group.members))
        return Measurement(base, source, base[:, None] + change.T, 0)

    uncached = ResultCache(None, None)
    measurement = measure(
        plan.inputs,
        len(plan.cells),
        compute,
        causal=plan.resumable.causal,
        results=uncached,
        progress=counter,
        steps_per_example=1,
    )
    return plan.sweep(measurement, screen="attribution", cells=len(plan.cells) * len(plan.inputs))


def _changes(plan: Plan, batch: SweepBatch) -> Float[np.ndarray, "cell input"]:
    """The estimated change of each input's metric by each cell's edit."""
    changes = np.zeros((len(plan.cells), len(batch.members)))
    size = _prompts_at_once(plan, batch)
    for at in range(0, len(batch.members), size):
        prompts = range(len(batch.members))[at : at + size]
        activations, gradients = _gradients(plan, batch, prompts)
        for depth in plan.depths:
            cells = [(c, cell) for c, cell in enumerate(plan.cells) if depth in cell.depths]
            for j, k in enumerate(prompts):
                source, activation = batch.source_values[k], activations[depth][j]
                if isinstance(source, EachPosition):
                    value = source(activation, batch.first)
                else:
                    value = source(activation) if callable(source) else source[depth]
                # Per position from the first that can change on, and per head: the sum over its dimensions.
                change = first_order_change(value, activation, gradients[depth][j])
                for c, cell in cells:
                    of_head = change if cell.head is None else change[:, cell.head]
                    changes[c, k] += sum(
                        of_head.sum() if position is None else of_head[position - batch.first].sum()
                        for position in batch.positions(k, cell, plan.shared_positions)
                        if position is None or position >= batch.first
                    )
    return changes


def first_order_change(
    value: Shaped[Tensor, "pos *head d"], activation: Shaped[Tensor, "pos *head d"], gradient: Tensor
) -> Float[np.ndarray, "pos *head"]:
    """``Σ_d (value − activation) · gradient``, at least in float32."""
    value, activation, gradient = map(at_least_float32, (value, activation, gradient))
    return ((value - activation) * gradient).sum(-1).double().cpu().numpy()


def _gradients(plan: Plan, batch: SweepBatch, prompts: Sequence[int]) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Some inputs' activations at every edited depth, and the gradients of their metrics with respect to them, from
    the first position that can change on: earlier activations are constants, from the base run."""
    resumable, base, start = plan.resumable, batch.base, batch.first
    leaves = Capture[int](lambda x: x if x.requires_grad else x.detach().requires_grad_())

    def leaf_taps(depth: int) -> dict[str, Tap]:
        tap = leaves.tap(depth)

        def replace(x: Tensor) -> Tensor:
            tap(x)
            return leaves[depth]

        return {batch.hooks[depth]: replace} if depth in batch.hooks else {}

    rows = torch.tensor(prompts)
    with resumable.weights_frozen(), torch.enable_grad():
        stream = resumable.stream_at(base, plan.depths[0], rows, start)
        for depth in range(plan.depths[0], resumable.n_layers * resumable.n_steps):
            taps = leaf_taps(depth)
            stream = resumable.block(base, depth, rows, start, stream, lambda _, taps=taps: taps, all_positions=True)
        readout = resumable.readout(base, rows, stream, batch.scorer.tokens)
        total = torch.stack([batch.scorer.scores(k, readout[j, None]).sum() for j, k in enumerate(prompts)]).sum()
        if not total.requires_grad:
            raise UsageError(
                f"The metric {plan.metric.name!r} has no gradient, so attribution cannot estimate it. Use "
                "method='bfloat16', or a metric such as logit_difference."
            )
        gradients = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
    return (
        {depth: batch.positions_first(x.detach()) for depth, x in leaves.items()},
        {depth: batch.positions_first(x) for depth, x in zip(leaves, gradients, strict=True)},
    )


def _prompts_at_once(plan: Plan, batch: SweepBatch) -> int:
    """How many inputs' graphs fit into the memory limit: each holds every layer's activations."""
    resumable: Any = plan.resumable
    d_model = getattr(getattr(resumable, "model", resumable), "d_model", 1024)
    layers = resumable.n_layers * resumable.n_steps
    per_prompt = 4 * layers * (batch.length - batch.first) * (VECTORS * d_model + 2 * resumable.n_heads * batch.length)
    return max(1, min(len(batch.members), int(plan.settings.memory_gb * 1e9 // per_prompt)))
