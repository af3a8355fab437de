"""One head's weights: the size of its circuits, and the tokens that its OV circuit promotes.

Weights alone, with the norms folded in as in `workbench.head_scores.weights`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
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
def promoted_tokens(
    model: Any, weights: Sequence[HeadWeights], ids: Sequence[Sequence[int]], k: int
) -> list[list[list[str]]]:
    """Of each head, for each of its tokens, the k tokens that the full OV circuit ``W_E W_V W_O W_U`` promotes most
    when the head attends to it (Elhage et al. 2021), the most promoted first.

    The norms' denominators are left out, which does not change the order; so are positions, and what earlier layers
    add to the token.

    Args:
        weights: of one head each.
        ids: the tokens, for each head.
    """
    written = []
    for head, tokens in zip(weights, ids, strict=True):
        embedded = at_least_float32(model.W_E[torch.tensor(list(tokens), device=model.device)]).cpu()
        written.append(embedded @ head.V[0] @ head.O[0])
    best = to_logits(model, torch.cat(written)).topk(k).indices  # the unembedding is read once
    texts = [list(model.to_str_tokens(row)) for row in best]
    ends = np.cumsum([len(tokens) for tokens in ids])
    return [texts[end - len(tokens) : end] for end, tokens in zip(ends, ids, strict=True)]
