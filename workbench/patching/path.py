"""Path patching: what a head sends to later heads, or to the logits, directly.

Procedure (Wang et al. 2022, arXiv 2211.00593; the variant that freezes one position is Merullo et al. 2024,
arXiv 2310.08744): (1) run the base input with the sender's z at one position replaced by the source run's and the
other heads' z frozen to the base run's, MLPs recomputing, and capture the receivers' inputs; (2) run the base input
again with only those inputs patched in, and measure.

All senders share one pass through the layers (`workbench.patching.cone`), and where only one position can change, no
attention is recomputed at all. In a model with several sampling steps a path may also lead from one step to the next,
through what the steps hand on (an image that is denoised): that part is recomputed, as MLPs are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from workbench.arguments import refusal
from workbench.cache import store_of
from workbench.cache.result_cache import ResultCache
from workbench.core import Head, parse_heads
from workbench.errors import UnknownName, UsageError
from workbench.inputs.paired import Group
from workbench.models.resumable import ResumableModel
from workbench.models.steps import steps_info
from workbench.patching.batches import BATCH_SIZE
from workbench.patching.grid import cells_of
from workbench.patching.measure import Measurement, measure
from workbench.patching.memory import keep_freed_memory
from workbench.patching.metric import Metric, metric_for
from workbench.patching.path_batch import PathBatch, head_site
from workbench.patching.progress import Progress, ProgressCounter
from workbench.patching.resolve import model_identity, resolve_inputs, resolve_model, resolve_proven, result_info
from workbench.patching.settings import PathSettings, SweepSettings
from workbench.patching.values import default_position
from workbench.results.sweep import Sweep


@keep_freed_memory()
def path_patch(
    model: Any,
    task: Any,
    receivers: Sequence[Head | str | tuple[int, int]] | None = None,
    *,
    into: Literal["q", "k", "v"] | None = None,
    position: int | str | None = None,
    direction: Literal["noise", "denoise"] = "noise",
    freeze: Literal["position", "all"] = "position",
    mlps: Literal["recompute", "freeze"] = "recompute",
    share_kv: bool = False,
    metric: str | Metric | Callable[..., Tensor] | None = None,
    by: str | Sequence[str] = "head",
    steps: Sequence[int] | int | None = None,
    cache: Any = None,
    progress: Progress | None = None,
) -> Sweep:
    """The effect of every sender head along its direct paths to `receivers`: ``values[layer, head, example]``.

    Senders are the heads of all layers strictly below the receivers' (for several receivers: those that have one above
    them, and reach only these); all heads when `receivers` is None, which means the final residual stream. Heads that
    send nothing are NaN.

    Where a gate stands between z and the output projection (Qwen3-Next), a sender's z is patched, and the others' are
    frozen, behind it: a frozen head writes what it wrote, whatever its gate would be in the recomputed stream.

    In a model with several sampling steps a sender is a head in every step at once (or in one step at a time, with
    ``by=["step", "head"]``: ``values[step, layer, head, example]``), the receivers receive in every step, and *below*
    counts depth, step · layers + layer: a head of a late layer reaches an early one in the next step.

    Args:
        receivers: heads whose input is patched (``Head(23, 3)``, ``"23.3"`` or ``(23, 3)``); for ``k`` and ``v`` query
            heads, unless `share_kv`.
        into: which input of the receivers: ``q`` by default.
        position: where the senders' z is patched: a named position or an index. By default ``"end"``, of images
            ``"cls"``.
        direction: ``noise`` (base: the clean run) or ``denoise`` (base: the corrupt run).
        freeze: ``"position"`` freezes the other heads' z at that position, where the receivers' input is patched too
            (the reuse study); ``"all"`` freezes z and patches the receivers at every position (the first IOI paper).
        mlps: ``"recompute"``, or ``"freeze"`` to the base run.
        share_kv: patch k or v of the receivers' full KV group instead of giving the receiver a copy of its own.
        by: ``"head"``, or ``["step", "head"]`` for one sampling step at a time.
        steps: the sampling steps of the senders; all by default.
        metric, cache, progress: see `workbench.sweep`.

    Raises:
        UsageError: no head lies below the receivers, `into` or `share_kv` without receivers, or the model does not
            resume exactly, has no such step, or has a gate that cannot be frozen.

    Examples:
        >>> model = wb.load("tiny")
        >>> sweep = wb.path_patch(model, wb.task("ioi", n=6), receivers=[wb.Head(1, 0)], into="q")
        >>> sweep.values.shape  # [layer, head, example]
        (2, 8, 6)
    """
    settings = PathSettings(
        into=into,
        position=position,
        direction=direction,
        freeze=freeze,
        mlps=mlps,
        share_kv=share_kv,
        metric=metric,
        by=by,
        steps=steps,
    )
    if receivers is None:
        _check_only_for_receivers(into, share_kv)
    resumable, inputs, store = resolve_model(model), resolve_inputs(task, model), store_of(cache)
    if position is None:
        settings = replace(settings, position=default_position(inputs))
    if mlps == "freeze":
        _check_mlps(resumable)
    resolved_metric = metric_for(metric, inputs, model)
    settings = replace(settings, metric=resolved_metric.name if metric is None else metric)
    site = head_site(resumable)
    cells, labels = cells_of(resumable, inputs, SweepSettings(by=settings.by, steps=steps))
    by_layer = _receivers_by_layer(resumable, receivers)
    resumable = resolve_proven(model, inputs, store)
    if not resumable.resumes:
        why = getattr(resumable, "why_not", "")
        raise UsageError(
            "Path patching needs a model whose runs resume exactly at the length of these inputs"
            + (f", and resuming from the middle {why}." if why else ".")
        )
    by_depth = _in_every_step(resumable, by_layer)
    base_ids, source_ids = (inputs.clean, inputs.corrupt) if direction == "noise" else (inputs.corrupt, inputs.clean)
    counter = ProgressCounter(len(inputs), "path patching", progress)

    def compute(group: Group) -> Measurement:
        batch = PathBatch(resumable, inputs, group, base_ids, source_ids, resolved_metric, settings)
        values, skipped = batch.run(cells, by_depth)
        counter(len(group.members))
        return Measurement(np.array(batch.base_scores), np.array(batch.source_scores), values, skipped)

    identity = model_identity(resumable, store) if settings.is_cacheable else None
    key = () if identity is None else (BATCH_SIZE, "path patch", by_layer and list(by_layer.items()))
    if key and site != "z":
        key = (*key, site)
    results = ResultCache(store, identity, *key, settings.cache_key() if identity is not None else ())
    measurement = measure(
        inputs,
        len(cells),
        compute,
        causal=resumable.causal,
        results=results,
        progress=counter,
        steps_per_example=1,
    )
    names = [f"{layer}.{head}" for layer, heads in by_layer.items() for head in heads] if by_layer else "logits"
    info = {
        "site": site,
        "by": list(labels),
        "edit": "path patch",
        "receivers": names,
        **settings.as_info(),
        "into": settings.into if receivers is not None else "resid_post",
        "metric": resolved_metric.name,
        "units": resolved_metric.units,
        "skipped_cells": round(measurement.skipped),
    }
    return Sweep(
        values=np.ascontiguousarray(measurement.edited.T).reshape(*map(len, labels.values()), len(inputs)),
        base=measurement.base,
        source=measurement.source,
        axes=tuple(labels),
        labels=labels,
        info=result_info(model, inputs) | info | steps_info(resumable, steps),
    )


def _check_only_for_receivers(into: str | None, share_kv: bool) -> None:
    """Refuse what would do nothing on the way to the logits."""
    for name, value, none in (("into", into, None), ("share_kv", share_kv, False)):
        if value != none:
            why = "without receivers the heads' paths to the logits are patched"
            raise refusal(name, value, str(none), "Give receivers=[...], or leave it out.", because=why)


def _check_mlps(resumable: ResumableModel) -> None:
    """MLPs can be frozen where their outputs can be edited."""
    try:
        resumable.hook_name("mlp_out", 0)
    except UnknownName:
        why, do = "this model has no hook point mlp_out", "Name mlp_out in its parts, or leave it out."
        raise refusal("mlps", "freeze", "'recompute'", do, because=why) from None


def _receivers_by_layer(
    resumable: ResumableModel, receivers: Sequence[Head | str | tuple[int, int]] | None
) -> dict[int, list[int]] | None:
    """Layer → receiver heads, in the order of layers."""
    if receivers is None:
        return None
    by_layer: dict[int, list[int]] = {}
    for receiver in parse_heads("receivers", receivers):
        if not (0 <= receiver.layer < resumable.n_layers and 0 <= receiver.index < resumable.n_heads):
            raise refusal(
                "receivers",
                receivers,
                "heads of the model",
                because=f"there are {resumable.n_layers} layers of {resumable.n_heads} heads, and no {receiver}",
            )
        by_layer.setdefault(receiver.layer, []).append(receiver.index)
    if not by_layer or (max(by_layer) == 0 and resumable.n_steps == 1):
        raise refusal("receivers", receivers, "a head above layer 0", because="no head sends to layer 0")
    return dict(sorted(by_layer.items()))


def _in_every_step(resumable: ResumableModel, by_layer: dict[int, list[int]] | None) -> dict[int, list[int]] | None:
    """Depth → receiver heads, in the order of depths."""
    if by_layer is None:
        return None
    starts = range(0, resumable.n_layers * resumable.n_steps, resumable.n_layers)
    return {start + layer: heads for start in starts for layer, heads in by_layer.items()}
