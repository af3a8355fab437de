"""`scores`: every head of a model in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench import arguments, statistics
from workbench.attention.statistics import PatternStatistics
from workbench.cache import Store, store_of
from workbench.cache.keys import digest, hash_inputs
from workbench.cache.result_cache import ResultCache
from workbench.head_scores import of_weights, patterns, weights
from workbench.head_scores.absent import why_absent
from workbench.head_scores.of_weights import as_arrays, largest, weight_arrays, weight_values
from workbench.head_scores.on_images import scores_on_images
from workbench.head_scores.on_task import TaskScores, answer_places, task_scores
from workbench.head_scores.random_weights import random_model
from workbench.head_scores.result import SCORES, HeadScores
from workbench.inputs.paired import PairedInputs
from workbench.models.hooked import HookedModel
from workbench.models.in_forward import of_each_layer, without_pattern_scores
from workbench.models.language import HookedLM
from workbench.patching.batches import BATCH_SIZE
from workbench.patching.progress import Progress
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import model_identity, resolve_inputs, resolve_model, result_info

#: Raise it when a formula changes: cached scores are then computed again.
VERSION = 5
#: Random tokens, repeated once, and how many such sequences.
PERIOD, SEQUENCES = 50, 20

#: Prompts of the random model's read-out: its heads copy by chance, five tokens of the vocabulary in each.
RANDOM_READ_OUT = 5

#: Columns of the logit lens.
LENS = (
    *("depth", "before", "logit_difference", "logit_difference_low", "logit_difference_high"),
    *("answer_above_wrong", "answer_above_wrong_low", "answer_above_wrong_high"),
)

Arrays = dict[str, np.ndarray]


def scores(
    model: Any,
    task: Any = None,
    *,
    seed: int = 0,
    random_baseline: bool = True,
    cache: Any = None,
    progress: Progress | None = None,
) -> HeadScores:
    """Score every head: its pattern on random tokens repeated, its weights, and what it does on a task.

    Each score stands beside its chance level: that of a head which attends uniformly, and that of the heads of a model
    of the same configuration with random weights. The formulas are in `workbench.head_scores.patterns`, ``weights`` and
    ``on_task``.

    Args:
        model: a `HookedLM` or a `HookedViT`.
        task: for direct logit attribution, the IOI read-out and the logit lens; IOI with 25 prompts by default. Of a
            vision model, the images: its scores are of their patterns (`scores_on`), and of weights.
        seed: of the random tokens and the random weights.
        random_baseline: whether to score the random model too (about half of the time).
        cache: None for the user's own cache, False for none, or a folder.
        progress: called with (steps done, total, what).

    Scores that this model does not have are NaN, and ``info["absent"]`` says why.

    Raises:
        UsageError: `model` is neither a language nor a vision model, the task has no answers, or there are no images.

    Examples:
        >>> model = wb.load("tiny")
        >>> scores = wb.scores(model, wb.task("ioi", n=6), random_baseline=False)
        >>> scores["induction"].shape, str(scores.top("induction", 1)[0][0])
        ((2, 8), '1.0')
    """
    if getattr(model, "modality", "") == "vision" and isinstance(model, HookedModel):
        seed = arguments.whole_number("seed", seed, at_least=0, at_most=2**63 - 1)
        of_random = seed if arguments.flag("random_baseline", random_baseline) else None
        return scores_on_images(model, task, "task", seed=of_random, with_weights=True, cache=cache, progress=progress)
    if task is None:
        from workbench.inputs.pairs import task as make_task

        task = make_task("ioi", n=25, seed=0)
    seed = arguments.whole_number("seed", seed, at_least=0, at_most=2**63 - 1)
    random_baseline = arguments.flag("random_baseline", random_baseline)
    arguments.function("progress", progress)
    inputs, store = inputs_with_answers(task, model), store_of(cache)
    tell = progress or (lambda *_: None)
    trained = _ScoreParts(lambda: model, store, model_identity(resolve_model(model), store), seed)
    steps: list[Callable[[], Arrays]] = [trained.patterns, trained.weights, lambda: trained.task(inputs)]
    if random_baseline:
        identity = None if trained.identity is None else digest(trained.identity, "random", seed)
        untrained = _ScoreParts(lambda: random_model(model, seed), store, identity, seed, is_random=True)
        steps += [untrained.patterns, untrained.weights, lambda: untrained.task(inputs)]
    parts: list[Arrays] = []
    tell(0, len(steps), "scores")
    for done, step in enumerate(steps, 1):
        parts.append(step())
        tell(done, len(steps), "scores")
    values, random = _values(*parts[:3]), _values(*parts[3:]) if random_baseline else {}
    length = int(parts[0]["length"])
    shape = (model.n_layers, model.n_heads)
    return HeadScores(
        values={name: x.reshape(shape) for name, x in values.items()},
        samples={
            **{name: parts[0][name] for name in patterns.PATTERN_SCORES},
            "direct_logit_attribution": parts[2]["attribution"],
        },
        uniform={
            **patterns.uniform_scores(length, PERIOD),
            "direct_logit_attribution": parts[2]["attribution_uniform"].mean(0),
        },
        random={name: x.reshape(shape) for name, x in random.items()},
        pairs={"similarity": parts[0]["similarity"], **{f"{k}_composition": parts[1][k] for k in weights.KINDS}},
        lens=lens_table(parts[2]),
        info=result_info(model, inputs)
        | {
            "sequences": SEQUENCES,
            "period": PERIOD,
            "positions": _counted_positions(inputs, length),
            "random_seed": seed,
            "unrelated_composition": weights.unrelated(model.d_model),
            "read_out_chance": 5 / model.cfg.d_vocab,
            **({"without_pattern_scores": reasons} if (reasons := without_pattern_scores(model)) else {}),
            "absent": why_absent(model, values, parts[2]["lens"], inputs, [torch.arange(PERIOD).repeat(2)]),
        },
    )


def _counted_positions(inputs: PairedInputs, length: int) -> dict[str, int]:
    """Over how many positions each score is taken: of sequences of that length, and of a task's prompts."""
    rows = patterns.counted_positions(length, PERIOD) | {"similarity": length - patterns.WARM_UP}
    places = sum(len(answer_places(inputs, i)) for i in range(len(inputs)))
    return {
        **{name: SEQUENCES * count for name, count in rows.items()},
        **dict.fromkeys(("ioi_copy", "ioi_copy_negative"), places),
        "direct_logit_attribution": len(inputs),
    }


def inputs_with_answers(prompts: Any, model: Any, argument: str = "task") -> PairedInputs:
    """Prompts with answers in a language model's tokens.

    Raises:
        UsageError: it is no language model, or they have none.
    """
    inputs = language_inputs(prompts, model, argument)
    if not all(inputs.answer):
        do = "Use wb.task(name) or wb.pairs(...)."
        raise arguments.refusal(argument, prompts, "a task with answers, because scores compare them", do)
    return inputs


def language_inputs(prompts: Any, model: Any, argument: str) -> PairedInputs:
    """Prompts in a language model's tokens.

    Raises:
        UsageError: it is no language model.
    """
    if not isinstance(model, HookedModel):
        raise arguments.refusal("model", model, "a language model", "Use wb.load(name).")
    if model.modality != "language":
        own = [name for name, kind in SCORES.items() if model.modality in kind.modalities]
        why = f"scores are defined on tokens and on images, and this is a model of {model.modality} inputs"
        do = "Use wb.scores_on(model, images)." if own else ""
        raise arguments.refusal("model", model, "a language model or a vision model", do, because=why)
    return resolve_inputs(prompts, model, argument)


class _ScoreParts:
    """The three computations behind the scores of one model, each cached under the model's hash."""

    def __init__(
        self,
        make_model: Callable[[], HookedLM],
        store: Store | None,
        identity: bytes | None,
        seed: int,
        *,
        is_random: bool = False,
    ) -> None:
        self._make_model, self.is_random = make_model, is_random
        self.store, self.identity, self.seed = store, identity, seed

    @cached_property
    def model(self) -> HookedLM:
        """The model, made only where something of it is not in the cache."""
        return self._make_model()

    def patterns(self) -> Arrays:
        """Scores of each sequence ``[sequence, layer, head]``, similarity ``[head, head]``, the sequences' length."""
        names = (*patterns.PATTERN_SCORES, "similarity", "length")
        return self._cached("patterns", names, (PERIOD, SEQUENCES, self.seed), self._patterns)

    def weights(self) -> Arrays:
        """Scores of weights alone."""
        return self._cached("weights", of_weights.NAMES, (), lambda: weight_arrays(self.model))

    def task(self, inputs: PairedInputs) -> Arrays:
        """Scores on a task, see `TaskScores`."""
        names = tuple(f.name for f in fields(TaskScores))
        return self._cached("task", names, (hash_inputs(inputs),), lambda: self._task(inputs))

    @torch.no_grad()
    def _patterns(self) -> Arrays:
        model = self.model
        ids = patterns.repeated_tokens(model, SEQUENCES, PERIOD, self.seed)
        n_heads = model.n_layers * model.n_heads
        # Maps of at least as many positions are the patterns themselves, which similarity compares.
        requested = patterns.required_statistics(PERIOD, pooled=ids.shape[1])
        scores: dict[str, list[Tensor]] = {name: [] for name in patterns.PATTERN_SCORES}
        gram = torch.zeros(n_heads, n_heads, dtype=torch.promote_types(model.dtype, torch.float32))
        for batch in ids.split(BATCH_SIZE):
            by_layer = of_each_layer(model, batch, requested, _of_statistics, _of_patterns)
            for name in patterns.PATTERN_SCORES:
                scores[name].append(torch.stack([layer[name] for layer, _ in by_layer], 1))
            for sequence in range(len(batch)):
                flat = patterns.centred(torch.cat([maps[sequence] for _, maps in by_layer]))
                gram += (flat @ flat.T).cpu()
        similarity = (gram / len(ids)).fill_diagonal_(torch.nan)
        values = {name: torch.cat(rows) for name, rows in scores.items()}
        return as_arrays({**values, "similarity": similarity, "length": torch.tensor(ids.shape[1])})

    def _task(self, inputs: PairedInputs) -> Arrays:
        # Nothing else uses the random model's runs: they are not cached.
        store = None if self.is_random else self.store
        recorder = Recorder(resolve_model(self.model), store, self.identity if store is not None else None)
        reading_out = RANDOM_READ_OUT if self.is_random else None
        return asdict(task_scores(self.model, recorder, inputs, reading_out=reading_out))

    def _cached(
        self, what: str, names: tuple[str, ...], arguments: tuple[Any, ...], compute: Callable[[], Arrays]
    ) -> Arrays:
        return ResultCache(self.store, self.identity, "head scores", VERSION, what, *arguments).arrays(names, compute)


def _of_statistics(statistics: PatternStatistics) -> tuple[dict[str, Tensor], Tensor]:
    """One layer's scores, and its patterns as maps that are not pooled."""
    assert statistics.pooled is not None
    return patterns.scores_of(statistics, PERIOD), statistics.pooled


def _of_patterns(A: Float[Tensor, "sequence head dest src"]) -> tuple[dict[str, Tensor], Tensor]:
    return {name: score(A, PERIOD) for name, score in patterns.PATTERN_SCORES.items()}, A


def _values(of_patterns: Arrays, weight_scores: Arrays, of_task: Arrays) -> Arrays:
    """One number a head."""
    values = {name: of_patterns[name].mean(0) for name in patterns.PATTERN_SCORES}
    values["similarity"] = largest(of_patterns["similarity"])
    from_weights = weight_values(weight_scores)
    values["copy_score"] = from_weights.pop("copy_score")
    values["ioi_copy"], values["ioi_copy_negative"] = of_task["read_out"], of_task["read_out_negative"]
    values["direct_logit_attribution"] = of_task["attribution"].mean(0)
    return values | from_weights


def lens_table(of_task: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The logit lens of `TaskScores`, a row a depth, with intervals."""
    values, right = of_task["lens"], of_task["lens_right"]
    if not np.isfinite(values).any():
        return pd.DataFrame(columns=LENS)
    interval, n = statistics.mean_interval(values.T), len(values)
    rows = []
    for depth in range(values.shape[1]):
        share = statistics.proportion_interval(int(right[:, depth].sum()), n)
        rows.append(
            {
                "depth": depth,
                "before": f"layer {depth}" if depth < values.shape[1] - 1 else "unembedding",
                "logit_difference": values[:, depth].mean(),
                "logit_difference_low": interval.low[depth],
                "logit_difference_high": interval.high[depth],
                "answer_above_wrong": right[:, depth].mean(),
                "answer_above_wrong_low": share.low,
                "answer_above_wrong_high": share.high,
            }
        )
    return pd.DataFrame(rows)
