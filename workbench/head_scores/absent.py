"""Scores that a model or a head does not have, and why: their values are NaN, and the reason stands with the result."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from workbench.core import Head
from workbench.head_scores import through_modules, weights
from workbench.head_scores.image_patterns import NAMES as IMAGE_SCORES
from workbench.head_scores.on_prompt import counted_positions
from workbench.head_scores.on_task import has_stream
from workbench.head_scores.patterns import PATTERN_SCORES
from workbench.inputs.paired import PairedInputs
from workbench.models.in_forward import without_pattern_scores

COMPOSITIONS = tuple(f"{kind}_composition" for kind in weights.KINDS)
#: Scores of weights alone.
OF_WEIGHTS = ("ov_norm", "ov_rank", "qk_norm", "qk_rank", *COMPOSITIONS)
#: Scores whose value is 0 / 0 where the circuit is zero → the norm of that circuit.
OF_CIRCUITS = {
    **dict.fromkeys(("copy_score", "ov_rank", "v_composition"), "ov_norm"),
    **dict.fromkeys(("qk_rank", "q_composition", "k_composition"), "qk_norm"),
}
#: Scores that look at patterns.
OF_PATTERNS = (*dict.fromkeys((*PATTERN_SCORES, *IMAGE_SCORES)), "similarity")

NO_STREAM = "the layers carry several streams, none of which is the residual stream."
NO_ANSWERS = "there are no answers and wrong answers to compare."
NO_PLACE = "no prompt contains a token of its answers or wrong answers."
NO_EARLIER = "no layer is earlier."
NO_CLS = "the model puts no CLS token before the patches."
NO_REGISTERS = "the model has no registers."
NO_WEIGHT = "no patch gives the patches any weight."
NOT_FINITE = "the model's numbers are not finite here."
NO_UNEMBEDDING = "patches are embedded and classes or a feature read out: no unembedding says what a head copies."
ONE_POSITION = "one position has only itself to attend to."
LIKE_UNIFORM = "the pattern is that of uniform attention, which is subtracted before patterns are compared."
ONE_HEAD = "there is no other head."
NO_REPEAT = "no token occurs twice."
SIDE_BY_SIDE = "a token occurs twice only side by side: what followed the first is the second itself."
NOTHING_BESIDE = "a token occurs twice, but no other position that could be compared can attend to the same keys."


def why_absent(
    model: Any, values: Mapping[str, np.ndarray], lens: np.ndarray, inputs: PairedInputs, ids: Sequence[Tensor] = ()
) -> dict[str, str]:
    """Score → why no head has it, of those that no head has; the logit lens is ``logit_lens``.

    Args:
        inputs: the prompts with answers.
        ids: the prompts of the pattern scores, ``[pos]`` each.
    """
    absent = [name for name, x in values.items() if not np.isfinite(x).any()]
    unanswered = "" if all(inputs.answer) and all(inputs.wrong) else NO_ANSWERS
    of_weights = weights.why_not(model) if any(name in absent for name in (*OF_WEIGHTS, "copy_score")) else ""
    reasons = {}
    for name in absent:
        if name in OF_PATTERNS:
            is_finite = any(np.isfinite(values[other]).any() for other in PATTERN_SCORES)
            reasons[name] = why_no_pattern_score(name, model, ids, is_finite=is_finite)
        elif name == "direct_logit_attribution":
            reasons[name] = unanswered or model.additivity.why_not
        elif name in COMPOSITIONS:
            reasons[name] = of_weights or (NO_EARLIER if model.n_layers == 1 else "")
        elif name in OF_WEIGHTS:
            reasons[name] = of_weights
        elif name == "copy_score":
            reasons[name] = of_weights or weights.why_no_copy_score(model)
        elif name in ("ioi_copy", "ioi_copy_negative"):
            reasons[name] = why_no_read_out(model, inputs)
    reasons = {name: reason or NOT_FINITE for name, reason in reasons.items()}
    if not np.isfinite(lens).any():
        no_stream = "" if has_stream(model) else NO_STREAM
        reasons["logit_lens"] = unanswered or no_stream or NOT_FINITE
    return reasons


def why_no_read_out(model: Any, inputs: PairedInputs) -> str:
    """Why no head has the IOI read-out on prompts with answers."""
    if reason := through_modules.why_no_read_out(model):
        return reason
    if not has_stream(model):
        return NO_STREAM
    named = zip(inputs.clean, inputs.answer, inputs.wrong, strict=True)
    holds = any({*answer, *wrong} & set(ids.tolist()) for ids, answer, wrong in named)
    return "" if holds else NO_PLACE


def why_no_pattern_score(name: str, model: Any, ids: Sequence[Tensor], *, is_finite: bool) -> str:
    """Why no head has a pattern score on some prompts: what the prompts lack, or what the layers do.

    Args:
        ids: of each prompt, ``[pos]``.
        is_finite: whether heads have other pattern scores on these prompts.
    """
    if all(len(prompt) == 1 for prompt in ids) and name in ("previous_token", "similarity"):
        return ONE_POSITION
    if name in ("duplicate_token", "induction") and not any(counted_positions(prompt)[name] for prompt in ids):
        return _why_nothing_repeats(name, ids)
    if name == "similarity" and model.n_layers * model.n_heads == 1:
        return ONE_HEAD
    by_layer = without_pattern_scores(model)
    if len(by_layer) == model.n_layers:
        return "; ".join(dict.fromkeys(by_layer.values())) + "."
    return LIKE_UNIFORM if name == "similarity" and is_finite else NOT_FINITE


def why_no_image_score(name: str, model: Any, values: Mapping[str, np.ndarray]) -> str:
    """Why no head of a vision model has a score.

    Args:
        values: score → ``[layer, head]``, NaN where there is none.
    """
    for score, beginning, reason in (("to_cls", "cls", NO_CLS), ("to_registers", "register", NO_REGISTERS)):
        if name == score and not any(added.startswith(beginning) for added in model.added_positions):
            return reason
    by_layer = without_pattern_scores(model)
    if len(by_layer) == model.n_layers:
        return "; ".join(dict.fromkeys(by_layer.values())) + "."
    is_finite = np.isfinite(values["entropy"]).any()
    if name == "similarity" and model.n_layers * model.n_heads == 1:
        return ONE_HEAD
    return {"similarity": LIKE_UNIFORM, "distance": NO_WEIGHT}.get(name, NOT_FINITE) if is_finite else NOT_FINITE


def why_no_weight_score(name: str, model: Any) -> str:
    """Why no head of a vision model has a score of weights."""
    if name == "copy_score":
        return NO_UNEMBEDDING
    reason = weights.why_not(model)
    return reason or (NO_EARLIER if name in COMPOSITIONS and model.n_layers == 1 else NOT_FINITE)


def _why_nothing_repeats(name: str, ids: Sequence[Tensor]) -> str:
    rows = [prompt.tolist() for prompt in ids]
    if all(len(set(row)) == len(row) for row in rows):
        return NO_REPEAT
    far = any(row[q] in row[: max(0, q - 1)] for row in rows for q in range(len(row)))
    return SIDE_BY_SIDE if name == "induction" and not far else NOTHING_BESIDE


def why_heads_have_none(
    name: str,
    values: Mapping[str, Float[np.ndarray, "layer head"]],
    absent: Mapping[str, str],
    without_patterns: Mapping[str, str],
    heads: Collection[Head] | None = None,
) -> dict[str, list[Head]]:
    """Reason → the heads without a value of a score, in order of layer and head; empty where each has one.

    Args:
        values: score → ``[layer, head]``: the score's own, and the norms of circuits where there are any.
        absent: score → why no head has it.
        without_patterns: layer → why its heads have no pattern scores (`without_pattern_scores`).
        heads: of which heads; None for all.
    """
    reasons: dict[str, list[Head]] = {}
    for layer, index in np.argwhere(~np.isfinite(values[name])).tolist():
        head = Head(layer, index)
        if heads is None or head in heads:
            reason = absent.get(name) or _why_this_head(name, values, without_patterns, head)
            reasons.setdefault(reason, []).append(head)
    return reasons


def _why_this_head(name: str, values: Mapping[str, np.ndarray], without_patterns: Mapping[str, str], head: Head) -> str:
    if name in OF_PATTERNS and str(head.layer) in without_patterns:
        return f"{without_patterns[str(head.layer)]}."
    if name in COMPOSITIONS and head.layer == 0:
        return NO_EARLIER
    norm = OF_CIRCUITS.get(name, "")
    if norm in values and values[norm][head.layer, head.index] == 0:
        return f"its {norm[:2].upper()} circuit is zero."
    return LIKE_UNIFORM if name == "similarity" else NOT_FINITE
