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

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.head_scores.patterns import PATTERN_SCORES, uniform

#: Raise it when a formula changes: scores of prompts that are stored are then computed again.
VERSION = 2

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


def uniform_prompt_scores(ids: Int[Tensor, "pos"]) -> dict[str, float]:
    """The same of a causal head that attends uniformly."""
    return {name: float(score) for name, score in prompt_scores(uniform(len(ids)), ids).items()}


def counted_positions(ids: Int[Tensor, "pos"]) -> dict[str, int]:
    """Over how many positions (rows of the pattern) each score is a mean."""
    counts = {name: len(ids) for name in NAMES} | {"previous_token": len(ids) - 1}
    return counts | {name: int(_counted(keys).any(-1).sum()) for name, keys in matching_keys(ids).items()}


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
