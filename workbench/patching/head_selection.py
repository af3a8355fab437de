"""Some heads of an activation."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Shaped
from torch import Tensor

from workbench.models.steps import split_step
from workbench.models.taps import split
from workbench.patching.cone import is_pattern
from workbench.patching.sites import has_heads, has_kv_heads


def of_heads(name: str, x: Shaped[Tensor, "*rest"], heads: Sequence[int] | None, n_heads: int) -> Tensor:
    """The activation of one input at a hook, of some heads; of keys and values those of their key/value heads."""
    site = split(split_step(name)[0])[1]
    if heads is None or not has_heads(site):
        return x
    if is_pattern(site):
        return x[list(heads)]
    if has_kv_heads(site):
        group = n_heads // x.shape[1]
        heads = list(dict.fromkeys(head // group for head in heads))
    return x[:, list(heads)]
