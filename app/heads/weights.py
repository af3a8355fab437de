"""One head's weights: the size of its circuits, and the tokens that its OV circuit promotes.

Weights alone, with the norms folded in as in `workbench.head_scores.weights`; cheap enough to be computed in a rerun.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from workbench.head_scores.weights import HeadWeights, circuit_sizes, spectra
from workbench.models.logit_effects import to_logits
from workbench.models.precision import at_least_float32


def ov_qk_summary(weights: HeadWeights) -> dict[str, dict[str, float]]:
    """Of one head's ``OV`` and ``QK`` circuits the Frobenius ``norm``, the effective ``rank``, and the share of the
    ``first`` singular value, ``σ₁² / Σσ²``."""
    squares = spectra(weights)
    sizes = circuit_sizes(squares)
    return {
        name.upper(): {
            "norm": float(sizes[f"{name}_norm"][0]),
            "rank": float(sizes[f"{name}_rank"][0]),
            "first": float(values[0, 0] / values[0].sum()),
        }
        for name, values in squares.items()
    }


@torch.no_grad()
def promoted_tokens(model: Any, weights: HeadWeights, ids: Sequence[int], k: int) -> list[list[str]]:
    """For each token the k tokens that the full OV circuit ``W_E W_V W_O W_U`` promotes most when the head attends to
    it (Elhage et al. 2021), the most promoted first.

    The norms' denominators are left out, which does not change the order; so are positions, and what earlier layers
    add to the token.
    """
    embedded = at_least_float32(model.W_E[torch.tensor(list(ids), device=model.device)]).cpu()
    best = to_logits(model, embedded @ weights.V[0] @ weights.O[0]).topk(k).indices
    return [list(model.to_str_tokens(row)) for row in best]
