"""The Kullback–Leibler divergence of two distributions that are known by the logarithms of their probabilities."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def kl_divergence(log_p: Float[Tensor, "*#row outcome"], log_q: Float[Tensor, "*#row outcome"]) -> Float[Tensor, "..."]:
    """``KL(p ‖ q) = Σ p (log p − log q)`` in nats, of each row (one p may stand for all); where rounding would make it
    negative, 0.

    By the definition an outcome that p excludes (``log p = −∞``) adds nothing, whatever q is, and one that q alone
    excludes makes the divergence +∞. What is not a number stays NaN.

    Source: Cover & Thomas, *Elements of Information Theory* (2006), section 2.3, with its conventions for 0.
    """
    excluded, impossible = log_p.isneginf(), log_q.isneginf()
    difference = log_p.masked_fill(excluded, 0) - log_q.masked_fill(excluded | impossible, 0)
    terms = log_p.exp() * difference
    # a probability that rounds to 0 is not 0, so this is no product
    return terms.masked_fill(impossible & ~excluded, float("inf")).sum(-1).clamp(min=0)
