"""How many directions a set of keys uses: the participation ratio and the entropy rank of their singular values."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def centred(x: Float[Tensor, "*batch pos size"]) -> Float[Tensor, "*batch pos size"]:
    """Less the mean over positions. A softmax over sources does not see what all keys share:
    ``softmax(q·(k_j + m)) = softmax(q·k_j)``."""
    return x - x.mean(-2, keepdim=True)


def unit(x: Float[Tensor, "*batch pos size"]) -> Float[Tensor, "*batch pos size"]:
    """Rows of length one; a row of zeros stays as it is."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.where(length > 0, 1)


def singular_values(x: Float[Tensor, "*batch pos size"]) -> Float[Tensor, "*batch direction"]:
    """The singular values of each matrix, largest first, of which there are ``min(pos, size)``: the roots of the
    eigenvalues of the smaller Gram matrix. That is much faster than a decomposition of x. Squaring costs
    half of the digits: what is below some 1e-8 of the largest is 0."""
    gram = x @ x.mT if x.shape[-2] < x.shape[-1] else x.mT @ x
    square = torch.linalg.eigvalsh(gram).flip(-1)
    smallest = square[..., :1] * torch.finfo(x.dtype).eps * square.shape[-1]
    return square.where(square > smallest, 0).sqrt()


def participation_ratio(s: Float[Tensor, "*batch direction"]) -> Float[Tensor, "*batch"]:
    """``(Σ s²)² / Σ s⁴`` of singular values s, which is ``(tr G)² / tr G²`` of the Gram matrix: between 1 and the
    number of directions. NaN where all are 0.

    With keys of length one, n pairs are read from the Hebbian memory with a squared error of ``n / PR − 1`` in
    expectation over independent values of length one and mean 0 (`probes.memory.laws.of_gram`).
    """
    square = s.square()
    return square.sum(-1).square() / square.square().sum(-1)


def entropy_rank(s: Float[Tensor, "*batch direction"]) -> Float[Tensor, "*batch"]:
    """``exp(−Σ p log p)`` with ``p = s / Σ s`` of singular values s: the effective rank of Roy and Vetterli
    (EUSIPCO 2007). NaN where all are 0."""
    p = s / s.sum(-1, keepdim=True)
    return torch.exp(torch.special.entr(p).sum(-1))
