"""What one operator costs: `report` with what its mask lets a head weigh, and with its efficient form to run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from workbench.arguments import refusal
from workbench.attention.call import Call
from workbench.attention.cost.report import report
from workbench.attention.operator import BoundOperator, LayerShape, Operator, operator
from workbench.errors import WorkbenchError

#: Rows of a mask that are counted at once, entries of one that is counted as a whole, and the longest that is counted.
ROWS, LARGEST, LONGEST = 256, 1 << 29, 1 << 16
#: What operators call the positions of a block.
_BLOCKS = ("block", "chunk", "key_block")


def operator_cost(
    name: str | Operator | BoundOperator,
    length: int | Iterable[int],
    *,
    n_heads: int = 1,
    n_kv_heads: int | None = None,
    d_head: int = 64,
    measured: bool = False,
    repeats: int = 3,
) -> list[dict[str, Any]]:
    """Rows of `workbench.attention.cost.report.report` for an operator, one for each length.

    Where it is a softmax form with a mask, ``pairs`` are those that the mask keeps: for random q and k in layer 0, the
    mean over heads. For others they are what its form says; where the operator selects some of them by content, that is
    all of them, and ``at_most`` is True.

    Args:
        name: an operator, or its name with settings.
        length: positions, one or several. An operator on a grid has the grid nearest to it of `Operator.trial`, and the
            row says how many positions that has.
        n_heads, n_kv_heads, d_head: of the layer.
        measured: whether the efficient form is run too, causally where the operator can be: ``seconds`` and
            ``peak_bytes``, or ``not_measured`` with the reason.
        repeats: how often.

    Raises:
        UnknownName: no such operator or setting.
        UsageError: a size that is not possible, or a length at which the mask is too large to be counted.

    Examples:
        >>> from workbench.attention.cost.of_operator import operator_cost
        >>> row, = operator_cost("sliding-window(window=8)", 1024)
        >>> row["pairs"], row["passes"]
        (8164, 1)
    """
    bound = operator(name)
    shape = LayerShape(0, 1, n_heads, n_kv_heads or n_heads, d_head, d_head, n_heads * d_head)
    sizes: dict[str, Any] = {"n_heads": n_heads, "n_kv_heads": n_kv_heads, "d_head": d_head}
    rows: list[dict[str, Any]] = []
    lengths = (length,) if isinstance(length, int) else tuple(length)
    for requested in lengths:
        # Sizes are checked before anything is made of them.
        report(str(bound), bound.operator.form, requested, **sizes)
        positions, call = trial_call(bound, requested, shape)
        known: dict[str, Any] = {"block": _block(bound), "causal": bound.keeps_causality, **sizes}
        if bound.operator.mask is not None:
            known["pairs"] = attended_pairs(bound, positions, call, shape)
        (row,) = report(str(bound), bound.operator.form, positions, **known)
        row["at_most"] = row["passes_to_select"] > 0 and "pairs" not in known
        rows.append(row | (_measured(bound, positions, call, shape, repeats) if measured else {}))
    return rows


def trial_call(bound: BoundOperator, length: int, shape: LayerShape) -> tuple[int, Call]:
    """How many positions, and a `Call` of them in layer 0, with gates of a random residual stream."""
    trial = dict(bound.operator.trial(1, length))
    grid = tuple(trial.get("grid", ()))
    positions = math.prod(grid) + trial.get("before", 0) if grid else length
    own = None if bound.operator.module is None else bound.operator.module(shape, bound.settings)
    call = bound.call(scale=shape.d_head**-0.5, causal=bound.keeps_causality, n_kv_heads=shape.n_kv_heads, **trial)
    if own is None:
        return positions, call
    x = torch.randn(1, positions, shape.d_model, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        gates = own.gates(x, lambda name, x: x.unflatten(-1, (shape.n_heads, shape.d_head)))
        data = {name: value.detach() for name, value in own.data().items()}
    gates = {name: value.detach() for name, value in gates.items()}
    return positions, replace(call, gates={**call.gates, **gates}, data={**data, **call.data})


def attended_pairs(bound: BoundOperator, length: int, call: Call, shape: LayerShape) -> int:
    """How many pairs of a query and a key the mask keeps and causality leaves, of one head: a mean over heads, rounded.

    Raises:
        UsageError: the mask is too large.
    """
    mask = bound.operator.mask
    assert mask is not None
    if length > LONGEST:
        raise refusal("length", length, f"at most {LONGEST:,}", because=f"the pairs in the mask of {bound} are counted")
    rng = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, shape.n_heads, length, shape.d_head, generator=rng) for _ in range(2))
    by_row = bound.causal in ("model", "token") and not call.grid
    if not by_row and shape.n_heads * length**2 > LARGEST:
        raise refusal("length", length, f"a length at which a mask of {bound} fits into memory")
    total = 0.0
    for start in range(0, length, ROWS) if by_row else (0,):
        stop = min(start + ROWS, length) if by_row else length
        selected = mask(q[:, :, start:stop], k[:, :, :stop], call.positions(0, stop) if by_row else call)
        if call.causal:
            selected = selected & torch.ones(stop - start, stop, dtype=torch.bool).tril(start)
        total += float(selected.sum((-2, -1)).double().mean())
    return round(total)


def _block(bound: BoundOperator) -> int:
    """Positions of a block or chunk: the operator's own, else those of a chunk of the recurrences."""
    for name in _BLOCKS:
        size = bound.settings.get(name)
        if isinstance(size, int) and not isinstance(size, bool):
            return size
    return 64


def _measured(bound: BoundOperator, length: int, call: Call, shape: LayerShape, repeats: int) -> dict[str, Any]:
    from workbench.attention.cost.measure import measure

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return bound.z(q, k, v, call)

    nothing = {"seconds": None, "peak_bytes": None}
    if bound.operator.role not in ("mixer", "gate"):
        return nothing | {"not_measured": f"it is a {bound.operator.role}"}
    try:
        result = measure(run, length, n_heads=shape.n_heads, d_head=shape.d_head, repeats=repeats)
    except WorkbenchError as error:
        return nothing | {"not_measured": str(error)}
    return {"seconds": result.seconds, "peak_bytes": result.peak_bytes}
