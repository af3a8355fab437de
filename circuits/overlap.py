"""How much two circuits share, beside what chance and the choice of prompts alone would give.

Three numbers belong together: the Jaccard index of two sets of heads, its layer-matched null (exact), and a bootstrap
interval over prompts. Only sets of heads and arrays of per-example scores come in; no model is run here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from workbench import statistics
from workbench.core import Head
from workbench.errors import UsageError

Pair = tuple[str, str]
Scores = Mapping[str, Float[np.ndarray, "layer head example"]]


@dataclass(frozen=True)
class Null:
    """What layer-matched random heads share.

    Attributes:
        mean: the expected Jaccard index.
        percentile95: the smallest index that at least 95 % of the random draws do not exceed.
        p_value: the chance of an index at least as large as the observed one (one-sided: is it more than chance?).
    """

    mean: float
    percentile95: float
    p_value: float


def jaccard(a: Set[Hashable], b: Set[Hashable]) -> float:
    """Shared heads over heads in either, ``|a & b| / |a | b|``; NaN for two empty sets. Source: Jaccard (1912)."""
    union = len(a | b)
    return len(a & b) / union if union else float("nan")


def overlap_coefficient(a: Set[Hashable], b: Set[Hashable]) -> float:
    """``|a & b| / min(|a|, |b|)``; NaN when either is empty. Source: Szymkiewicz (1934), Simpson (1943)."""
    smaller = min(len(a), len(b))
    return len(a & b) / smaller if smaller else float("nan")


def union_of_stages(stages: Mapping[str, Iterable[Head]], only: Iterable[str] | None = None) -> frozenset[Head]:
    """The heads of all stages, or of those named in `only`."""
    names = set(stages if only is None else only)
    return frozenset(head for stage, heads in stages.items() if stage in names for head in heads)


def common_stages(a: Mapping[str, object], b: Mapping[str, object]) -> tuple[str, ...]:
    """The stages that both tasks have, in the first one's order: an overlap uses these and no others."""
    return tuple(stage for stage in a if stage in b)


def top_heads(scores: Float[np.ndarray, "layer head example"], percent: float) -> tuple[Head, ...]:
    """The top `percent` % of one stage by |mean over examples|, strongest first; heads with NaN are never chosen."""
    mask, means = _top(scores[..., None, :].mean(axis=-1), percent)[..., 0], np.abs(scores.mean(axis=-1))
    chosen = [Head(int(layer), int(index)) for layer, index in np.argwhere(mask)]
    return tuple(sorted(chosen, key=lambda h: -means[h.layer, h.index]))


def layer_matched_null(a: Set[Head], b: Set[Head], n_heads: int) -> Null:
    """Exact null of ``jaccard(a, b)`` when the heads of each circuit are drawn anew within their layers.

    Each circuit keeps its number of heads in every layer. In a layer with H heads, of which the circuits hold a and b,
    the shared ones then follow the hypergeometric law (H, a, b); layers are independent, so the number shared in all is
    the convolution over layers, and the index grows with it because both sizes stay. This is the permutation test
    with every permutation counted: no draws and no seed.

    Raises:
        UsageError: a head's index is not below `n_heads`.
    """
    from scipy.stats import hypergeom

    for head in a | b:
        if head.index >= n_heads:
            raise UsageError(f"Head {head} does not exist in layers of {n_heads} heads.")
    law = np.ones(1)
    for layer in sorted({head.layer for head in a} & {head.layer for head in b}):
        in_a, in_b = (sum(head.layer == layer for head in side) for side in (a, b))
        law = np.convolve(law, hypergeom.pmf(np.arange(min(in_a, in_b) + 1), n_heads, in_a, in_b))
    if not a | b:
        return Null(*[float("nan")] * 3)
    shared = np.arange(len(law))
    index = shared / (len(a) + len(b) - shared)
    below = int(np.searchsorted(np.cumsum(law), 0.95 - 1e-12))
    p_value = min(1.0, float(law[len(a & b) :].sum()))
    return Null(float(law @ index), float(index[below]), p_value)


def stage_masks(
    scores: Scores, percent: float, resamples: int = statistics.RESAMPLES, seed: int = 0
) -> dict[str, Bool[np.ndarray, "layer head resample"]]:
    """The top `percent` % of every stage under resampled prompts: ``True`` where a head is chosen.

    All stages of a task see the same resampled prompts. Receivers are those of the full sample (the scores are given),
    so whatever follows is conditional on them.

    Raises:
        UsageError: stages with different numbers of examples.
    """
    sizes = {stage: array.shape[-1] for stage, array in scores.items()}
    if len(set(sizes.values())) > 1:
        raise UsageError(f"All stages of a task must hold the same examples, got {sizes}.")
    return {stage: _top(statistics.bootstrap_means(array, resamples, seed), percent) for stage, array in scores.items()}


def bootstrap_jaccard(
    scores: Mapping[str, Scores],
    percent: float,
    pairs: Iterable[Pair] | None = None,
    resamples: int = statistics.RESAMPLES,
    seed: int = 0,
) -> dict[Pair, Float[np.ndarray, " resample"]]:
    """Jaccard indices of pairs of tasks (all pairs by default) under resampled prompts, over their common stages.

    ``scores[task][stage]`` holds ``[layer, head, example]``, the change of the metric of each example. The prompts of
    each task are resampled on their own; heads are ranked anew by |mean| (dividing by the task's mean gap would rank
    them alike) and the union of the stages' top `percent` % is compared. Resample r of a task is the same in all of its
    pairs, so the mean of several pairs' arrays is a resample of the mean overlap.

    A resampled index tends to lie below the observed one, because resampling adds noise to sets that are noisy already:
    read its interval as the stability of the circuits found, with n beside it. Tasks of one example, and pairs without
    a common stage, give NaN.
    """
    pairs = list(combinations(scores, 2)) if pairs is None else list(pairs)
    tasks = sorted({task for pair in pairs for task in pair})
    masks = {task: stage_masks(scores[task], percent, resamples, _seed_of(seed, task)) for task in tasks}
    return {(a, b): _mask_jaccard(masks[a], masks[b], _can_resample(scores, a, b), resamples) for a, b in pairs}


def consistency(scores: Scores, percent: float, resamples: int, seed: int = 0) -> float:
    """Mean Jaccard index of the circuits of all pairs of resamples of one task's prompts, over all its stages.

    Conditional on the receivers: the scores are those of the full sample's. NaN for one example, or no stage.
    """
    if resamples < 2 or not scores or min(array.shape[-1] for array in scores.values()) < 2:
        return float("nan")
    masks = stage_masks(scores, percent, resamples, seed)
    chosen = _chosen(masks, masks).reshape(-1, resamples).T.astype(float)  # [resample, head]
    shared, sizes = chosen @ chosen.T, chosen.sum(1)
    index = shared / (sizes[:, None] + sizes - shared)
    return float(index[np.triu_indices(resamples, 1)].mean())


def overlap_rows(
    scores: Mapping[str, Scores],
    percent: float,
    pairs: Iterable[Pair] | None = None,
    resamples: int = statistics.RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The overlap table: a row for each pair of tasks, over their common stages; `scores` as in `bootstrap_jaccard`.

    Columns: ``task_a``, ``task_b``, ``shared``, ``union``, ``jaccard``; ``null``, ``null_95``, ``p_value`` of
    `layer_matched_null`; ``low``, ``high`` of the bootstrap; ``overlap_coefficient``, ``size_a``, ``size_b``, ``n_a``,
    ``n_b``, ``stages``.
    """
    resampled = bootstrap_jaccard(scores, percent, pairs, resamples, seed)
    heads = {t: {s: top_heads(array, percent) for s, array in stages.items()} for t, stages in scores.items()}
    rows = []
    for (a, b), indices in resampled.items():
        stages = common_stages(scores[a], scores[b])
        one, two = union_of_stages(heads[a], stages), union_of_stages(heads[b], stages)
        n_a, n_b = (max((array.shape[-1] for array in scores[t].values()), default=0) for t in (a, b))
        null = layer_matched_null(one, two, max((array.shape[1] for array in scores[a].values()), default=0))
        low, high = interval(indices)
        rows.append(
            {
                "task_a": a,
                "task_b": b,
                "shared": len(one & two),
                "union": len(one | two),
                "jaccard": jaccard(one, two),
                "null": null.mean,
                "null_95": null.percentile95,
                "p_value": null.p_value,
                "low": low,
                "high": high,
                "overlap_coefficient": overlap_coefficient(one, two),
                "size_a": len(one),
                "size_b": len(two),
                "n_a": n_a,
                "n_b": n_b,
                "stages": ", ".join(stages),
            }
        )
    return rows


def interval(
    resampled: Float[np.ndarray, " resample"], confidence: float = statistics.CONFIDENCE
) -> statistics.Interval:
    """Percentile interval (two-sided) of resampled indices; NaN where there are none."""
    if not np.isfinite(resampled).all():
        return statistics.Interval(float("nan"), float("nan"))
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return statistics.Interval(float(low), float(high))


def group_mean(
    resampled: Mapping[Pair, Float[np.ndarray, " resample"]], pairs: Sequence[Pair]
) -> Float[np.ndarray, " resample"]:
    """Mean overlap of a group of pairs in each resample (near pairs, distant pairs); NaN for no pairs."""
    return np.mean([resampled[pair] for pair in pairs], axis=0) if pairs else np.full(1, np.nan)


def _top(means: Float[np.ndarray, "layer head resample"], percent: float) -> Bool[np.ndarray, "layer head resample"]:
    """Mask of the ``max(1, round(percent · L · H))`` largest |means| in each resample; ties go to earlier heads."""
    size = np.ascontiguousarray(np.abs(means.reshape(-1, means.shape[-1])).T)
    count = statistics.top_count(percent, size.shape[1])
    order = np.argsort(np.where(np.isfinite(size), -size, np.inf), axis=1, kind="stable")[:, :count]
    mask = np.zeros(size.shape, dtype=bool)
    np.put_along_axis(mask, order, True, axis=1)
    return (mask & np.isfinite(size)).T.reshape(means.shape)


def _mask_jaccard(
    a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], usable: bool, resamples: int
) -> Float[np.ndarray, " resample"]:
    stages = common_stages(a, b)
    if not stages or not usable:
        return np.full(resamples, np.nan)
    one, two = _chosen(a, stages), _chosen(b, stages)
    return (one & two).sum(axis=(0, 1)) / (one | two).sum(axis=(0, 1))


def _chosen(masks: Mapping[str, np.ndarray], stages: Iterable[str]) -> Bool[np.ndarray, "layer head resample"]:
    """The heads of the union of some stages."""
    return np.logical_or.reduce([masks[stage] for stage in stages])


def _can_resample(scores: Mapping[str, Scores], *tasks: str) -> bool:
    return all(array.shape[-1] > 1 for task in tasks for array in scores[task].values())


def _seed_of(seed: int, task: str) -> int:
    """A seed of the task's own, whatever other tasks there are: tasks are resampled independently."""
    return int(np.random.SeedSequence([seed, *task.encode()]).generate_state(1)[0])
