"""What heads do on one prompt of any kind: the pattern scores, with the places that the prompt's own tokens give.

On random tokens repeated (`workbench.head_scores.patterns`) every token of the second half occurred once before, and 50
positions count in each of 20 sequences. In a prompt a few count, and a key that every position attends to, such as a
full stop, would pass for an induction head's if it happens to stand behind the earlier token. Duplicate-token and
induction scores are therefore what a position gives its matching keys *beyond* what other positions give the same keys:

``mean over q of Σ_{k ∈ M(q)} (A[q, k] − mean over q' of A[q', k])``

- ``M(q)``, the matching keys of q: ``{k < q : id_k = id_q}`` (duplicate token), and ``{k + 1 < q : id_k = id_q}``
  (induction).
- q' are the other positions that see k: q' > k with ``k ∉ M(q')``. A key without any is left out.
- q are the positions with a matching key that is not left out; `counted_positions` says how many these are. With none
  the score is NaN.

A head that gives each key the same weight whoever asks scores 0, one that attends to matching keys alone scores 1; a
head that avoids them is negative. A head that attends uniformly is a little below 0, because earlier rows are shorter.

The other scores are those of `patterns`. Previous token needs no such correction: each key matches one position of the
``n − 1`` that count, so that a key which all attend to adds at most ``1 / (n − 1)`` (decision 21).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.attention.statistics import PatternStatistics, Requested, TokenMatches, pattern_statistics
from workbench.head_scores.patterns import NEAR, PATTERN_SCORES, general_scores
from workbench.models.pattern_formula import PatternFormula

#: Raise it when a formula changes: scores of prompts that are stored are then computed again.
VERSION = 3

Pattern = Float[Tensor, "*batch dest src"]
Matches = Bool[Tensor, "dest src"]
NAMES = tuple(PATTERN_SCORES)


def prompt_scores(A: Pattern, ids: Int[Tensor, "pos"]) -> dict[str, Float[Tensor, "*batch"]]:
    """Every pattern score of patterns on the prompt `ids`."""
    matching = {name: keys.to(A.device) for name, keys in matching_keys(ids).items()}
    return {
        name: _beyond_others(A, matching[name]) if name in matching else score(A, 0)
        for name, score in PATTERN_SCORES.items()
    }


def token_matches(ids: Int[Tensor, "pos"]) -> dict[str, TokenMatches]:
    """The same matching keys as `matching_keys`, without a [dest, src] matrix."""
    return {"duplicate_token": TokenMatches(ids), "induction": TokenMatches(ids, 1)}


def required_statistics(matches: Mapping[str, TokenMatches], pooled: int | None = None) -> Requested:
    """The statistics that `scores_of` needs, and maps of `pooled` positions."""
    return Requested(entropy=True, sources=(0,), offsets=tuple(range(NEAR)), matches=matches, pooled=pooled)


def scores_of(
    statistics: PatternStatistics, matches: Mapping[str, TokenMatches]
) -> dict[str, Float[Tensor, "batch head"]]:
    """Every score of `prompt_scores` from `required_statistics`."""
    return general_scores(statistics) | {name: _matched_beyond_others(statistics, matches, name) for name in matches}


def uniform_statistics(length: int, requested: Requested) -> PatternStatistics:
    """Of a causal head that attends uniformly: all its scores are equal."""
    q = torch.zeros(1, 1, length, 1, dtype=torch.float64)
    return pattern_statistics(q, q, PatternFormula(scale=1, causal=True), requested)


def uniform_prompt_scores(
    ids: Int[Tensor, "pos"], matches: Mapping[str, TokenMatches] | None = None
) -> dict[str, float]:
    """Every score of a causal head that attends uniformly."""
    matches = token_matches(ids) if matches is None else matches
    statistics = uniform_statistics(len(ids), required_statistics(matches))
    return {name: float(score) for name, score in scores_of(statistics, matches).items()}


def counted_positions(ids: Int[Tensor, "pos"], matches: Mapping[str, TokenMatches] | None = None) -> dict[str, int]:
    """Over how many positions (rows of the pattern) each score is a mean."""
    counts = {name: len(ids) for name in NAMES} | {"previous_token": len(ids) - 1}
    return counts | {name: each.n_rows for name, each in (matches or token_matches(ids)).items()}


def earlier(ids: Int[Tensor, "pos"]) -> Matches:
    """Which earlier positions hold the same token."""
    return (ids[:, None] == ids[None, :]).tril(-1)


def matching_keys(ids: Int[Tensor, "pos"]) -> dict[str, Matches]:
    """The matching keys of each position, for the scores that look at tokens."""
    same = earlier(ids)
    following = same.roll(1, -1).tril(-1)
    following[:, 0] = False
    return {"duplicate_token": same, "induction": following}


def _others(matches: Matches) -> Matches:
    """The other positions that see a key: later ones, which it does not match."""
    return torch.ones_like(matches).tril(-1) & ~matches


def _counted(matches: Matches) -> Matches:
    """The matches whose key other positions see, too."""
    return matches & _others(matches).any(0)


def _beyond_others(A: Pattern, matches: Matches) -> Float[Tensor, "*batch"]:
    """The mean, over the rows that have a match that counts, of the attention to these keys less what the same keys get
    from other positions."""
    counted = _counted(matches)
    keys = counted.any(0)
    to_keys, counted, others = A[..., keys], counted[:, keys], _others(matches)[:, keys]
    from_others = (to_keys * others).sum(-2, keepdim=True) / others.sum(0)
    rows = counted.any(-1)
    return ((to_keys - from_others) * counted).sum(-1)[..., rows].mean(-1)


def _matched_beyond_others(
    statistics: PatternStatistics, matches: Mapping[str, TokenMatches], name: str
) -> Float[Tensor, "batch head"]:
    """The same, key by key: the sum over the rows that match a key, less as often the mean of the other rows."""
    each, device = matches[name], statistics.mass.device
    keys = each.counted.to(device)
    to_keys, others = statistics.matched[name][..., keys], statistics.unmatched[name][..., keys]
    n_matches, n_others = (counts.to(device)[keys] for counts in (each.n_matches, each.n_others))
    return (to_keys - n_matches * others / n_others).sum(-1) / each.n_rows
