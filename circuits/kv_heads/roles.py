"""Roles of key/value heads: what one of the query heads that read it does.

==============  =====================================================================================================
role            a query head that reads it
==============  =====================================================================================================
previous-token  gives more than `ATTENDS` of its attention to the token before, on repeated random tokens
induction       gives more than `ATTENDS` to the token that followed the earlier occurrence, on the same
mover           writes names in IOI, for the answer or against it: it copies names, or their opposite, at `COPIES` of
                their places or more, and the interval of its direct logit attribution excludes 0
==============  =====================================================================================================

A key/value head has the largest score of its query heads, and may have several roles.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from workbench.head_scores.result import HeadScores

from ..ioi.roles import COPIES

#: Of attention.
ATTENDS = 0.3
ROLES = ("previous-token", "induction", "mover")

OfKeyValueHeads = Float[np.ndarray, "layer kv_head"]


def largest(of_heads: Float[np.ndarray, "layer head"], n_kv_heads: int) -> OfKeyValueHeads:
    """The largest value of the query heads of each key/value head, which are next to each other."""
    return of_heads.reshape(len(of_heads), n_kv_heads, -1).max(-1)


def mean(of_heads: Float[np.ndarray, "layer head"], n_kv_heads: int) -> OfKeyValueHeads:
    """Their mean."""
    return of_heads.reshape(len(of_heads), n_kv_heads, -1).mean(-1)


def roles_of(scores: HeadScores, n_kv_heads: int) -> Mapping[str, Bool[np.ndarray, "layer kv_head"]]:
    """Which key/value heads have each of `ROLES`."""
    by_role = {
        "previous-token": scores["previous_token"] > ATTENDS,
        "induction": scores["induction"] > ATTENDS,
        "mover": is_mover(scores),
    }
    return {role: largest(has.astype(float), n_kv_heads) > 0 for role, has in by_role.items()}


def is_mover(scores: HeadScores) -> Bool[np.ndarray, "layer head"]:
    """Which query heads are movers, by the rule above: movers, negative movers and subject suppressors."""
    low, high = scores.interval("direct_logit_attribution")
    writes = np.maximum(scores["ioi_copy"], scores["ioi_copy_negative"]) >= COPIES
    return writes & ((low > 0) | (high < 0))
