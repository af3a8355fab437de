"""`run`: any set of edits at once, for any inputs, by whole forwards."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import UsageError
from workbench.inputs import PairedInputs
from workbench.patching.batches import UNIT, batches
from workbench.patching.cone import Row, Write
from workbench.patching.context import inputs_of, tower_of
from workbench.patching.metrics import Example, Metric, metric_of
from workbench.patching.progress import Progress, Tally
from workbench.patching.record import Recorder
from workbench.patching.sites import has_heads, has_kv_heads
from workbench.patching.tower import Tower
from workbench.patching.unit import whole_taps
from workbench.patching.values import Stages, Values, position_of, values_of
from workbench.vocabulary import Edit


@dataclass(frozen=True)
class Outcome:
    """Last-position logits of each input with the edits (`logits`) and without (`base_logits`), ``[n, d_vocab]``."""

    logits: Float[Tensor, "n d_vocab"]
    base_logits: Float[Tensor, "n d_vocab"]
    inputs: PairedInputs
    edits: tuple[Edit, ...]
    tokenizer: Any = None

    def scores(
        self, metric: str | Metric | Callable[..., Tensor] = "logit_difference", *, base: bool = False
    ) -> Float[Tensor, "n"]:
        """The metric of each example with the edits, or of the unedited run when `base`."""
        metric, logits = metric_of(metric), self.base_logits if base else self.logits
        inputs, scores = self.inputs, []
        for i in range(len(inputs)):
            example = Example(i, inputs.answer[i], inputs.wrong[i], inputs.options[i], self.base_logits[i])
            wanted = metric.wanted(example)
            row = logits[i : i + 1]
            scores.append(metric(row if wanted is None else row[:, list(wanted)], example)[0])
        return torch.stack(scores)

    def top(self, k: int = 5) -> list[list[tuple[str, float]]]:
        """The k most likely next tokens of each input with the edits, with their probabilities."""
        values, ids = self.logits.softmax(-1).topk(k)
        name = self.tokenizer.decode if self.tokenizer is not None else str
        return [
            [(name(i), p) for i, p in zip(row, ps, strict=True)]
            for row, ps in zip(ids.tolist(), values.tolist(), strict=True)
        ]


def run(
    model: Any,
    inputs: Any,
    edits: Sequence[Edit],
    *,
    base: str = "clean",
    over: Any = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Outcome:
    """Run inputs with all `edits` at once, and without them.

    Args:
        model: a `HookedLM`, or any `Tower`.
        inputs: a task, pairs, `PairedInputs`, a text or a list of texts.
        edits: what to do; ``patch`` takes its values from the other run of each pair.
        base: which run of a pair is edited: ``"clean"`` or ``"corrupt"``.
        over: inputs that ``mean`` edits average over (the inputs themselves by default), or ``"positions"``.
        seed: of ``resample`` edits.

    Raises:
        UnknownName: no such site.
        UsageError: a head, layer or position that does not exist, or a patch without a pair.
    """
    tower = tower_of(model)
    prepared = inputs_of(inputs, model)
    if base not in ("clean", "corrupt"):
        raise UsageError(f"base={base!r}: use 'clean' or 'corrupt'.")
    ids, other = (prepared.clean, prepared.corrupt) if base == "clean" else (prepared.corrupt, prepared.clean)
    if prepared.corrupt is prepared.clean and any(edit.kind == "patch" for edit in edits):
        raise UsageError(
            "kind='patch' takes its values from the other run of a pair, and texts alone have none: use wb.pairs."
        )
    sources = _sources(tower, replace(prepared, clean=ids, corrupt=other), edits, over, seed, model)
    logits: list[Tensor] = [torch.empty(0)] * len(ids)
    plain: list[Tensor] = [torch.empty(0)] * len(ids)
    done = Tally(len(ids), "run", progress)
    for members in batches(ids, UNIT):
        rows = []
        for i in members:
            given = {key: values.of(i) for key, values in sources.items()}
            rows.append(Row(i, tuple(_write(tower, prepared, i, edit, given[_key(edit)]) for edit in edits)))
        batch = torch.stack([ids[i] for i in members])
        taps, expand = whole_taps(tower, rows)
        edited = tower.whole(batch, taps, expand=expand)
        unedited = tower.whole(batch, {})
        for i, a, b in zip(members, edited, unedited, strict=True):
            logits[i], plain[i] = a, b
        done(len(members))
    return Outcome(torch.stack(logits), torch.stack(plain), prepared, tuple(edits), getattr(model, "tokenizer", None))


def _sources(
    tower: Tower, inputs: PairedInputs, edits: Sequence[Edit], over: Any, seed: int, model: Any
) -> dict[Hashable, Values]:
    """Where the edits' values come from; edits of one kind at one site share one source, recorded at all their stages
    together."""
    for edit in edits:
        _check(tower, edit)
    reference = inputs_of(over, model) if over is not None and over != "positions" else over
    return {
        key: values_of(
            edit.kind,
            Recorder(tower),
            inputs,
            edit.site,
            sorted({_stage(tower, other) for other in edits if _key(other) == key}),
            source=inputs.corrupt,
            attend_to=edit.attend_to,
            over=reference,
            seed=seed,
        )
        for key, edit in {_key(edit): edit for edit in edits}.items()
    }


def _key(edit: Edit) -> Hashable:
    weights = edit.attend_to
    return edit.site, edit.kind, tuple(weights.items()) if isinstance(weights, Mapping) else weights


def _check(tower: Tower, edit: Edit) -> None:
    if edit.head is not None and not has_heads(edit.site):
        raise UsageError(f"Site {edit.site!r} has no heads, yet head {edit.head} was given.")
    n_heads = tower.n_kv_heads if has_kv_heads(edit.site) else tower.n_heads
    if edit.head is not None and not 0 <= edit.head < n_heads:
        raise UsageError(f"Head {edit.head} does not exist at site {edit.site!r}: layers have {n_heads} heads there.")
    tower.hook_name(edit.site, edit.layer)


def _stage(tower: Tower, edit: Edit) -> int:
    return edit.step * tower.n_layers + edit.layer


def _write(
    tower: Tower, inputs: PairedInputs, example: int, edit: Edit, given: Stages | Callable[[Tensor], Tensor]
) -> Write:
    stage = _stage(tower, edit)
    place = None if edit.position is None else position_of(inputs, example, edit.position)
    value = given if callable(given) else given[stage]
    if not callable(value):
        value = value if edit.head is None else value[:, edit.head]
        value = value if place is None else value[place]
    return Write(stage, tower.hook_name(edit.site, edit.layer), value, edit.head, place)
