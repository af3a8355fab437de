"""From rotated q and k back to the attention pattern: what a layer does between them, as plain data.

A pattern grows with the square of the length and q and k do not, so the cache stores those and this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.models.attention_edits import AttentionInputs
from workbench.models.explicit_attention import is_causal
from workbench.models.reference_attention import HIDDEN, grouped_product, masked_scores, softmax, visible


@dataclass(frozen=True)
class PatternFormula:
    """``pattern = softmax(cap · tanh(scale · q kᵀ / cap) + mask)`` of one layer at one length, a sink beside each row.

    `window` counts the positions that a destination sees, itself included; None for all earlier ones.
    """

    scale: float
    causal: bool
    window: int | None = None
    softcap: float | None = None
    sinks: tuple[float, ...] | None = None

    def pattern(
        self, q: Float[Tensor, "pos head d_head"], k: Float[Tensor, "pos kv_head d_head"]
    ) -> Float[Tensor, "head pos pos"]:
        """The pattern of one prompt, in the arithmetic of Hugging Face's eager attention."""
        query, keys, length = q.transpose(0, 1)[None], k.transpose(0, 1)[None], len(q)
        mask = visible(length, length, self.causal, self.window, q.device)
        scores = masked_scores(grouped_product(query * self.scale, keys.mT), mask, self.softcap)
        sinks = None if self.sinks is None else torch.tensor(self.sinks, device=q.device)
        return softmax(scores, sinks, q.dtype)[0]

    def plain(self) -> dict[str, Any]:
        """The formula as a JSON-able mapping."""
        return asdict(self)

    @classmethod
    def from_plain(cls, formula: Mapping[str, Any]) -> PatternFormula:
        """The inverse of `plain`."""
        sinks = formula.get("sinks")
        return cls(**{**formula, "sinks": None if sinks is None else tuple(sinks)})


def formula_of(module: nn.Module, inputs: AttentionInputs) -> PatternFormula | None:
    """The formula of a layer as it last ran, on unpadded inputs; None where its pattern needs more than q and k."""
    arguments, length = inputs.arguments, inputs.keys.shape[2]
    if arguments.get("position_bias") is not None:
        return None
    window, causal = arguments.get("sliding_window"), is_causal(module, arguments)
    if inputs.mask is not None:
        width = _causal_window(inputs.mask[..., -length:])
        if width is None:
            return None
        causal, window = True, None if width == length else width
    sinks, scale = arguments.get("s_aux"), arguments.get("scaling")
    return PatternFormula(
        scale=float(inputs.keys.shape[-1] ** -0.5 if scale is None else scale),
        causal=causal,
        window=window,
        softcap=arguments.get("softcap"),
        sinks=None if sinks is None else tuple(sinks.flatten().tolist()),
    )


def _causal_window(mask: Tensor) -> int | None:
    """How many positions each destination sees in a causal mask, or None for any other mask."""
    length = mask.shape[-1]
    is_visible = mask if mask.dtype == torch.bool else mask == 0
    if mask.dtype != torch.bool and bool((mask[~is_visible] > HIDDEN).any()):
        return None
    window = int(is_visible[0, 0, -1].sum())
    band = visible(length, length, True, window, mask.device)
    return window if band is None or bool((is_visible == band).all()) else None
