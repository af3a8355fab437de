"""What a head's attention pattern looks like on random tokens repeated: previous token, induction, sink, …

The sequences are ``[BOS] r₁ … r_T r₁ … r_T`` with T different random tokens, and BOS by the tokeniser's default. Each
score is a number of one pattern ``A [dest, src]``; its value for a head that attends uniformly to what it may see is
the same formula applied to ``A[q, k] = 1 / (q + 1)``. `scores_of` has the same numbers from statistics of the pattern,
for which it is not made (`workbench.attention.statistics`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.attention.statistics import PatternStatistics, Requested
from workbench.errors import UsageError

#: Tokens that count as near: the query's own and the four before it.
NEAR = 5
#: Rows without choice: the first few attend to little else than themselves, whatever the head.
WARM_UP = 8
#: Patterns this near the uniform one, relative to its size, differ from it by the rounding of float32.
ROUNDING = 1e-6
#: Ids that random tokens are sampled from, where the vocabulary is that large (as in TransformerLens's demonstrations).
IDS = range(100, 20_000)

Pattern = Float[Tensor, "*batch dest src"]
Score = Float[Tensor, "*batch"]


def previous_token(A: Pattern, period: int) -> Score:
    """Mean of ``A[q, q − 1]`` over q ≥ 1."""
    return A.diagonal(-1, -2, -1).mean(-1)


def duplicate_token(A: Pattern, period: int) -> Score:
    """Mean of ``A[q, q − T]`` over the second half: attention to the same token's earlier place."""
    return A.diagonal(-period, -2, -1)[..., -period:].mean(-1)


def induction(A: Pattern, period: int) -> Score:
    """Mean of ``A[q, q − T + 1]`` over the second half: attention to what followed the same token earlier (the
    prefix-matching score of Olsson et al. 2022)."""
    return A.diagonal(1 - period, -2, -1)[..., -period:].mean(-1)


def sink(A: Pattern, period: int) -> Score:
    """Mean of ``A[q, 0]``: attention to the first position."""
    return A[..., 0].mean(-1)


def entropy(A: Pattern, period: int) -> Score:
    """Mean over q of ``−Σ_k A log A``, in nats."""
    return torch.special.entr(A).sum(-1).mean(-1)


def locality(A: Pattern, period: int) -> Score:
    """Mean over q of the attention to the query's own and the four tokens before it."""
    near = torch.ones_like(A, dtype=torch.bool).tril().triu(1 - NEAR)
    return (A * near).sum(-1).mean(-1)


PATTERN_SCORES: Mapping[str, Callable[[Pattern, int], Score]] = {
    "previous_token": previous_token,
    "duplicate_token": duplicate_token,
    "induction": induction,
    "sink": sink,
    "entropy": entropy,
    "locality": locality,
}


def required_statistics(period: int, pooled: int | None = None) -> Requested:
    """The statistics that `scores_of` needs, and maps of `pooled` positions."""
    return Requested(entropy=True, sources=(0,), offsets=(*range(NEAR), period, period - 1), pooled=pooled)


def scores_of(statistics: PatternStatistics, period: int) -> dict[str, Float[Tensor, "batch head"]]:
    """Every score of `PATTERN_SCORES` from `required_statistics`."""
    at_offsets = statistics.at_offsets
    assert at_offsets is not None
    return general_scores(statistics) | {
        "duplicate_token": at_offsets[:, :, NEAR, -period:].mean(-1),
        "induction": at_offsets[:, :, NEAR + 1, -period:].mean(-1),
    }


def general_scores(statistics: PatternStatistics) -> dict[str, Float[Tensor, "batch head"]]:
    """The scores that look at no token: previous token, sink, entropy and locality. The first source is 0, and the
    first offsets are those of `NEAR` tokens."""
    at_offsets, at_sources, entropies = statistics.at_offsets, statistics.at_sources, statistics.entropy
    assert at_offsets is not None and at_sources is not None and entropies is not None
    return {
        "previous_token": at_offsets[:, :, 1, 1:].mean(-1),
        "sink": at_sources[:, :, 0].mean(-1),
        "entropy": entropies.mean(-1),
        "locality": at_offsets[:, :, :NEAR].sum(-2).mean(-1),
    }


def uniform(length: int) -> Float[Tensor, "dest src"]:
    """A causal head that attends uniformly: ``A[q, k] = 1 / (q + 1)`` for k ≤ q."""
    return torch.ones(length, length, dtype=torch.float64).tril() / torch.arange(1, length + 1)[:, None]


def uniform_scores(length: int, period: int) -> dict[str, float]:
    """Every score of a uniform causal head."""
    return {name: float(score(uniform(length), period)) for name, score in PATTERN_SCORES.items()}


def counted_positions(length: int, period: int) -> dict[str, int]:
    """Over how many rows of a pattern each score is a mean."""
    rows = {"previous_token": length - 1, "duplicate_token": period, "induction": period}
    return {name: rows.get(name, length) for name in PATTERN_SCORES}


def repeated_tokens(model: Any, n: int = 20, period: int = 50, seed: int = 0) -> Int[Tensor, "n pos"]:
    """`n` seeded sequences of `period` different random tokens, each repeated once, behind BOS if the tokeniser puts
    one.

    Raises:
        UsageError: the vocabulary has too few tokens.
    """
    size, tokenizer = int(model.cfg.d_vocab), model.tokenizer
    special = set(getattr(tokenizer, "all_special_ids", ()))
    among = [i for i in (IDS if size > IDS.stop else range(size)) if i not in special]
    if len(among) < period:
        raise UsageError(f"the scores need {period} different random tokens, and the vocabulary has only {len(among)}.")
    draw = random.Random(f"repeated tokens/{seed}")
    start = [] if tokenizer is None else tokenizer("")["input_ids"][:1]
    rows = []
    for _ in range(n):
        once = draw.sample(among, period)
        rows.append([*start, *once, *once])
    return torch.tensor(rows)


def centred(
    A: Pattern, even: Float[Tensor, "dest src"] | None = None, skip: int = WARM_UP
) -> Float[Tensor, "*batch entry"]:
    """A pattern less the uniform one (`even`, where it is at hand), without the first `skip` rows and the first column,
    as a vector of length 1.

    Two unrelated causal patterns are alike in being causal: without the centring their cosine is above one half. NaN of
    a pattern that is uniform, but for rounding: what is left has no direction.
    """
    even = uniform(A.shape[-1]) if even is None else even
    difference = (A - even.to(A))[..., skip:, 1:].flatten(-2)
    directions = torch.nn.functional.normalize(difference, dim=-1)
    rounding = ROUNDING * even[skip:, 1:].norm()
    is_uniform = difference.norm(dim=-1, keepdim=True) <= rounding.to(difference)
    return directions.masked_fill_(is_uniform, torch.nan)
