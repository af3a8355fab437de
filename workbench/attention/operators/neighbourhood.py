"""Neighbourhood attention: each position of a grid sees a window of it, in one, two or three dimensions.

``A = softmax(q kᵀ / √d)`` over the window, which has a stride, a dilation and may be causal, axis by axis:
generalised neighbourhood attention as in NATTEN (`workbench.attention.primitives.neighbourhood`). Windows move inward
at the ends, so that all have the same size. Positions without a grid are one axis, along which windows are causal
where the model is: then no window depends on how many positions follow, and the last group counts as a whole one.
Places are counted without padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.attention import gpu_kernels
from workbench.attention.call import Call
from workbench.attention.layer import Settings
from workbench.attention.operator import Operator
from workbench.attention.primitives import needed, softmax_forms
from workbench.attention.primitives.neighbourhood import Axis
from workbench.attention.primitives.neighbourhood import mask as grid_mask
from workbench.attention.primitives.visible import around_grid, places, positions, rows
from workbench.attention.settings import Setting
from workbench.errors import UsageError

NAMES = ("window", "stride", "dilation", "causal")


def axes(call: Call) -> list[Axis]:
    """The windows along the axes of the call's grid.

    Raises:
        UsageError: a setting is for another number of axes.
    """
    count = len(call.grid) or 1
    for name in NAMES:
        value = call[name]
        if isinstance(value, tuple) and len(value) != count:
            raise UsageError(
                f"neighbourhood({name}={value}): expected {count} value{'s' * (count > 1)}, one for each axis of "
                + (f"the grid {call.grid}." if call.grid else "a sequence.")
            )
    return [
        Axis(window, stride, dilation, causal or (call.causal and not call.grid))
        for window, stride, dilation, causal in _by_axis(call.settings, count)
    ]


def mask(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[batch_or_1, 1, dest, src]``."""
    dest, src, windows = q.shape[2], k.shape[2], axes(call)
    if not call.grid:
        place, length = places(call, src, q.device)
        return windows[0].sees(*rows(place, dest), None if call.causal else length[:, None, None])
    grid = needed.grid(call, "neighbourhood", "sizes of its axes", src)
    everything = positions(0, src - call.before, q.device)[1]
    whole = around_grid(grid_mask(windows, grid, everything, everything), call.before)
    return whole[None, None, src - dest :]


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """Some steps of the first axis at a time, with the keys that they see between them."""
    dest, src, (first, *others) = q.shape[2], k.shape[2], axes(call)
    grid = needed.grid(call, "neighbourhood", "sizes of its axes", src) if call.grid else (src,)
    span = (first.window + first.stride) * first.dilation
    plain = call.visible is None and call.padding is None and not (call.causal and call.grid) and not call.before
    if not plain or dest != src or 4 * span > grid[0]:
        return softmax_forms.masked(q, k, v, mask(q, k, call), call)
    step = src // grid[0]
    source = torch.arange(src, device=q.device)
    sizes = (None,) if call.causal else grid
    low, high = first.ends(source[: grid[0]], sizes[0])
    parts = []
    for start in range(0, grid[0], span):
        stop = min(start + span, grid[0])
        at = slice(start * step, stop * step)
        near = slice(int(low[start:stop].min()) * step, (int(high[start:stop].max()) + 1) * step)
        seen = grid_mask([first, *others], sizes, source[at], source[near])
        parts.append(
            F.scaled_dot_product_attention(q[:, :, at], k[:, :, near], v[:, :, near], attn_mask=seen, scale=call.scale)
        )
    return torch.cat(parts, 2)


def kernel(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """By NATTEN."""
    windows = axes(call)
    return gpu_kernels.neighbourhood(
        q,
        k,
        v,
        call.grid or (k.shape[2],),
        window=tuple(axis.window for axis in windows),
        stride=tuple(axis.stride for axis in windows),
        dilation=tuple(axis.dilation for axis in windows),
        causal=tuple(axis.causal for axis in windows),
        scale=call.scale,
    )


def fits(q: Tensor, k: Tensor, call: Call) -> bool:
    """Whether NATTEN computes this: all positions lie on a grid of at most three axes none of which is shorter than its
    window, nothing else is hidden, and no group of a sequence without end is cut short."""
    grid, windows = call.grid or (k.shape[2],), axes(call)
    return (
        call.visible is None
        and call.padding is None
        and not call.before
        and len(grid) <= 3
        and math.prod(grid) == k.shape[2]
        and not (call.causal and call.grid)
        and (bool(call.grid) or not call.causal or windows[0].stride == 1)
        and all(axis.window * axis.dilation <= size for axis, size in zip(windows, grid, strict=True))
        and call.scale != 0  # NATTEN takes 0 for its default
    )


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """The first and the last place that each position of the grid sees along each axis, ``[position, axis, 2]``; of a
    sequence, without regard to padding."""
    grid = call.grid or (k.shape[2],)
    sizes = (None,) if call.causal and not call.grid else grid
    ends = [
        torch.stack(axis.ends(torch.arange(n, device=q.device), size), -1)
        for axis, n, size in zip(axes(call), grid, sizes, strict=True)
    ]
    steps = torch.cartesian_prod(*(torch.arange(n, device=q.device) for n in grid)).view(-1, len(grid))
    return {"windows": torch.stack([of[step] for of, step in zip(ends, steps.T, strict=True)], 1)}


def check(settings: Settings) -> None:
    """As many axes in each, and strides no larger than windows."""
    counts = {len(settings[name]) for name in NAMES if isinstance(settings[name], tuple)}
    if len(counts) > 1:
        values = ", ".join(f"{name}={settings[name]}" for name in NAMES)
        raise UsageError(f"neighbourhood({values}): expected one value for all axes, or as many values in each.")
    for window, stride, _, _ in _by_axis(settings, counts.pop() if counts else 1):
        if stride > window:
            raise UsageError(f"neighbourhood(stride={stride}): expected no more than the window, which is {window}.")


def _by_axis(settings: Settings, count: int) -> list[Sequence]:
    values = (settings[name] for name in NAMES)
    return list(zip(*(value if isinstance(value, tuple) else (value,) * count for value in values), strict=True))


def _largest(value: int | tuple[int, ...]) -> int:
    return max(value) if isinstance(value, tuple) else value


operator = Operator(
    name="neighbourhood",
    version=1,
    source="Hassani et al. 2025, arXiv 2504.16922 (2204.07143, 2209.15001 before); code SHI-Labs/NATTEN",
    status="as published",
    choices=(
        "a line that is shorter than the window is seen whole; NATTEN refuses it",
        "positions ahead of the grid see everything and are seen by everything",
    ),
    settings={
        "window": Setting(16, "sizes", "positions that each sees along an axis", at_least=2),
        "stride": Setting(1, "sizes", "positions in a row that share their leader's window", at_least=1),
        "dilation": Setting(1, "sizes", "steps between positions of a window", at_least=1),
        "causal": Setting(False, "flags", "no position sees later ones along an axis"),
    },
    records=("windows",),
    mask=mask,
    efficient=efficient,
    kernel=gpu_kernels.Kernel("natten", kernel, fits),
    record=record,
    check=check,
    check_length=lambda settings: _largest(settings["window"]) * _largest(settings["dilation"]) + 8,
)
