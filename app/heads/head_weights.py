"""What one head's weights say of it: the size of its circuits, and what it promotes for tokens that it may attend to.

Weights alone, with the norms folded in as in `workbench.head_scores.weights`; cheap enough to be computed when a head
is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.head_scores.weights import HeadWeights
from workbench.vocabulary import Head


@dataclass(frozen=True)
class Circuit:
    """A head's OV or QK circuit, by its singular values.

    Attributes:
        norm: Frobenius norm ``√Σσ²``.
        rank: effective rank ``(Σσ²)² / Σσ⁴``, between 1 and the head's width.
        first: what the largest of them has of ``Σσ²``.
    """

    norm: float
    rank: float
    first: float

    @classmethod
    def of(cls, a: Float[Tensor, "d_model d_head"], b: Float[Tensor, "d_model d_head"]) -> Circuit:
        """That of ``a bᵀ``, from the small product of the R factors of a and b."""
        small = torch.linalg.qr(a, mode="r").R @ torch.linalg.qr(b, mode="r").R.T
        squares = torch.linalg.svdvals(small).double().square()
        total = float(squares.sum())
        return cls(total**0.5, total**2 / float(squares.square().sum()), float(squares[0]) / total)


@dataclass(frozen=True)
class OneHead:
    """One head's weights, ``[d_model, d_head]`` but for O, which is ``[d_head, d_model]``."""

    Q: Float[Tensor, "d_model d_head"]
    K: Float[Tensor, "d_model d_head"]
    V: Float[Tensor, "d_model d_head"]
    O: Float[Tensor, "d_head d_model"]  # noqa: E741 - the field's name for it

    @classmethod
    def of(cls, model: Any, head: Head) -> OneHead:
        """Those of a head of a `HookedLM`."""
        heads = HeadWeights.of(_alone(model, head))
        return cls(heads.Q[0], heads.K[0], heads.V[0], heads.O[0])

    def circuits(self) -> dict[str, Circuit]:
        """``OV`` and ``QK``."""
        return {"OV": Circuit.of(self.V, self.O.T), "QK": Circuit.of(self.Q, self.K)}


@torch.no_grad()
def promoted(model: Any, weights: OneHead, ids: Sequence[int], k: int) -> list[list[str]]:
    """For each token the k tokens that the full OV circuit ``W_E W_V W_O W_U`` promotes most when the head attends to
    it (Elhage et al. 2021), the most promoted first. The denominators of the norms, which are left out, do not change
    the order; positions and what earlier layers add to the token do, and are left out, too."""
    embedded = model.W_E[torch.tensor(list(ids), device=model.device)].float().cpu()
    best = unembedded(model, embedded @ weights.V @ weights.O).topk(k).indices
    return [list(model.to_str_tokens(row)) for row in best]


@torch.no_grad()
def unembedded(model: Any, x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_vocab"]:
    """What is in the residual stream, straight through the final norm (without its denominator) and the unembedding."""
    norm = model.module(model.anatomy.final_norm)
    x = x.to(model.W_U)
    if isinstance(norm, nn.LayerNorm):
        x = x - x.mean(-1, keepdim=True)
    return (x * model.norm_weight(norm) @ model.W_U).float().cpu()


def _alone(model: Any, head: Head) -> Any:
    """One head, as `HeadWeights.of` reads a model: of one layer with one head and one KV head."""
    attn, kv = model.blocks[head.layer].attn, head.index // (model.n_heads // model.n_kv_heads)
    own = SimpleNamespace(
        W_Q=attn.W_Q[[head.index]], W_K=attn.W_K[[kv]], W_V=attn.W_V[[kv]], W_O=attn.W_O[[head.index]]
    )
    same = ("d_head", "anatomy", "norm_weight", "device", "dtype")
    return SimpleNamespace(
        n_layers=1,
        n_heads=1,
        n_kv_heads=1,
        blocks=[SimpleNamespace(attn=own)],
        attentions=[model.attentions[head.layer]],
        layer=lambda _: model.layer(head.layer),
        **{name: getattr(model, name) for name in same},
    )
