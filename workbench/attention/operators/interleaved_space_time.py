"""Interleaved space and time: attention within each frame, then attention of each place over the frames.

``A = A_time A_space``, both ``softmax(q kᵀ / √d)`` of the same q and k: over ``{j : time(j) = time(i)}``, and over
``{j : place(j) = place(i)}``; with `axis` one of the two. The grid is ``(frames, …)``. As published the two are
layers of their own with a residual connection between them: use ``axis="space"`` and ``axis="time"`` for that.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.attention.call import Call
from workbench.attention.operator import Operator
from workbench.attention.primitives import groups, needed, softmax_forms
from workbench.attention.primitives.visible import rows
from workbench.attention.settings import Setting
from workbench.errors import UsageError

AHEAD = -1


def masks(q: Tensor, k: Tensor, call: Call) -> tuple[Tensor, Tensor]:
    """Same frame, and same place, ``[1, 1, dest, src]``; what is ahead of the grid sees and is seen in both."""
    dest, src = q.shape[2], k.shape[2]
    if dest != src and call["axis"] == "both":
        raise UsageError(
            f"q=<{dest} positions>: expected {src}, as k has, because interleaved-space-time(axis='both') mixes twice. "
            "Run whole prompts."
        )
    count = needed.grid(call, "interleaved-space-time", "frames, positions of a frame", src)[0]
    size = (src - call.before) // count
    position = torch.arange(src - call.before, device=q.device)
    frame, place = (F.pad(label, (call.before, 0), value=AHEAD)[None] for label in (position // size, position % size))
    destination, source = rows(frame == AHEAD, dest)
    around = destination | source
    return groups.same(frame, dest) | around, groups.same(place, dest) | around


def factors(q: Tensor, k: Tensor, call: Call) -> tuple[Tensor, Tensor]:
    """``A_space`` and ``A_time``; with one axis, that one behind the identity."""
    space, time = masks(q, k, call)
    axis = call["axis"]
    identity = torch.eye(k.shape[2], dtype=q.dtype, device=q.device).expand(*k.shape[:2], -1, -1)
    if axis != "both":
        return identity, softmax_forms.pattern(q, k, space if axis == "space" else time, call)
    return softmax_forms.pattern(q, k, space, call), softmax_forms.pattern(q, k, time, call)


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """Their product."""
    first, second = factors(q, k, call)
    return second @ first if call["axis"] == "both" else second


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """Frames and places as batches."""
    axis = call["axis"]
    plain = call.visible is None and call.padding is None and not call.before and q.shape[2] == k.shape[2]
    if not plain:
        space, time = masks(q, k, call)
        for name, keep in (("space", space), ("time", time)):
            v = softmax_forms.masked(q, k, v, keep, call) if axis in (name, "both") else v
        return v
    count = needed.grid(call, "interleaved-space-time", "frames, positions of a frame", k.shape[2])[0]
    queries, keys, values = (x.unflatten(2, (count, -1)) for x in (q, k, v))
    if axis != "time":
        values = _batched(queries, keys, values, call)
    if axis != "space":
        values = _batched(*(x.transpose(2, 3) for x in (queries, keys, values)), call).transpose(2, 3)
    return values.flatten(2, 3)


def _batched(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=call.causal, scale=call.scale)


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """Both patterns, ``[batch, head, pos, pos]``, whatever `axis` is."""
    space, time = masks(q, k, call)
    return {"space": softmax_forms.pattern(q, k, space, call), "time": softmax_forms.pattern(q, k, time, call)}


operator = Operator(
    name="interleaved-space-time",
    version=1,
    source="Motion2VecSets; code VVeiCao/Motion2VecSets c4838d8",
    status="as published",
    choices=(
        "with axis='both', space and time have the same queries and keys, without a residual connection between them",
        "positions ahead of the grid see everything and are seen by everything",
    ),
    settings={"axis": Setting("both", "word", "along which axes", choices=("both", "space", "time"))},
    needs=("grid",),
    matrix_axis="two",
    resumes="no",
    form="two softmaxes",
    records=("space", "time"),
    matrix=matrix,
    efficient=efficient,
    factors=factors,
    record=record,
    trial=lambda batch, length: {"grid": (max(1, length // 3), min(3, length)), "before": int(length > 4)},
)
