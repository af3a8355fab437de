"""One layer's softmax attention with its pattern computed explicitly: where it is edited, or where no kernel can.

Only the heads and the rows that a tap reads are computed (`workbench.models.attention_edits.PartialTap`). A pattern
that was only read leaves z as the layer's kernel gives it, bit for bit; an edited one goes through ``z = pattern v``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.errors import HookError
from workbench.models import reference_attention
from workbench.models.attention_edits import AttentionEdits, PartialTap
from workbench.models.prefix_attention import Prefix
from workbench.models.reference_attention import HIDDEN

Z = Float[Tensor, "batch dest head d_value"]


def is_causal(module: nn.Module, kwargs: dict[str, Any]) -> bool:
    """Whether a missing mask means causal: the keyword where there is one, else the module's attribute (the mask does
    not say)."""
    keyword = kwargs.get("is_causal")
    return bool(keyword if keyword is not None else getattr(module, "is_causal", True))


class ExplicitAttention:
    """One call of a layer's attention over its own keys and values and, where it resumes, the prefix before them."""

    def __init__(
        self,
        module: nn.Module,
        edits: AttentionEdits,
        query: Float[Tensor, "batch head dest d_head"],
        key: Float[Tensor, "batch some_head own d_head"],
        value: Float[Tensor, "batch other_head own d_value"],
        mask: Tensor | None,
        arguments: dict[str, Any],
    ) -> None:
        prefix, dest, src = edits.prefix, query.shape[2], key.shape[2]
        sources = [(key, value)]
        if prefix is not None:
            mask = _resumed_mask(module, prefix, mask, dest)
            src += prefix.start
            if prefix.start:
                sources.insert(0, (prefix.of_rows(prefix.keys), prefix.of_rows(prefix.values)))
        self.padded = mask is not None and mask.dtype == torch.bool
        window = arguments.get("sliding_window")
        #: Whether the layer hides nothing but later positions, where it is causal.
        self.is_plain = mask is None and window is None
        self._mask, self._default = (
            mask,
            partial(reference_attention.visible, dest, src, is_causal(module, arguments), window, query.device),
        )
        scaling, bias = arguments.get("scaling"), arguments.get("position_bias")
        self.edits, self.query, self.sources = edits, query, sources
        self.scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        self.bias = None if bias is None else bias[:, :, -dest:]
        self.softcap, self.sinks = arguments.get("softcap"), arguments.get("s_aux")
        self.src = src
        #: Of which heads the taps changed the pattern.
        self.changed = ""

    @cached_property
    def mask(self) -> Tensor | None:
        """What is added to the scores, or which sources are visible; made where it is needed."""
        return self._default() if self._mask is None else self._mask

    @property
    def has_bias(self) -> bool:
        """Whether something is added to the scores that hides nothing."""
        mask = self._mask
        if self.bias is not None or mask is None or mask.dtype == torch.bool:
            return self.bias is not None
        return bool(((mask != 0) & (mask > HIDDEN)).any())

    def restrict(self, keep: Bool[Tensor, "batch_or_1 head_or_1 dest src"], replaces_causality: bool) -> None:
        """Keep some sources alone. Where that replaces causality, of the layer's mask only the padding stays."""
        mask = self.mask
        if replaces_causality and mask is not None:
            seen = mask if mask.dtype == torch.bool else mask > HIDDEN
            mask = None if bool(seen.any(-2).all()) else seen.any(-2, keepdim=True)
        if mask is None:
            self.mask = keep
        elif mask.dtype == torch.bool:
            self.mask = mask & keep
        else:
            self.mask = mask.masked_fill(~keep, -torch.inf)
        self.padded = True

    def z(self) -> Z:
        """z, without looking at the pattern."""
        return reference_attention.mixed(self._pattern(), self.sources)

    def edited(self, kernel: Callable[[], Z]) -> Z:
        """z after the taps on the scores and the pattern; what they leave alone is as `kernel` gives it."""
        heads, rows = self.edits.parts()
        if rows is None and heads == tuple(range(self.query.shape[1])):
            heads = None
        sub = self if heads is None and rows is None else self._part(heads, rows)
        changes = _Changes(self.edits)
        pattern = changes.tap("pattern", sub._pattern(changes))
        differentiable = torch.is_grad_enabled() and pattern.requires_grad
        if not changes.any and not differentiable:
            return kernel()
        if changes.any:
            self.changed = (
                "all heads" if heads is None else f"head{'s' * (len(heads) > 1)} {', '.join(map(str, heads))}"
            )
        z = reference_attention.mixed(pattern, sub.sources)
        if sub is self:
            return z if changes.any else with_gradient_of(kernel(), z)
        whole = kernel().clone()
        if not changes.any:
            return whole
        batch, first = whole.shape[0], self.src - self.query.shape[2]
        at_rows = torch.arange(whole.shape[1]) if rows is None else torch.tensor(rows) - first
        at_heads = torch.arange(whole.shape[2]) if heads is None else torch.tensor(heads)
        whole[torch.arange(batch)[:, None, None], at_rows[:, None], at_heads] = z
        return whole

    def _part(self, heads: tuple[int, ...] | None, rows: tuple[int, ...] | None) -> ExplicitAttention:
        """The same of some heads and destinations."""
        part = object.__new__(ExplicitAttention)
        part.__dict__.update(self.__dict__)
        n_heads, first = self.query.shape[1], self.src - self.query.shape[2]
        if heads is not None:
            part.query = self.query[:, list(heads)]
            part.sources = [(_of_heads(k, heads, n_heads), _of_heads(v, heads, n_heads)) for k, v in self.sources]
            part.mask, part.bias = (_axis(x, 1, list(heads)) for x in (self.mask, self.bias))
            part.sinks = None if self.sinks is None else self.sinks.flatten()[list(heads)]
        if rows is not None:
            at = [row - first for row in rows]
            part.query = part.query[:, :, at]
            part.mask, part.bias = (_axis(x, 2, at) for x in (part.mask, part.bias))
        return part

    def _pattern(self, changes: _Changes | None = None) -> Float[Tensor, "batch head dest src"]:
        return reference_attention.pattern(
            self.query,
            self.sources,
            self.mask,
            self.scale,
            softcap=self.softcap,
            bias=self.bias,
            sinks=self.sinks,
            padded=self.padded,
            edit_scores=reference_attention.unchanged if changes is None else lambda x: changes.tap("scores", x),
        )


def with_gradient_of(value: Tensor, like: Tensor) -> Tensor:
    """`value` bit for bit, with the gradient of `like`, which equals it up to rounding."""
    return value.detach() + (like - like.detach())


class _Changes:
    """The taps on the scores and the pattern, and whether one of them changed something."""

    def __init__(self, edits: AttentionEdits) -> None:
        self.edits, self.any = edits, False

    def tap(self, site: str, x: Tensor) -> Tensor:
        tap = self.edits.taps.get(site)
        if isinstance(tap, PartialTap) and self.edits.parts() != (None, None):  # x is its part already
            tap = tap.tap
        new = None if tap is None else tap(x)
        if new is None:
            return x
        self.any = True
        return new


def _of_heads(x: Tensor, heads: tuple[int, ...], n_heads: int) -> Tensor:
    """Keys or values of some query heads."""
    group = n_heads // x.shape[1]
    return x[:, [head // group for head in heads]]


def _axis(x: Tensor | None, axis: int, at: list[int]) -> Tensor | None:
    """Some entries of an axis, unless all share one."""
    if x is None or x.shape[axis] == 1:
        return x
    return x.index_select(axis, torch.tensor(at, device=x.device))


def _resumed_mask(module: nn.Module, prefix: Prefix, own: Tensor | None, dest: int) -> Tensor | None:
    """The mask of a layer that resumes: the base run's, which has all positions. A module that makes its mask itself
    makes it for the positions that it is given; of all positions that is the mask, of some it has to be the base run's.

    Raises:
        HookError: the mask follows from the residual stream, and cannot be had for the positions that are left out.
    """
    base = None if prefix.mask is None else prefix.of_rows(prefix.mask)[:, :, -dest:]
    if own is None or base is None:
        return base
    if prefix.start == 0:
        return own
    if own.shape[-1] == base.shape[-1] - prefix.start and bool((own == base[..., prefix.start :]).all()):
        return base
    raise HookError(f"{type(module).__name__} makes its mask from its input, so that its layer cannot be resumed.")
