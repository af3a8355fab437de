"""One batch of path patching: its base and source runs, the senders' runs, and the runs with patched receivers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from workbench.errors import UsageError
from workbench.inputs.paired import Group, PairedInputs
from workbench.models.resumable import ResumableModel
from workbench.patching.batch_runs import BatchRuns
from workbench.patching.capture import Capture, taps_at
from workbench.patching.cone import EditedRun, Observer, Write, first_changed, run_edited
from workbench.patching.metric import Metric
from workbench.patching.settings import PathSettings
from workbench.patching.sweep_batch import Cell
from workbench.patching.values import position_of

#: z behind a gate.
GATED_Z = "attn.hook_z_gated"
#: One sender in one input of the batch.
Sender = tuple[int, Cell]


class PathBatch(BatchRuns):
    """A batch whose senders' z is patched at one position of each input.

    Attributes:
        positions: that position, of each input.
        site: what of a head is patched and frozen: z, behind a gate where the model has one (`head_site`).
        base_z, source_z: depth → z of the base and of the source runs, ``[input, pos, head, d_head]``.
    """

    def __init__(
        self,
        resumable: ResumableModel,
        inputs: PairedInputs,
        group: Group,
        base_ids: Sequence[Tensor],
        source_ids: Sequence[Tensor],
        metric: Metric,
        settings: PathSettings,
    ) -> None:
        self.settings, self.depths = settings, range(resumable.n_layers * resumable.n_steps)
        self.positions = [position_of(inputs, i, settings.position) for i in group.members]
        self.site = head_site(resumable)
        self.z_hook = [resumable.hook_name(self.site, depth % resumable.n_layers) for depth in self.depths]
        self.base_z, self.source_z = Capture[int](), Capture[int]()
        self._mlp_out: Capture[int] = Capture()
        taps = taps_at(resumable, self.base_z, self.site, self.depths)
        super().__init__(resumable, inputs, group, base_ids, metric, taps)
        if not resumable.causal or (metric.reference and not self.base_is_clean):
            source = self.stacked(source_ids)
            run, self.source_z = self.run_and_capture(source, self.site, self.depths, lambda x: x)
            clean = (self.ids, self.base) if self.base_is_clean else (source, run)
            self.base_scores = self.score(self.readout(*clean, None) if metric.reference else None)
            self.source_scores = self.scores(source, run)
        else:
            self.base_scores = self.score()
            hooks = dict(enumerate(self.z_hook))
            self.source_scores, changed = self.resume_sources(source_ids, hooks, lambda x: x)
            for depth, z in changed.items():
                self.source_z[depth] = self.base_z[depth].clone()
                self.source_z[depth][:, self.first_difference :] = z

    def run(
        self, cells: Sequence[Cell], receivers: Mapping[int, Sequence[int]] | None
    ) -> tuple[Float[np.ndarray, "input cell"], int]:
        """Each input's metric for each sender, NaN for heads that are none, and how many of them needed no run.

        Args:
            cells: a head each, at one depth or several.
            receivers: depth → heads; None for the final residual stream.
        """
        values = np.full((len(self.members), len(cells)), np.nan)
        top = len(self.depths) if receivers is None else max(receivers)
        index = {cell: c for c, cell in enumerate(cells)}
        skipped = 0
        for position in sorted(set(self.positions)):
            prompts = [k for k, own in enumerate(self.positions) if own == position]
            senders = [(k, cell) for k in prompts for cell in cells if min(cell.depths) < top]
            for k, cell in senders:
                values[k, index[cell]] = self.base_scores[k]
            changed = [sender for sender in senders if self._is_changed(sender, position)]
            skipped += len(senders) - len(changed)
            runs = [self._sender_run(sender, position, receivers is not None) for sender in changed]
            if receivers is not None:
                scores = self._patch_receivers(runs, changed, position, receivers)
            else:
                frozen = self.base_z.__getitem__ if self._attention_is_frozen(position, False) else None
                scores = self._run_edited(runs, first_changed(self.resumable, position), frozen)
            for (k, cell), score in zip(changed, scores, strict=True):
                values[k, index[cell]] = score
        return values, skipped

    def _sender_run(self, sender: Sender, position: int, to_heads: bool) -> EditedRun:
        """The run in which one sender's z is patched and the other heads' are frozen."""
        k, cell = sender
        first, writes = min(cell.depths), []
        is_frozen = self._attention_is_frozen(position, to_heads)
        for depth in self.depths[first:]:
            if depth > first and not is_frozen:
                z, write_at = self.base_z[depth][k], None if self.settings.freeze == "all" else position
                writes.append(Write(depth, self.z_hook[depth], z if write_at is None else z[position], None, write_at))
            if depth in cell.depths:
                value = self._z(self.source_z, sender, depth, position)
                writes.append(Write(depth, self.z_hook[depth], value, cell.head, position))
        if self.settings.mlps == "freeze":
            for depth in self.depths[first:]:
                hook = self.resumable.hook_name("mlp_out", depth % self.resumable.n_layers)
                out = self._base_mlp_out(depth)[k]
                value, write_at = (out[position], position) if is_frozen and self._one_step else (out, None)
                writes.append(Write(depth, hook, value, None, write_at))
        return EditedRun(k, tuple(writes))

    @property
    def _one_step(self) -> bool:
        """Whether nothing but attention leads from one position to another; steps may hand on anything."""
        return self.resumable.n_steps == 1

    def _attention_is_frozen(self, position: int, to_heads: bool) -> bool:
        """Whether every z that matters is the base run's: then no attention is computed. With one position frozen that
        holds there, and heads receive nowhere else. A gate is computed again all the same: it has to be written over.
        """
        if self.site != "z":
            return False
        is_last = first_changed(self.resumable, position) == position == self.base.length - 1
        return self.settings.freeze == "all" or (self._one_step and (to_heads or is_last))

    def _patch_receivers(
        self, runs: list[EditedRun], senders: list[Sender], position: int, receivers: Mapping[int, Sequence[int]]
    ) -> list[float]:
        """Run the senders up to the receivers' inputs, and patch these alone into the base run."""
        resumable, settings, n_runs = self.resumable, self.settings, len(runs)
        base, base_z, one_position = self.base, self.base_z, settings.freeze == "position"
        first = first_changed(resumable, position)
        # Nothing after the position matters, unless what follows it in its block does.
        if one_position and resumable.causal and not getattr(resumable, "by_block", False):
            base = resumable.truncate(base, position + 1)
            base_z = {depth: x[:, : position + 1] for depth, x in base_z.items()}
        hooks = {depth: resumable.hook_name(settings.into, depth % resumable.n_layers) for depth in receivers}
        inputs: dict[int, Shaped[Tensor, "run pos head d_head"]] = {}

        def observer(depth: int) -> Observer:
            def observe(indices: Sequence[int], _first: int, x: Tensor) -> None:
                if depth not in inputs:
                    inputs[depth] = x.new_empty(n_runs, *x.shape[1:])
                inputs[depth][list(indices)] = x

            return observe

        below = [EditedRun(run.input, tuple(w for w in run.writes if w.depth < max(receivers))) for run in runs]
        run_edited(
            resumable,
            base,
            below,
            first,
            frozen=base_z.__getitem__ if self._attention_is_frozen(position, True) else None,
            observe={(depth, hooks[depth]): observer(depth) for depth in receivers},
            stop=max(receivers) + 1,
            read=lambda _indices, _readout: None,
        )
        group = resumable.n_heads // resumable.n_kv_heads if settings.into in ("k", "v") else 1
        expand = settings.into if group > 1 and not settings.share_kv else ""
        patched = []
        for row, (k, sender) in enumerate(senders):
            writes = []
            for depth, heads in receivers.items():
                if depth <= min(sender.depths):
                    continue
                for head in dict.fromkeys(h // group for h in heads) if settings.share_kv else heads:
                    value = inputs[depth][row, :, head if settings.share_kv else head // group]
                    value, write_at = (value[position - first], position) if one_position else (value, None)
                    writes.append(Write(depth, hooks[depth], value, head, write_at, first, expand))
            patched.append(EditedRun(k, tuple(writes)))
        return self._run_edited(patched, first, None)

    def _run_edited(self, runs: list[EditedRun], start: int, frozen: Callable[[int], Tensor] | None) -> list[float]:
        scores, scorer = [0.0] * len(runs), self.scorer
        read = scorer.fill(scores, runs)
        run_edited(self.resumable, self.base, runs, start, tokens=scorer.tokens, frozen=frozen, read=read)
        return scores

    def _is_changed(self, sender: Sender, position: int) -> bool:
        return not all(
            torch.equal(self._z(self.base_z, sender, depth, position), self._z(self.source_z, sender, depth, position))
            for depth in sender[1].depths
        )

    @staticmethod
    def _z(z: Mapping[int, Tensor], sender: Sender, depth: int, position: int) -> Float[Tensor, "d_head"]:
        k, cell = sender
        return z[depth][k, position, cell.head]

    def _base_mlp_out(self, depth: int) -> Float[Tensor, "input pos d_model"]:
        if not self._mlp_out:
            _, self._mlp_out = self.run_and_capture(self.ids, "mlp_out", self.depths, lambda x: x)
        return self._mlp_out[depth]


def head_site(resumable: ResumableModel) -> str:
    """What of a head path patching patches and freezes: z, or, where a gate that depends on the stream stands behind
    it, what enters the output projection, so that a frozen head writes what it wrote.

    Raises:
        UsageError: there is a gate and no output projection is named.
    """
    model: Any = getattr(resumable, "model", None)
    if model is None or not model.additivity.gated:
        return "z"
    if f"blocks.0.{GATED_Z}" not in model.hook_dict:
        layer, name = min(model.additivity.gated), type(model.hf).__name__
        raise UsageError(
            f"Path patching: in layer {layer} of {name} something between z and the residual stream depends on the "
            "stream, so that a frozen z does not freeze its head. Use wb.sweep."
        )
    return GATED_Z
