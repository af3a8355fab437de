"""Columns of the table: attributions and scores of heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import workbench as wb
from tests.families.cell import Cell, Comparison, Stated, workbench_call
from tests.families.subject import Subject, some_of
from tests.oracle.plain_attribution import PlainAttribution, PlainWeights, stream_replaced
from tests.oracle.plain_decoder import NoOracle

ATTRIBUTION = "direct_logit_attribution"


def absent_in(scores: Any) -> dict[str, str]:
    """Scores that the model does not have, with the reasons that the workbench gives."""
    return scores.info.get("absent", {})


def require_present(scores: Any, name: str) -> None:
    """A score is there, or the workbench says why it is not."""
    if reason := absent_in(scores).get(name):
        raise Stated(reason)


def attributions(subject: Subject) -> Cell:
    """Direct logit attribution of every head, of a uniform row, and the sum over heads."""
    comparison, plain, example = Comparison(), subject.plain, 1
    with workbench_call():
        scores = wb.scores_on(subject.model, some_of(subject.inputs, [example]), cache=False)
        own, uniform = scores.samples[ATTRIBUTION][0], np.asarray(scores.uniform[ATTRIBUTION])
    require_present(scores, ATTRIBUTION)
    ids = subject.inputs.clean[example]
    heads, even, total = PlainAttribution(plain).heads(ids, lambda logits: subject.metric(logits, example))
    if abs(float(heads.sum()) - total) > 1e-3 * max(1.0, abs(total)):
        raise NoOracle("what heads add to the logits is no sum")
    comparison.add(own[plain.layers], heads, name="heads")
    comparison.add(own[plain.layers].sum(), total, name="their sum")
    comparison.add(uniform[plain.layers], even, name="chance level")
    return comparison.cell()


def scores(subject: Subject) -> Cell:
    """Scores of patterns, the logit lens, copy score and OV norm."""
    plain, comparison, inputs = subject.plain, Comparison(), subject.inputs
    with workbench_call():
        on_prompts = wb.scores_on(subject.model, inputs, cache=False)
    for example, ids in enumerate(inputs.clean):
        for layer, A in zip(plain.layers, plain.read(ids, "pattern", *plain.layers), strict=True):
            for name, values in _pattern_scores(A.transpose(0, 1)).items():
                comparison.add(on_prompts.samples[name][example][layer], values, name=name)
    with workbench_call():
        own = wb.scores(subject.model, inputs, random_baseline=False, cache=False)
    absent = absent_in(own)
    if "logit_lens" not in absent:
        comparison.add(on_prompts.lens["logit_difference"].to_numpy(), _lens(subject), name="lens")
    if not {"copy_score", "ov_norm"} <= absent.keys():
        weights = PlainWeights(plain)
        for layer in plain.layers:
            copying, size = weights.copying(layer)
            if "copy_score" not in absent:
                comparison.add(own["copy_score"][layer], copying, name="copy_score")
            if "ov_norm" not in absent:
                comparison.add(own["ov_norm"][layer] / size.numpy(), torch.ones(plain.n_heads), name="ov_norm")
    reasons: dict[str, list[str]] = {}
    for name, reason in absent.items():
        reasons.setdefault(reason, []).append(name)
    return comparison.cell(" ".join(f"No {', '.join(names)}: {reason}" for reason, names in reasons.items()))


def _lens(subject: Subject) -> torch.Tensor:
    """The mean logit difference of the stream before each layer and behind the last, read out by the model itself."""
    plain, inputs = subject.plain, subject.inputs
    lens = torch.zeros(plain.n_layers + 1)
    for example, ids in enumerate(inputs.clean):
        streams = plain.read(ids, "resid_pre", *range(plain.n_layers))
        streams += plain.read(ids, "resid_post", plain.n_layers - 1)
        for depth, stream in enumerate(streams):
            with stream_replaced(plain, stream):
                lens[depth] += subject.plain_score(ids, example) / len(inputs)
    return lens


def _pattern_scores(A: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of patterns ``[head, dest, src]``, by their definitions."""
    n = A.shape[-1]
    entropy = -(A * A.clamp(min=1e-30).log()).sum(-1).mean(-1)
    near = torch.stack([A.diagonal(-k, -2, -1).sum(-1) for k in range(5)]).sum(0)
    previous = torch.stack([A[:, q, q - 1] for q in range(1, n)]).mean(0)
    return {"previous_token": previous, "sink": A[:, :, 0].mean(-1), "entropy": entropy, "locality": near / n}
