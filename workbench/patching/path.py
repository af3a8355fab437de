"""Path patching: what a head sends to later heads, or to the logits, directly.

Procedure (Wang et al. 2022, arXiv 2211.00593; the variant that freezes one position is Merullo et al. 2024,
arXiv 2310.08744): (1) run the base prompt with the sender's z at one position replaced by the source run's and the
other heads' z frozen to the base run's, MLPs recomputing, and keep the receivers' inputs; (2) run the base prompt again
with only those inputs patched in, and measure.

Here every sender is a row of one climb, and where only one position can change no attention is recomputed at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from workbench.cache import store_of
from workbench.core import Head
from workbench.errors import UnknownName, UsageError
from workbench.inputs.paired import Group, PairedInputs
from workbench.models.resumable import ResumableModel
from workbench.patching.batches import BATCH_SIZE
from workbench.patching.cone import EditedRun, Write, run_edited
from workbench.patching.memory import keep_freed_memory
from workbench.patching.metric import Example, Metric, check_metric
from workbench.patching.progress import Progress, ProgressCounter
from workbench.patching.resolve import model_identity, resolve_inputs, resolve_model, result_info
from workbench.patching.result_cache import Kept
from workbench.patching.scorer import Scorer
from workbench.patching.values import position_of
from workbench.results.sweep import Sweep


@keep_freed_memory()
def path_patch(
    model: Any,
    task: Any,
    receivers: Sequence[Head | str | tuple[int, int]] | None = None,
    *,
    into: Literal["q", "k", "v"] = "q",
    position: int | str = "end",
    direction: Literal["noise", "denoise"] = "noise",
    freeze: Literal["position", "all"] = "position",
    mlps: Literal["recompute", "freeze"] = "recompute",
    share_kv: bool = False,
    metric: str | Metric | Callable[..., Tensor] = "logit_difference",
    cache: Any = None,
    progress: Progress | None = None,
) -> Sweep:
    """The effect of every sender head along its direct paths to `receivers`: ``values[layer, head, example]``.

    Senders are the heads of all layers strictly below the receivers' (for several receivers: those that have one above
    them, and reach only these); all heads when `receivers` is None, which means the final residual stream. Heads that
    send nothing are NaN.

    Args:
        receivers: heads whose input is patched (``Head(23, 3)``, ``"23.3"`` or ``(23, 3)``); for ``k`` and ``v`` query
            heads, unless `share_kv`.
        into: which input of the receivers.
        position: where the senders' z is patched: a named position or an index.
        direction: ``noise`` (base: the clean run) or ``denoise`` (base: the corrupt run).
        freeze: ``"position"`` freezes the other heads' z at that position, where the receivers' input is patched too
            (the reuse study); ``"all"`` freezes z and patches the receivers at every position (the first IOI paper).
        mlps: ``"recompute"``, or ``"freeze"`` to the base run.
        share_kv: patch k or v of the receivers' whole KV group instead of giving the receiver a copy of its own.
        metric, cache, progress: see `workbench.sweep`.

    Raises:
        UsageError: no head lies below the receivers, or the model does not resume exactly.
    """
    resumable, inputs, metric_name = resolve_model(model), resolve_inputs(task, model), metric
    metric = check_metric(metric, inputs)
    if not resumable.resumes or resumable.n_steps > 1:
        raise UsageError("Path patching needs a model with one step that resumes exactly; this one does not.")
    for what, given, known in (
        ("direction", direction, ("noise", "denoise")),
        ("freeze", freeze, ("position", "all")),
        ("mlps", mlps, ("recompute", "freeze")),
        ("receiver input", into, ("q", "k", "v")),
    ):
        if given not in known:
            raise UnknownName(what, given, known)
    targets = _targets(resumable, receivers)
    base_ids, source_ids = (inputs.clean, inputs.corrupt) if direction == "noise" else (inputs.corrupt, inputs.clean)
    store = store_of(cache)
    identity = model_identity(resumable, store) if isinstance(metric_name, str) else None
    shape = (resumable.n_layers, resumable.n_heads)
    done = ProgressCounter(len(inputs), "path patching", progress)

    def compute(group: Group) -> Float[np.ndarray, "prompt value"]:
        batch = _PathBatch(resumable, inputs, group, base_ids, source_ids, metric, position)
        values, skipped = batch.run(targets, into, freeze, mlps, share_kv)
        part = np.full(len(values), skipped / len(values))
        return np.column_stack([batch.base_scores, batch.source_scores, part, values.reshape(len(values), -1)])

    rows = np.empty((len(inputs), 3 + shape[0] * shape[1]))

    def take(group: Group, values: np.ndarray, _: bool) -> None:
        rows[list(group.members)] = values
        done(len(group.members))

    asked = (targets and sorted(targets.items()), into, position, direction, freeze, mlps, share_kv, metric.name)
    Kept(store, identity, inputs, "path patch", *asked).each(inputs.groups(BATCH_SIZE), compute, take)
    base_scores, source_scores, skipped = rows[:, 0], rows[:, 1], round(rows[:, 2].sum())
    values = np.ascontiguousarray(rows[:, 3:].T).reshape(*shape, len(inputs))

    info = result_info(model, inputs) | {
        "site": "z",
        "by": ["layer", "head"],
        "edit": "path patch",
        "receivers": [f"{layer}.{head}" for layer, heads in targets.items() for head in heads] if targets else "logits",
        "into": into if receivers is not None else "resid_post",
        "position": position,
        "direction": direction,
        "freeze": freeze,
        "mlps": mlps,
        "share_kv": share_kv,
        "metric": metric.name,
        "units": metric.units,
        "skipped_cells": skipped,
    }
    labels = {"layer": tuple(map(str, range(resumable.n_layers))), "head": tuple(map(str, range(resumable.n_heads)))}
    return Sweep(
        values=values, base=base_scores, source=source_scores, axes=("layer", "head"), labels=labels, info=info
    )


def _targets(
    resumable: ResumableModel, receivers: Sequence[Head | str | tuple[int, int]] | None
) -> dict[int, list[int]] | None:
    """Layer → receiver heads."""
    if receivers is None:
        return None
    targets: dict[int, list[int]] = {}
    for given in receivers:
        head = given if isinstance(given, Head) else Head.parse(given) if isinstance(given, str) else Head(*given)
        if not (0 <= head.layer < resumable.n_layers and 0 <= head.index < resumable.n_heads):
            raise UsageError(
                f"Head {head} does not exist: the model has {resumable.n_layers} layers of {resumable.n_heads} heads."
            )
        targets.setdefault(head.layer, []).append(head.index)
    if not targets or max(targets) == 0:
        raise UsageError("No head lies below the receivers: give receivers above layer 0.")
    return dict(sorted(targets.items()))


class _PathBatch:
    """At most eight prompts of one length and first difference."""

    def __init__(
        self,
        resumable: ResumableModel,
        inputs: PairedInputs,
        group: Group,
        base_ids: Sequence[Tensor],
        source_ids: Sequence[Tensor],
        metric: Metric,
        position: int | str,
    ) -> None:
        self.resumable, self.members = resumable, group.members
        self.at = [position_of(inputs, i, position) for i in group.members]
        self.hook = [resumable.hook_name("z", layer) for layer in range(resumable.n_layers)]
        self.mlp_hook: list[str] = []
        self.inputs = inputs
        batch = torch.stack([base_ids[i] for i in group.members])
        self.base_z: dict[int, Float[Tensor, "input pos head d_head"]] = {}
        self.source_z: dict[int, Float[Tensor, "input pos head d_head"]] = {}
        self.base = resumable.base_run(batch, {0: self._keep(self.base_z, self.hook)})
        source = torch.stack([source_ids[i] for i in group.members])
        # In a causal model the source run is the base run up to their first difference, and climbs from there on.
        whole = not resumable.causal or (metric.reference and base_ids is not inputs.clean)
        run = resumable.base_run(source, {0: self._keep(self.source_z, self.hook)}) if whole else None
        clean = self.base if base_ids is inputs.clean else run
        reference = self._readout(clean, None) if metric.reference else [None] * len(group.members)
        examples = [
            Example(i, inputs.answer[i], inputs.wrong[i], inputs.options[i], clean_logits)
            for i, clean_logits in zip(group.members, reference, strict=True)
        ]
        self.scorer = Scorer(metric, examples)
        self.base_scores = self._scores(self.base)
        self.source_scores = self._branch(source, group.first_difference) if run is None else self._scores(run)

    def _branch(self, source: Tensor, first: int) -> list[float]:
        """The source runs' scores, and their z, by a climb from the first difference on."""
        resumable, scores = self.resumable, [0.0] * len(source)

        def keeper(layer: int) -> Callable[[Sequence[int], int, Tensor], None]:
            def observe(rows: Sequence[int], start: int, z: Tensor) -> None:
                self.source_z[layer] = whole = self.base_z[layer].clone()
                whole[list(rows), start:] = z

            return observe

        writes = [Write(0, resumable.hook_name("resid_pre", 0), x) for x in resumable.embed(source)[0]]
        rows = [EditedRun(k, (write,)) for k, write in enumerate(writes)]
        observe = {(layer, hook): keeper(layer) for layer, hook in enumerate(self.hook)}
        read, chunk = self.scorer.into(scores, rows), source.numel()
        run_edited(
            resumable, self.base, rows, first, tokens=self.scorer.tokens, chunk=chunk, observe=observe, read=read
        )
        return scores

    def run(
        self,
        targets: dict[int, list[int]] | None,
        into: str,
        freeze: str,
        mlps: str,
        share_kv: bool,
    ) -> tuple[Float[np.ndarray, "prompt layer head"], int]:
        """Each prompt's metric for each sender, NaN for heads that are none, and how many cells needed no run."""
        values = np.full((len(self.members), self.resumable.n_layers, self.resumable.n_heads), np.nan)
        top = self.resumable.n_layers if targets is None else max(targets)
        senders = [(layer, head) for layer in range(top) for head in range(self.resumable.n_heads)]
        skipped = 0
        for start in sorted(set(self.at)):
            where = [k for k, position in enumerate(self.at) if position == start]
            cells = [(k, layer, head) for k in where for layer, head in senders]
            for k, layer, head in cells:
                values[k, layer, head] = self.base_scores[k]
            needed = [
                c for c in cells if not torch.equal(self._z(self.base_z, c, start), self._z(self.source_z, c, start))
            ]
            skipped += len(cells) - len(needed)
            to_heads = targets is not None
            rows = [self._sending(cell, start, freeze, mlps, to_heads) for cell in needed]
            if to_heads:
                scores = self._patch_receivers(rows, needed, start, freeze, targets, into, share_kv)
            else:
                still = self._attention_is_frozen(start, freeze, to_heads)
                frozen = self.base_z.__getitem__ if still else None
                scores = self._measured(rows, start if self.resumable.causal else 0, frozen)
            for (k, layer, head), score in zip(needed, scores, strict=True):
                values[k, layer, head] = score
        return values, skipped

    def _sending(self, cell: tuple[int, int, int], start: int, freeze: str, mlps: str, to_heads: bool) -> EditedRun:
        """The first run of one sender."""
        k, layer, head = cell
        writes = [Write(layer, self.hook[layer], self._z(self.source_z, cell, start), head, start)]
        still = self._attention_is_frozen(start, freeze, to_heads)
        if not still:
            for above in range(layer + 1, self.resumable.n_layers):
                z = self.base_z[above][k]
                writes.append(Write(above, self.hook[above], z[start], None, start))
        if mlps == "freeze":
            for above in range(layer, self.resumable.n_layers):
                hook, out = self.resumable.hook_name("mlp_out", above), self._mlp(above)[k]
                writes.append(Write(above, hook, out[start] if still else out, None, start if still else None))
        return EditedRun(k, tuple(writes))

    def _attention_is_frozen(self, start: int, freeze: str, to_heads: bool) -> bool:
        """Whether every z that matters is the base run's: then no attention is computed. With one position frozen that
        holds there, and heads receive nowhere else."""
        return freeze == "all" or to_heads or (self.resumable.causal and start == self.base.length - 1)

    def _patch_receivers(
        self,
        rows: list[EditedRun],
        cells: list[tuple[int, int, int]],
        start: int,
        freeze: str,
        targets: dict[int, list[int]],
        into: str,
        share_kv: bool,
    ) -> list[float]:
        kept: dict[int, Shaped[Tensor, "row pos head d_head"]] = {}
        base, z, here = self.base, self.base_z, freeze == "position"
        first = start if self.resumable.causal else 0
        at = start - first
        if here and self.resumable.causal:  # nothing after the position is looked at
            base = self.resumable.truncate(base, start + 1)
            z = {layer: x[:, : start + 1] for layer, x in z.items()}

        def observer(layer: int) -> Callable[[Sequence[int], int, Tensor], None]:
            def observe(of: Sequence[int], _: int, x: Tensor) -> None:
                if layer not in kept:
                    kept[layer] = x.new_empty(len(rows), *x.shape[1:])
                kept[layer][list(of)] = x

            return observe

        hooks = {layer: self.resumable.hook_name(into, layer) for layer in targets}
        rows = [EditedRun(row.input, tuple(w for w in row.writes if w.depth < max(targets))) for row in rows]
        run_edited(
            self.resumable,
            base,
            rows,
            first,
            frozen=z.__getitem__,
            observe={(layer, hooks[layer]): observer(layer) for layer in targets},
            stop=max(targets) + 1,
            read=lambda _, __: None,
        )
        group = self.resumable.n_heads // self.resumable.n_kv_heads if into in ("k", "v") else 1
        second = []
        for row, (_, sender, _) in enumerate(cells):
            writes = []
            for layer, heads in targets.items():
                if layer <= sender:
                    continue
                for head in dict.fromkeys(h // group for h in heads) if share_kv else heads:
                    value = kept[layer][row, :, head if share_kv else head // group]
                    value, place = (value[at], at + first) if here else (value, None)
                    expand = into if group > 1 and not share_kv else ""
                    writes.append(Write(layer, hooks[layer], value, head, place, first, expand))
            second.append(EditedRun(cells[row][0], tuple(writes)))
        return self._measured(second, first, None)

    def _measured(self, rows: list[EditedRun], start: int, frozen: Callable[[int], Tensor] | None) -> list[float]:
        scores, scorer = [0.0] * len(rows), self.scorer
        read = scorer.into(scores, rows)
        run_edited(self.resumable, self.base, rows, start, tokens=scorer.tokens, frozen=frozen, read=read)
        return scores

    def _z(self, z: dict[int, Tensor], cell: tuple[int, int, int], position: int) -> Float[Tensor, "d_head"]:
        k, layer, head = cell
        return z[layer][k, position, head]

    def _mlp(self, layer: int) -> Float[Tensor, "input pos d_model"]:
        if not self.mlp_hook:
            self.mlp_hook = [self.resumable.hook_name("mlp_out", i) for i in range(self.resumable.n_layers)]
            self._mlps: dict[int, Tensor] = {}
            self.resumable.base_run(self.base.ids, {0: self._keep(self._mlps, self.mlp_hook)})
        return self._mlps[layer]

    @staticmethod
    def _keep(into: dict[int, Tensor], hooks: Sequence[str]) -> dict[str, Callable[[Tensor], None]]:
        def keep(layer: int) -> Callable[[Tensor], None]:
            def tap(x: Tensor) -> None:
                into[layer] = x

            return tap

        return {hook: keep(layer) for layer, hook in enumerate(hooks)}

    @torch.no_grad()
    def _readout(self, base: Any, tokens: Tensor | None) -> Float[Tensor, "input n"]:
        rows = torch.arange(base.size)
        return self.resumable.readout(
            base, rows, self.resumable.stream_at(base, self.resumable.n_layers, rows, 0), tokens
        )

    def _scores(self, base: Any) -> list[float]:
        return [self.scorer(k, row[None])[0] for k, row in enumerate(self._readout(base, self.scorer.tokens))]
