"""Joint block: a compressed memory token, memory frames and a query frame in one sequence.

``A = softmax(q kᵀ / √d)`` over: the memory token sees itself and all memory frames; the query frame sees itself and
all memory frames; a memory frame sees itself alone. So query and memory token never see each other, and the keys and
values of memory frames can be stored. With `top_k` each query position keeps its k best scores among the memory, in
each frame or over all of it (`scope`); its own frame is never pruned.

The grid is ``(frames, …)``, the query frame the last; what is ahead of the grid is the memory token.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.attention.call import Call
from workbench.attention.operator import Operator
from workbench.attention.primitives import needed, softmax_forms
from workbench.attention.primitives.blocks import top
from workbench.attention.primitives.visible import rows, visible
from workbench.attention.settings import Setting

TOKEN = -1


def frames(call: Call, src: int, device: torch.device) -> Tensor:
    """Each position's frame, ``[1, src]``; −1 of the memory token."""
    count = needed.grid(call, "joint-block", "frames, positions of a frame", src)[0]
    frame = torch.arange(count, device=device).repeat_interleave((src - call.before) // count)
    return F.pad(frame, (call.before, 0), value=TOKEN)[None]


def mask(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[batch_or_1, head_or_1, dest, src]``."""
    dest, src = q.shape[2], k.shape[2]
    to, of = rows(frames(call, src, q.device), dest)
    query = call.grid[0] - 1
    memory = (of != TOKEN) & (of != query)
    looks = (to == TOKEN) | (to == query)
    seen = (to == of) | (looks & memory)
    if call["top_k"] is None:
        return seen
    scores = (q * call.scale) @ k.mT
    scores = scores.masked_fill(~(seen & memory & visible(call, dest, src, q.device)), -torch.inf)
    return seen & (~memory | (to != query) | best(scores, call))


def best(scores: Tensor, call: Call) -> Tensor:
    """The `top_k` largest scores of each row, of each frame or of all; of equal ones the first."""
    scope = (call.grid[0], -1) if call["scope"] == "frame" else (1, -1)
    parts = scores[..., call.before :].unflatten(-1, scope)
    return F.pad(top(parts, call["top_k"]).flatten(-2), (call.before, 0), value=True)


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """Memory frames by themselves, the memory token and the query frame over the memory."""
    src, count = k.shape[2], call.grid[0] if call.grid else 0
    plain = call.visible is None and call.padding is None and not call.causal and q.shape[2] == src
    if not plain or count < 2:
        return softmax_forms.masked(q, k, v, mask(q, k, call), call)
    needed.grid(call, "joint-block", "frames, positions of a frame", src)
    size = (src - call.before) // count
    memory, query = slice(call.before, src - size), slice(src - size, src)
    stacked = [x[:, :, memory].unflatten(2, (count - 1, size)) for x in (q, k, v)]
    parts = [F.scaled_dot_product_attention(stacked[0], stacked[1], stacked[2], scale=call.scale).flatten(2, 3)]
    if call["top_k"] is None:
        later = [x[:, :, call.before :] for x in (k, v)]
        parts.append(F.scaled_dot_product_attention(q[:, :, query], later[0], later[1], scale=call.scale))
    else:
        parts.append(softmax_forms.masked(q[:, :, query], k, v, mask(q[:, :, query], k, call), call))
    if call.before:
        token, earlier = q[:, :, : call.before], slice(0, src - size)
        parts.insert(0, F.scaled_dot_product_attention(token, k[:, :, earlier], v[:, :, earlier], scale=call.scale))
    return torch.cat(parts, 2)


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """Which sources each destination keeps, ``[batch_or_1, head_or_1, dest, src]``."""
    return {"keeps": mask(q, k, call)}


operator = Operator(
    name="joint-block",
    version=1,
    source="JointFormer; code MCG-NJU/JointFormer b439094",
    status="as published",
    choices=(
        "the query frame comes last, so that its rows resume from the memory's stored keys; the source has it first",
        "top-k does not prune the memory token's row",
        "of equal scores the first is kept",
    ),
    settings={
        "top_k": Setting(
            None, "whole number", "memory positions that a query position keeps", at_least=1, optional=True
        ),
        "scope": Setting("frame", "word", "of which memory `top_k` is counted", choices=("frame", "all")),
    },
    needs=("grid",),
    causal="no",
    records=("keeps",),
    mask=mask,
    efficient=efficient,
    record=record,
    trial=lambda batch, length: {"grid": (max(1, length // 3), min(3, length)), "before": int(length > 3)},
)
