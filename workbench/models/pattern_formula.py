"""From rotated q and k back to the attention pattern: what a layer does between them, as plain data, also where another
operator does it.

A pattern grows with the square of the length and q and k do not, so the cache stores those and this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from workbench.attention.operator import operator
from workbench.models.attention_edits import AttentionInputs, expanded
from workbench.models.explicit_attention import is_causal
from workbench.models.precision import at_least_float32
from workbench.models.reference_attention import HIDDEN, grouped_product, masked_scores, softmax, visible
from workbench.models.swapped_attention import SwappedOperator, operator_of
from workbench.registry import OPERATORS

#: Rows of scores that are summed at once.
ROWS = 128


@dataclass(frozen=True)
class PatternFormula:
    """``pattern = softmax(cap · tanh(scale · q kᵀ / cap) + mask)`` of one layer at one length, a sink beside each row.

    `window` counts the positions that a destination sees, itself included; None for all earlier ones. With an
    `operator` it is that one's matrix; `place` is its layer, how many layers and KV heads there are, how many positions
    are before the grid, and the grid.
    """

    scale: float
    causal: bool
    window: int | None = None
    softcap: float | None = None
    sinks: tuple[float, ...] | None = None
    operator: str | None = None
    place: tuple[int, ...] = ()

    def pattern(
        self,
        q: Float[Tensor, "pos head d_head"],
        k: Float[Tensor, "pos kv_head d_head"],
        heads: Sequence[int] | None = None,
    ) -> Float[Tensor, "some_head pos pos"]:
        """The pattern of one prompt, in the arithmetic of Hugging Face's eager attention; of all heads or some."""
        query, keys, length = q.transpose(0, 1)[None], k.transpose(0, 1)[None], len(q)
        if self.operator is not None:
            pattern = self._of_operator(query, expanded(keys, query.shape[1]))[0]
            return pattern if heads is None else pattern[list(heads)]
        if heads is not None:
            group = query.shape[1] // keys.shape[1]
            query, keys = query[:, list(heads)], keys[:, [head // group for head in heads]]
        mask = visible(length, length, self.causal, self.window, q.device)
        scores = masked_scores(grouped_product(query * self.scale, keys.mT), mask, self.softcap)
        sinks = self._sinks(q.device)
        if sinks is not None and heads is not None:
            sinks = sinks[list(heads)]
        return softmax(scores, sinks, q.dtype)[0]

    def row(
        self, q: Float[Tensor, "pos head d_head"], k: Float[Tensor, "pos kv_head d_head"], dest: int
    ) -> Float[Tensor, "head src"]:
        """One destination's row of every head's `pattern`, without the other rows where it is a softmax."""
        if self.operator is not None:
            return self.pattern(q, k)[:, dest]
        sources = dest + 1 if self.causal else len(k)
        query, keys = q[dest : dest + 1].transpose(0, 1)[None], k[:sources].transpose(0, 1)[None]
        mask = visible(1, sources, self.causal, self.window, q.device)
        scores = masked_scores(grouped_product(query * self.scale, keys.mT), mask, self.softcap)
        row = softmax(scores, self._sinks(q.device), q.dtype)[0, :, 0]
        return torch.nn.functional.pad(row, (0, len(k) - sources))

    def log_sums(
        self, q: Float[Tensor, "pos head d_head"], k: Float[Tensor, "pos kv_head d_head"]
    ) -> Float[Tensor, "head dest"] | None:
        """``log Σ exp`` of every row of scores, sinks included, a block of rows at a time, for `column`; None for an
        operator's pattern."""
        if self.operator is not None:
            return None
        parts, keys, sinks = [], k.transpose(0, 1)[None], self._sinks(q.device)
        for first in range(0, len(q), ROWS):
            rows = q[first : first + ROWS]
            end = first + len(rows) if self.causal else len(k)
            mask = visible(len(rows), end, self.causal, self.window, q.device)
            query = rows.transpose(0, 1)[None] * self.scale
            scores = masked_scores(grouped_product(query, keys[:, :, :end].mT), mask, self.softcap)
            sums = at_least_float32(scores)[0].logsumexp(-1)
            parts.append(sums if sinks is None else torch.logaddexp(sums, sinks[:, None].to(sums.dtype)))
        return torch.cat(parts, -1)

    def column(
        self,
        q: Float[Tensor, "pos head d_head"],
        k: Float[Tensor, "pos kv_head d_head"],
        src: int,
        log_sums: Float[Tensor, "head dest"] | None = None,
    ) -> Float[Tensor, "head dest"]:
        """One source's column of every head's `pattern`: ``exp(score − log_sums)``, with those of `log_sums`."""
        if self.operator is not None:
            return self.pattern(q, k)[:, :, src]
        sums = self.log_sums(q, k) if log_sums is None else log_sums
        assert sums is not None
        query, key = q.transpose(0, 1)[None], k[src : src + 1].transpose(0, 1)[None]
        scores = masked_scores(grouped_product(query * self.scale, key.mT), None, self.softcap)[0, :, :, 0]
        column = torch.exp(at_least_float32(scores) - sums).to(q.dtype)
        if self.causal:
            distance = torch.arange(len(q), device=q.device) - src
            column[:, (distance < 0) | (distance >= (self.window or len(q)))] = 0
        return column

    def masked(self, length: int, position: int, role: str) -> Bool[Tensor, "pos"]:
        """The sources that the mask hides from a destination (``role="destination"``), or the destinations that it
        hides a source from (``"source"``): their weights are exactly 0, whatever q and k. Of an operator its causality
        alone, not what else it leaves out."""
        later = torch.arange(length) - position
        return self._hidden(-later if role == "destination" else later, length)

    def mask(self, length: int) -> Bool[Tensor, "dest src"]:
        """The pairs that the mask hides, see `masked`."""
        at = torch.arange(length)
        return self._hidden(at[:, None] - at, length)

    def _hidden(self, back: Int[Tensor, "*pair"], length: int) -> Bool[Tensor, "*pair"]:
        """Whether the source is hidden that many positions before the destination."""
        if not self.causal:
            return torch.zeros_like(back, dtype=torch.bool)
        return (back < 0) | (back >= (self.window or length))

    def _sinks(self, device: torch.device) -> Float[Tensor, "head"] | None:
        return None if self.sinks is None else torch.tensor(self.sinks, device=device)

    def _of_operator(
        self, query: Float[Tensor, "1 head pos d_head"], keys: Float[Tensor, "1 head pos d_head"]
    ) -> Float[Tensor, "1 head pos pos"]:
        layer, n_layers, n_kv_heads, before, *grid = self.place
        bound = operator(self.operator or "")
        call = bound.call(
            scale=self.scale,
            causal=self.causal,
            layer=layer,
            n_layers=n_layers,
            n_kv_heads=n_kv_heads,
            before=before,
            grid=tuple(grid),
        )
        return bound.pattern(query, keys, call)

    def plain(self) -> dict[str, Any]:
        """The formula as a JSON-able mapping."""
        return asdict(self)

    @classmethod
    def from_plain(cls, formula: Mapping[str, Any]) -> PatternFormula:
        """The inverse of `plain`."""
        sinks = formula.get("sinks")
        place = tuple(formula.get("place", ()))
        return cls(**{**formula, "sinks": None if sinks is None else tuple(sinks), "place": place})


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
    if (swapped := operator_of(module)) is not None:
        is_plain = window is None and sinks is None and arguments.get("softcap") is None
        is_softmax_form = swapped.operator.operator.mask is not None
        return _formula_of_operator(swapped, inputs, causal) if is_plain or not is_softmax_form else None
    return PatternFormula(
        scale=float(inputs.keys.shape[-1] ** -0.5 if scale is None else scale),
        causal=causal,
        window=window,
        softcap=arguments.get("softcap"),
        sinks=None if sinks is None else tuple(sinks.flatten().tolist()),
    )


def _formula_of_operator(swapped: SwappedOperator, inputs: AttentionInputs, causal: bool) -> PatternFormula | None:
    """The formula of a layer with another operator, where that needs nothing but q and k, and has a name."""
    bound, shape = swapped.operator, swapped.shape
    name = bound.operator.name
    by_name = name in OPERATORS.names() and OPERATORS[name] is bound.operator
    if not by_name or not bound.has_pattern or swapped.own is not None or swapped.context.data:
        return None
    scale = inputs.arguments.get("scaling")
    return PatternFormula(
        scale=float(inputs.keys.shape[-1] ** -0.5 if scale is None else scale),
        causal=causal and bound.keeps_causality,
        operator=str(bound),
        place=(shape.layer, shape.n_layers, shape.n_kv_heads, swapped.context.before, *swapped.context.grid),
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
