"""`scores_on`: every head on prompts of a task, where `workbench.scores` looks at patterns on random tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from workbench import arguments
from workbench.attention.statistics import TokenMatches
from workbench.cache import store_of
from workbench.cache.result_cache import ResultCache
from workbench.head_scores.absent import why_absent
from workbench.head_scores.compute import inputs_with_answers, language_inputs, lens_table
from workbench.head_scores.on_images import scores_on_images
from workbench.head_scores.on_prompt import (
    NAMES,
    VERSION,
    counted_positions,
    prompt_scores,
    required_statistics,
    scores_of,
    token_matches,
    uniform_prompt_scores,
)
from workbench.head_scores.on_task import TaskScores, task_scores
from workbench.head_scores.result import HeadScores
from workbench.models.hooked import HookedModel
from workbench.models.in_forward import of_each_layer, without_pattern_scores
from workbench.patching.progress import Progress
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import model_identity, resolve_model, result_info

ATTRIBUTION = "direct_logit_attribution"


@torch.no_grad()
def scores_on(model: Any, prompts: Any, *, cache: Any = None, progress: Progress | None = None) -> HeadScores:
    """Score every head's pattern on a text, on several, or on the clean prompts of a task or of pairs; with answers
    also its direct logit attribution.

    On images: entropy, mean distance in patches, and what is given to CLS, to registers and to the position itself
    (`workbench.head_scores.image_patterns`), and how alike two heads are.

    The formulas are in `workbench.head_scores.on_prompt` and ``on_task``. A value is the mean over the prompts, with an
    interval over them where there are two or more. Duplicate-token and induction scores are less what the same keys get
    from other positions, so that a key which everyone attends to does not count; they are of those prompts in which a
    token occurs twice, and NaN where there is none: `HeadScores.absent` has the reasons. `HeadScores.positions`, and
    columns of `HeadScores.table`, `HeadScores.ranking` and `HeadScores.chance`, say over how many positions of all
    prompts a score is taken. The chance level is that of a head which attends uniformly.

    Args:
        model: a `HookedLM` or a `HookedViT`.
        prompts: a text or a list of texts, or what `workbench.sweep` takes; of a vision model, images.
        cache: None for the user's own cache, False for none, or a folder.
        progress: called with (prompts done, total, what).

    Raises:
        UsageError: `model` is neither a language nor a vision model, or some prompts have answers and others none.

    Examples:
        >>> model = wb.load("tiny")
        >>> wb.scores_on(model, "Mary and John and Mary and John and").positions["induction"]
        4
        >>> scores = wb.scores_on(model, wb.task("ioi", n=6))
        >>> scores["previous_token"].shape  # [layer, head]
        (2, 8)
    """
    if getattr(model, "modality", "") == "vision" and isinstance(model, HookedModel):
        return scores_on_images(model, prompts, "prompts", cache=cache, progress=progress)
    inputs = language_inputs(prompts, model, "prompts")
    if any(inputs.answer):
        inputs = inputs_with_answers(inputs, model, "prompts")
    store, resumable = store_of(cache), resolve_model(model)
    arguments.function("progress", progress)
    identity, tell = model_identity(resumable, store), progress or (lambda *_: None)
    recorder = Recorder(resumable, store, identity)
    samples: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    levels: dict[str, list[float]] = {name: [] for name in NAMES}
    positions = dict.fromkeys(NAMES, 0)
    for i, ids in enumerate(inputs.clean):
        tell(i, len(inputs), "scores on prompts")
        matches = token_matches(ids)
        level, cached = uniform_prompt_scores(ids, matches), ResultCache(store, identity, "prompt scores", VERSION, ids)
        values = cached.arrays(NAMES, lambda ids=ids, matches=matches: _scores_of_prompt(model, ids, matches))
        for name, count in counted_positions(ids, matches).items():
            positions[name] += count
            if np.isfinite(level[name]):
                samples[name].append(values[name])
                levels[name].append(level[name])
    arrays = {name: np.stack(rows) for name, rows in samples.items() if rows}
    uniform: dict[str, Any] = {name: float(np.mean(values)) for name, values in levels.items() if values}
    of_task: dict[str, np.ndarray] = {field.name: np.empty((0, 0)) for field in fields(TaskScores)}
    if all(inputs.answer):
        of_task = asdict(task_scores(model, recorder, inputs, reading_out=0))
        arrays[ATTRIBUTION] = of_task["attribution"]
        uniform[ATTRIBUTION] = of_task["attribution_uniform"].mean(0)
        positions[ATTRIBUTION] = len(inputs)
    tell(len(inputs), len(inputs), "scores on prompts")
    nowhere = np.full((model.n_layers, model.n_heads), np.nan)
    values = {name: arrays[name].mean(0) if name in arrays else nowhere for name in (*NAMES, ATTRIBUTION)}
    return HeadScores(
        values=values,
        samples=arrays,
        uniform=uniform,
        random={},
        pairs={},
        lens=lens_table(of_task),
        info=result_info(model, inputs)
        | {
            "positions": positions,
            **({"without_pattern_scores": reasons} if (reasons := without_pattern_scores(model)) else {}),
            "absent": why_absent(model, values, of_task["lens"], inputs, inputs.clean),
        },
    )


def _scores_of_prompt(
    model: Any, ids: Int[Tensor, "pos"], matches: Mapping[str, TokenMatches]
) -> dict[str, np.ndarray]:
    """Every pattern score of one prompt, ``[layer, head]``."""
    by_layer = of_each_layer(
        model,
        ids[None],
        required_statistics(matches),
        lambda statistics: {name: x[0] for name, x in scores_of(statistics, matches).items()},
        lambda A: prompt_scores(A[0], ids),
    )
    return {name: torch.stack([layer[name] for layer in by_layer]).double().cpu().numpy() for name in NAMES}
