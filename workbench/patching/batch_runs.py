"""The unedited runs of a batch: at most eight pairs of inputs of one length and first difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from workbench.inputs.paired import Group, PairedInputs
from workbench.models.resumable import ResumableModel, Tap
from workbench.patching.capture import Capture, taps_at
from workbench.patching.cone import EditedRun, Write, first_changed, run_edited
from workbench.patching.metric import Example, Metric
from workbench.patching.scorer import Scorer


class BatchRuns:
    """The base runs, and the runs of the same pairs that patched values come from.

    Attributes:
        ids: of the base runs. base: those runs; None where the model does not resume exactly.
        first_difference: the first position at which a base run and its source run differ, or the first of its block.
    """

    def __init__(
        self,
        resumable: ResumableModel,
        inputs: PairedInputs,
        group: Group,
        base_ids: Sequence[Tensor],
        metric: Metric,
        taps: Mapping[int, Mapping[str, Tap]] | None = None,
    ) -> None:
        self.resumable, self.inputs, self.members = resumable, inputs, group.members
        self.length, self.metric = group.length, metric
        self.first_difference = group.first_difference
        if resumable.causal:
            self.first_difference = first_changed(resumable, group.first_difference)
        self.ids = self.stacked(base_ids)
        self.base: Any = resumable.base_run(self.ids, taps) if resumable.resumes else None
        self.base_is_clean = base_ids is inputs.clean

    def stacked(self, ids: Sequence[Tensor]) -> Shaped[Tensor, "input *rest"]:
        """The batch's part of all ids."""
        return torch.stack([ids[i] for i in self.members])

    def score(self, clean_logits: Float[Tensor, "input d_vocab"] | None = None) -> list[float]:
        """Make the batch's scorer, and return the base runs' metrics."""
        if clean_logits is None and self.metric.reference:
            clean_logits = self._clean_logits()
        inputs = self.inputs
        examples = [
            Example(
                i,
                inputs.answer[i],
                inputs.wrong[i],
                inputs.options[i],
                None if clean_logits is None else clean_logits[k],
            )
            for k, i in enumerate(self.members)
        ]
        self.scorer = Scorer(self.metric, examples)
        return self.scores(self.ids, self.base)

    def _clean_logits(self) -> Float[Tensor, "input d_vocab"]:
        if self.base_is_clean:
            return self.readout(self.ids, self.base, None)
        clean = self.stacked(self.inputs.clean)
        return self.readout(clean, self.resumable.base_run(clean) if self.resumable.resumes else None, None)

    @torch.no_grad()
    def readout(self, ids: Tensor, base: Any, tokens: Tensor | None) -> Float[Tensor, "input n"]:
        """What the metric is computed from, for unedited runs."""
        resumable, rows = self.resumable, torch.arange(len(ids))
        if base is None:
            return resumable.full_forward(ids, {}, tokens)
        stream = resumable.stream_at(base, resumable.n_layers * resumable.n_steps, rows, 0)
        return resumable.readout(base, rows, stream, tokens)

    def scores(self, ids: Tensor, base: Any) -> list[float]:
        """The metrics of unedited runs."""
        readout = self.readout(ids, base, self.scorer.tokens)
        return [self.scorer(k, row[None])[0] for k, row in enumerate(readout)]

    def resume_sources(
        self, source_ids: Sequence[Tensor], hooks: Mapping[int, str], transform: Callable[[Tensor], Tensor]
    ) -> tuple[list[float], Capture[int]]:
        """The source runs of a causal model: their metrics, and their activations at hooks (by depth) from the first
        difference on.

        Before it the two runs of a pair are the same, so a source run is a base run with other embeddings from there.
        """
        resumable, captured = self.resumable, Capture[int](transform)
        embedded = resumable.embed(self.stacked(source_ids))[0]
        hook = resumable.hook_name("resid_pre", 0)
        runs = [EditedRun(k, (Write(0, hook, x),)) for k, x in enumerate(embedded)]
        scores = [0.0] * len(runs)
        run_edited(
            resumable,
            self.base,
            runs,
            self.first_difference,
            tokens=self.scorer.tokens,
            chunk=len(runs) * self.length,  # one chunk, so that each observer is called once
            observe={(depth, name): captured.observer(depth) for depth, name in hooks.items()},
            read=self.scorer.fill(scores, runs),
        )
        return scores, captured

    def run_and_capture(
        self, ids: Tensor, site: str, depths: Sequence[int], transform: Callable[[Tensor], Tensor]
    ) -> tuple[Any, Capture[int]]:
        """An unedited full run of `ids` (None where the model does not resume), and its activations at a site."""
        captured = Capture[int](transform)
        taps = taps_at(self.resumable, captured, site, depths)
        if self.resumable.resumes:
            return self.resumable.base_run(ids, taps), captured
        self.resumable.full_forward(ids, taps)
        return None, captured
