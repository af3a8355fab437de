"""Padding taken out of a sequence, for operators that count positions: blocks begin at the first real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.attention.call import Call
from workbench.errors import UsageError


def compacted(
    table: Callable[[Tensor, Tensor, Call], Tensor],
    q: Float[Tensor, "batch head dest d_head"],
    k: Float[Tensor, "batch head src d_head"],
    call: Call,
    dtype: torch.dtype = torch.bool,
) -> Bool[Tensor, "batch head dest src"] | Float[Tensor, "batch head dest src"]:
    """``table(q, k, call) -> [batch, head, dest, src]``, a mask or a matrix, of the real positions alone, an example at
    a time; False or 0 elsewhere."""
    assert call.padding is not None
    dest, src, examples = q.shape[2], k.shape[2], []
    for row, real in enumerate(call.padding):
        sources, destinations = real.nonzero().flatten(), real[src - dest :].nonzero().flatten()
        example = q.new_zeros(q.shape[1], dest, src, dtype=dtype)
        if len(destinations):
            queries, keys = q[row : row + 1, :, destinations], k[row : row + 1, :, sources]
            part = table(queries, keys, replace(call, padding=None, visible=None))
            example[:, destinations[:, None], sources] = part[0].expand(q.shape[1], -1, -1)
        examples.append(example)
    return torch.stack(examples)


def refuse_padding(name: str, call: Call) -> None:
    """Of what is recorded by block.

    Raises:
        UsageError: the call has padding.
    """
    if call.padding is not None:
        raise UsageError(
            f"padding=<some>: expected none, because {name} is recorded by blocks. Run one prompt at a time."
        )
