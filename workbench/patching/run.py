"""`run`: any set of edits at once, for any inputs, by full forwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench import arguments
from workbench.cache import store_of
from workbench.core import RECORDED_KINDS, Edit, describe_edit
from workbench.errors import UsageError
from workbench.inputs.paired import PairedInputs
from workbench.io.token_text import token_text
from workbench.models.precision import at_least_float32
from workbench.patching.batches import BATCH_SIZE, batches
from workbench.patching.cone import full_forward_taps, naming_edits
from workbench.patching.divergence import kl_divergence
from workbench.patching.edits import Edits, edit_list
from workbench.patching.metric import Example, Metric, metric_for
from workbench.patching.notice import notice_nan
from workbench.patching.progress import Progress, ProgressCounter
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import model_identity, resolve_inputs, resolve_model

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Outcome:
    """Outputs of each input with the edits (`logits`) and without (`plain`, None where the unedited run was left out),
    ``[n, d_vocab]``: logits of the last position of texts, of classes, or an image's feature (`outputs_are`). `base` is
    the run of each pair that was edited.

    Examples:
        >>> outcome = wb.run(wb.load("tiny"), wb.task("ioi", n=6), [wb.Edit("z", 1, head=3, kind="zero")])
        >>> outcome.scores().shape, outcome.logits.shape == outcome.base_logits.shape
        (torch.Size([6]), True)
    """

    logits: Float[Tensor, "n d_vocab"]
    plain: Float[Tensor, "n d_vocab"] | None
    inputs: PairedInputs
    edits: tuple[Edit, ...]
    tokenizer: Any = None
    outputs_are: str = "logits"
    output_names: tuple[str, ...] = ()
    base: str = "clean"

    def __repr__(self) -> str:
        n, size = self.logits.shape
        edits = "; ".join(map(describe_edit, self.edits)) if len(self.edits) <= 3 else f"{len(self.edits)} edits"
        what = "logits" if self.outputs_are == "logits" else "numbers"
        alone = "" if self.plain is not None else ", without the unedited run"
        return f"<{size} {what} of {n} input{'s' * (n != 1)} under {edits or 'no edits'}, {self.base} run{alone}>"

    @property
    def base_logits(self) -> Float[Tensor, "n d_vocab"]:
        """The logits without the edits.

        Raises:
            UsageError: the unedited run was left out.
        """
        if self.plain is None:
            raise UsageError("This outcome has no unedited run. Call wb.run without unedited=False.")
        return self.plain

    def scores(
        self, metric: str | Metric | Callable[..., Tensor] | None = None, *, base: bool = False
    ) -> Float[Tensor, "n"]:
        """The metric of each example with the edits, or of the unedited run when `base`; by default as in
        `workbench.sweep`.

        Raises:
            UsageError: the unedited run is needed and was left out, or the metric compares with the clean run, and the
                corrupt one was edited.
        """
        base = arguments.flag("base", base)
        logits = self.base_logits if base else self.logits
        metric = metric_for(metric, self.inputs, outputs_are=self.outputs_are)
        if metric.reference and self.base == "corrupt":
            why = f"{metric.name} compares with the clean run, and this outcome's base is the corrupt run"
            do = "Use wb.feature_change." if metric.reads == "features" else "Use .kl(), or wb.run with base='clean'."
            raise arguments.refusal("metric", metric.name, "a metric of one run", do, because=why)
        reference = self.base_logits if metric.reference else logits
        inputs, scores = self.inputs, []
        for i in range(len(inputs)):
            example = Example(i, inputs.answer[i], inputs.wrong[i], inputs.options[i], reference[i])
            required = metric.required_tokens(example)
            row = logits[i : i + 1]
            scores.append(metric(row if required is None else row[:, list(required)], example)[0])
        return torch.stack(scores)

    def top(self, k: int = 5) -> list[list[tuple[str, float]]]:
        """The k most likely next tokens, or classes, of each input with the edits, with their probabilities.

        Raises:
            UsageError: the model's outputs are no logits.
        """
        self._require_logits()
        k = arguments.whole_number("k", k, at_least=1, at_most=self.logits.shape[-1])
        values, ids = at_least_float32(self.logits).softmax(-1).topk(k)
        name = self.tokenizer.decode if self.tokenizer is not None else self._name
        return [
            [(name(i), p) for i, p in zip(row, ps, strict=True)]
            for row, ps in zip(ids.tolist(), values.tolist(), strict=True)
        ]

    def kl(self) -> Float[Tensor, "n"]:
        """``KL(without ‖ with)`` of each input's next token or class, ``Σ p (log p − log q)`` in nats, computed in
        float64: the metric ``kl_divergence`` without float32's rounding, which hides small values. +∞ where the edits
        exclude a token (a logit of −∞) that was possible without them.

        Raises:
            UsageError: the unedited run was left out, or the model's outputs are no logits.
        """
        self._require_logits()
        return kl_divergence(*(logits.double().log_softmax(-1) for logits in (self.base_logits, self.logits)))

    def table(self, k: int = 8) -> pd.DataFrame:
        """The k likeliest next tokens without and the k likeliest with the edits: one row each, ``input, token, id,
        before, after`` (of images ``class`` instead of ``token``); each input's by the larger of the two probabilities.

        Raises:
            UsageError: the unedited run was left out, or the model's outputs are no logits.
        """
        import pandas as pd

        self._require_logits()
        k = arguments.whole_number("k", k, at_least=1, at_most=self.logits.shape[-1])
        name = self._name if self.tokenizer is None else lambda i: token_text(self.tokenizer, i)
        rows = []
        for i, both in enumerate(zip(self.base_logits, self.logits, strict=True)):
            p, q = (at_least_float32(logits).softmax(-1) for logits in both)
            ids = dict.fromkeys([*p.topk(k).indices.tolist(), *q.topk(k).indices.tolist()])
            rows += sorted(((i, name(t), t, float(p[t]), float(q[t])) for t in ids), key=lambda row: -max(row[3:]))
        what = "class" if self.output_names else "token"
        return pd.DataFrame(rows, columns=["input", what, "id", "before", "after"])

    def _name(self, i: int) -> str:
        return self.output_names[i] if self.output_names else str(i)

    def _require_logits(self) -> None:
        if self.outputs_are != "logits":
            raise UsageError(f"This model's outputs are {self.outputs_are}, which have no probabilities. Read .logits.")


def run(
    model: Any,
    inputs: Any,
    edits: Sequence[Edit],
    *,
    base: str = "clean",
    mean_over: Any = None,
    seed: int = 0,
    unedited: bool = True,
    cache: Any = None,
    progress: Progress | None = None,
) -> Outcome:
    """Run inputs with all `edits` at once, and without them.

    Edits are made in the order of the list: of two at the same head, position and site the later one overwrites what
    the earlier one wrote, or starts from it if it is ``scale``, ``add``, ``identity`` or a function.

    Args:
        model: a `HookedLM`, or any `ResumableModel`.
        inputs: a task, pairs, `PairedInputs`, a text or a list of texts, or images.
        edits: the edits; ``patch`` takes its values from the other run of each pair.
        base: which run of a pair is edited: ``"clean"`` or ``"corrupt"``.
        mean_over: inputs that ``mean`` edits average over (the inputs themselves by default), or ``"positions"``.
        seed: of ``resample`` edits.
        unedited: whether to run the inputs without the edits, too; if not, the call makes one forward instead of two.
        cache: where the edits' values are stored: None for the user's own cache, False for none, or a folder.

    Raises:
        UnknownName: no such site.
        UsageError: a head, layer, position or step that does not exist, or a patch without a pair.

    Examples:
        >>> model = wb.load("tiny")
        >>> outcome = wb.run(model, wb.task("ioi", n=6), [wb.Edit("z", 1, head=3, kind="zero")])
        >>> outcome.scores().shape  # the metric of each example
        torch.Size([6])
    """
    resumable, prepared, store = resolve_model(model), resolve_inputs(inputs, model, "inputs"), store_of(cache)
    base = arguments.one_of("base", base, ("clean", "corrupt"))
    edits, unedited = edit_list("edits", edits), arguments.flag("unedited", unedited)
    base_inputs = prepared if base == "clean" else prepared.swapped()
    if not any(edit.kind in RECORDED_KINDS for edit in edits):
        store = None  # no value comes from it, so the weights need not be hashed for its keys
    recorder = Recorder(resumable, store, model_identity(resumable, store))
    resolved = Edits.of(recorder, base_inputs, edits, mean_over, seed, model)
    ids = base_inputs.clean
    logits: list[Tensor] = [torch.empty(0)] * len(ids)
    plain: list[Tensor] = [torch.empty(0)] * len(ids)
    done = ProgressCounter(len(ids), "run", progress)
    for members in batches(ids, BATCH_SIZE):
        batch = torch.stack([ids[i] for i in members])
        runs = [resolved.edited_run(i) for i in members]
        taps, expand = full_forward_taps(resumable, runs)
        with naming_edits(runs, resumable.n_layers):
            edited = resumable.full_forward(batch, taps, expand=expand)
        for i, row in zip(members, edited, strict=True):
            logits[i] = row
        if unedited:
            for i, row in zip(members, resumable.full_forward(batch, {}), strict=True):
                plain[i] = row
        done(len(members))
    if any(torch.isnan(row).any() for row in logits):
        notice_nan((edit.kind for edit in edits), stacklevel=3)
    without = torch.stack(plain) if unedited else None
    return Outcome(
        torch.stack(logits),
        without,
        prepared,
        tuple(edits),
        getattr(model, "tokenizer", None),
        getattr(model, "outputs_are", "logits"),
        tuple(getattr(model, "output_names", ())),
        base,
    )
