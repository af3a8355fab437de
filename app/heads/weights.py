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


def ov_qk_summary(weights: HeadWeights) -> list[dict[str, dict[str, float]]]:
    """Of each head's ``OV`` and ``QK`` circuits the Frobenius ``norm``, the effective ``rank``, and the share of the
    ``first`` singular value, ``σ₁² / Σσ²``."""
    squares = spectra(weights)
    sizes = {name: values.tolist() for name, values in circuit_sizes(squares).items()}
    first = {name: (values[:, 0] / values.sum(-1)).tolist() for name, values in squares.items()}
    return [
        {
            name.upper(): {"norm": sizes[f"{name}_norm"][i], "rank": sizes[f"{name}_rank"][i], "first": first[name][i]}
            for name in squares
        }
        for i in range(len(weights.O))
    ]


@torch.no_grad()
def promoted_tokens(model: Any, weights: HeadWeights, ids: Sequence[Sequence[int]], k: int) -> list[list[list[str]]]:
    """Of each head, for each of its tokens, the k tokens that the full OV circuit ``W_E W_V W_O W_U`` promotes most
    when the head attends to it (Elhage et al. 2021), the most promoted first.

    The norms' denominators are left out, which does not change the order; so are positions, and what earlier layers
    add to the token.

    Args:
        ids: the tokens, for each head of the weights.
    """
    written = []
    for V, W_O, tokens in zip(weights.V, weights.O, ids, strict=True):
        embedded = at_least_float32(model.W_E[torch.tensor(list(tokens), device=model.device, dtype=torch.long)]).cpu()
        written.append(embedded @ V @ W_O)
    best = to_logits(model, torch.cat(written)).topk(k).indices  # the unembedding is read once
    texts = [list(model.to_str_tokens(row)) for row in best]
    ends = np.cumsum([len(tokens) for tokens in ids])
    return [texts[end - len(tokens) : end] for end, tokens in zip(ends, ids, strict=True)]
