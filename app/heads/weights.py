"""What one head's weights say of it: the size of its circuits, and what it promotes for tokens that it may attend to.

Weights alone, with the norms folded in as in `workbench.head_scores.weights`; cheap enough to be computed when a head
is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.head_scores.weights import HeadWeights, circuit_sizes, spectra


def ov_qk_summary(weights: HeadWeights) -> dict[str, dict[str, float]]:
    """Of one head's ``OV`` and ``QK`` circuits the Frobenius ``norm``, the effective ``rank``, and what the ``first``
    singular value has of ``Σσ²``."""
    summary, singular_values = {}, spectra(weights)
    sizes = circuit_sizes(singular_values)
    for name, squares in singular_values.items():
        first = float(squares[0, 0] / squares[0].sum())
        summary[name.upper()] = {
            "norm": float(sizes[f"{name}_norm"][0]),
            "rank": float(sizes[f"{name}_rank"][0]),
            "first": first,
        }
    return summary


@torch.no_grad()
def promoted_tokens(model: Any, weights: HeadWeights, ids: Sequence[int], k: int) -> list[list[str]]:
    """For each token the k tokens that the full OV circuit ``W_E W_V W_O W_U`` promotes most when the head attends to
    it (Elhage et al. 2021), the most promoted first. The denominators of the norms, which are left out, do not change
    the order; positions and what earlier layers add to the token do, and are left out, too."""
    embedded = model.W_E[torch.tensor(list(ids), device=model.device)].float().cpu()
    best = to_logits(model, embedded @ weights.V[0] @ weights.O[0]).topk(k).indices
    return [list(model.to_str_tokens(row)) for row in best]


@torch.no_grad()
def to_logits(model: Any, x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_vocab"]:
    """What is in the residual stream, straight through the final norm (without its denominator) and the unembedding."""
    norm = model.module(model.anatomy.final_norm)
    x = x.to(model.W_U)
    if isinstance(norm, nn.LayerNorm):
        x = x - x.mean(-1, keepdim=True)
    return (x * model.norm_weight(norm) @ model.W_U).float().cpu()
