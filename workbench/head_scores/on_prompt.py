"""What heads do on one prompt of any kind: the pattern scores, with the places that the prompt's own tokens give.

On random tokens repeated (`workbench.head_scores.patterns`) every token of the second half occurred once before. In a
prompt some did and some did not: duplicate-token and induction scores are means over the positions whose token did,
``Σ_{k<q, id_k = id_q} A[q, k]`` and ``Σ_{k<q−1, id_k = id_q} A[q, k + 1]``, and NaN where there is none.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.head_scores.patterns import PATTERN_SCORES, uniform

Pattern = Float[Tensor, "*batch dest src"]
#: Scores that look at no token.
_BY_PLACE = {name: score for name, score in PATTERN_SCORES.items() if name not in ("duplicate_token", "induction")}
NAMES = tuple(PATTERN_SCORES)


def prompt_scores(A: Pattern, ids: Int[Tensor, "pos"]) -> dict[str, Float[Tensor, "*batch"]]:
    """Every pattern score of patterns on the prompt `ids`."""
    same = earlier(ids)
    following = same.roll(1, -1).tril(-1)
    following[:, 0] = False
    scores = {name: score(A, 0) for name, score in _BY_PLACE.items()}
    scores |= {"duplicate_token": _among(A, same), "induction": _among(A, following)}
    return {name: scores[name] for name in NAMES}


def uniform_prompt_scores(ids: Int[Tensor, "pos"]) -> dict[str, float]:
    """The same of a causal head that attends uniformly."""
    return {name: float(score) for name, score in prompt_scores(uniform(len(ids)), ids).items()}


def earlier(ids: Int[Tensor, "pos"]) -> Bool[Tensor, "dest src"]:
    """Which earlier positions hold the same token."""
    return (ids[:, None] == ids[None, :]).tril(-1)


def _among(A: Pattern, places: Bool[Tensor, "dest src"]) -> Float[Tensor, "*batch"]:
    """Mean over the rows that have such places of the attention to them."""
    rows = places.any(-1)
    return (A * places).sum(-1)[..., rows].mean(-1)
