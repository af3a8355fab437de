"""Attention of rows that resume from the middle of a prompt: over the base run's earlier keys and values and their own.

Same result as `workbench.models.reference_attention.attention` on the prefix and the rows' own positions put together,
without copying the prefix for every row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int, Shaped
from torch import Tensor

#: Arguments of Hugging Face's attention functions that only the reference form knows.
SPECIAL = ("softcap", "s_aux", "sliding_window", "position_bias")


@dataclass(frozen=True)
class Prefix:
    """Keys and values of the positions before `start`, from the base run, for rows that resume at `start`.

    `rows` says which example each row resumes; without it the first axis is the rows' own, or 1 where all share it.
    `mask` is the base run's own mask for those examples, None where it had none. `own_keys` and `own_values` are the
    rows' own from `start` on where the layer is called for later positions only. `gates` and `own_gates` are what
    another operator has at the same positions.
    """

    start: int
    keys: Float[Tensor, "example kv_head start d_head"]
    values: Float[Tensor, "example kv_head start d_value"]
    mask: Shaped[Tensor, "example_or_1 head_or_1 length length"] | None
    rows: Int[Tensor, "row"] | None = None
    own_keys: Float[Tensor, "row some_head earlier d_head"] | None = None
    own_values: Float[Tensor, "row other_head earlier d_value"] | None = None
    gates: Mapping[str, Shaped[Tensor, "example start *rest"]] = field(default_factory=dict)
    own_gates: Mapping[str, Shaped[Tensor, "row earlier *rest"]] = field(default_factory=dict)

    def of_rows(self, x: Shaped[Tensor, "example *rest"]) -> Shaped[Tensor, "row_or_1 *rest"]:
        """One entry a row, or one for all."""
        return x if self.rows is None or x.shape[0] == 1 else x[self.rows]

    def spans(self, batch: int) -> list[tuple[int, int, int]]:
        """(example, from, to): the rows that resume each example, as runs of consecutive rows."""
        if self.rows is None:
            return [(0, 0, batch)] if self.keys.shape[0] == 1 else [(i, i, i + 1) for i in range(batch)]
        examples, counts = torch.unique_consecutive(self.rows, return_counts=True)
        ends = counts.cumsum(0)
        return list(zip(examples.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True))


def is_plain(prefix: Prefix, query: Tensor, key: Tensor, value: Tensor, arguments: Mapping[str, Any]) -> bool:
    """Whether it is softmax attention and nothing else, over a prefix that every row sees in full."""
    return (
        prefix.mask is None
        and prefix.start > 0
        and key.shape == value.shape
        and key.shape[1] == prefix.keys.shape[1]
        and (prefix.rows is not None or prefix.keys.shape[0] == 1)
        and arguments.get("scaling") is not None
        and not any(arguments.get(name) is not None for name in SPECIAL)
    )


def attention(
    query: Float[Tensor, "batch head dest d_head"],
    key: Float[Tensor, "batch kv_head own d_head"],
    value: Float[Tensor, "batch kv_head own d_value"],
    prefix: Prefix,
    scale: float,
    causal: bool,
) -> Float[Tensor, "batch dest head d_value"]:
    """Where `is_plain` holds. An example's prefix is one large product for each KV head, and nothing is copied twice:
    the rows of the products are ``[kv_head, batch · dest · group, ...]`` throughout."""
    batch, heads, dest, _ = query.shape
    kv, own, start = key.shape[1], key.shape[2], prefix.start
    group = heads // kv
    q = rearrange(query, "batch (kv group) dest d_head -> kv (batch dest group) d_head", kv=kv)
    k = rearrange(key * scale, "batch kv own d_head -> (kv batch) own d_head")
    v = rearrange(value, "batch kv own d_head -> (kv batch) own d_head")
    spans = [(i, slice(first * dest * group, last * dest * group)) for i, first, last in prefix.spans(batch)]

    scores = q.new_empty(kv, batch * dest * group, start + own)
    for i, rows in spans:
        scores[:, rows, :start] = q[:, rows] @ (prefix.keys[i] * scale).mT
    own_scores = rearrange(q, "kv (batch rows) d_head -> (kv batch) rows d_head", batch=batch) @ k.mT
    own_scores = own_scores.view(kv, batch, dest, group, own)
    if causal and dest > 1:
        later = torch.ones(dest, own, dtype=torch.bool, device=query.device).triu(1 + own - dest)
        own_scores = own_scores.masked_fill_(later[:, None], -torch.inf)
    scores[..., start:] = own_scores.view(kv, -1, own)

    pattern = torch.softmax(scores, -1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(query.dtype)
    z = q.new_empty(q.shape)
    for i, rows in spans:
        z[:, rows] = pattern[:, rows, :start] @ prefix.values[i]
    z.view(kv * batch, dest * group, -1).baddbmm_(pattern[..., start:].reshape(kv * batch, dest * group, own), v)
    return rearrange(z, "kv (batch dest group) d_head -> batch dest (kv group) d_head", batch=batch, group=group)
