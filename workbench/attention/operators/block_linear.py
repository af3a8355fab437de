"""Block-linear attention: linear attention in a constant state, bidirectional inside a block and causal across blocks.

``z_i = φ(q_i)ᵀ S / φ(q_i)·n`` with ``S = Σ φ(k_j) v_jᵀ`` and ``n = Σ φ(k_j)`` over i's block of positions and all
earlier ones. φ is ``relu(x)`` or ``elu(x) + 1``. Where the denominator is 0, z is 0.

SANA-Video's code rotates the features, in the numerator alone (``rotary="numerator"``): rows then do not sum to one,
weights can be negative, and a small denominator makes z huge (it adds 10⁻¹⁵ where this adds nothing). Pair (2i, 2i + 1)
of φ(q) and φ(k) is turned by ``position · 10000^(−2i/d)``. In a language model q and k come rotated already: both forms
take the features of those, and the second one rotates the features in the numerator once more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.layer import Settings, State
from workbench.attention.operator import Operator
from workbench.attention.operators.linear import phi
from workbench.attention.primitives import recurrence
from workbench.attention.primitives.rotary import rotated
from workbench.attention.primitives.visible import positions, without_padding
from workbench.attention.settings import Setting


def features(x: Tensor, call: Call, start: int, rotate: bool) -> Tensor:
    """φ of queries or keys from position `start` of the call on."""
    x = phi(x.to(recurrence.exact(x)), call)
    if not rotate:
        return x
    place = torch.arange(x.shape[2], device=x.device) + call.first + start
    return rotated(x, place, "adjacent")


def _rotates(call: Call) -> bool:
    return call["rotary"] == "numerator"


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``φ(q_i)·φ(k_j)`` of blocks that i sees, by the denominator."""
    dest, src = q.shape[2], k.shape[2]
    destination, source = (at + call.first for at in positions(dest, src, q.device))
    seen = source // call["block"] <= destination // call["block"]

    def weights(rotate: bool) -> Tensor:
        keys = without_padding(features(k, call, 0, rotate), call)
        return (features(q, call, src - dest, rotate) @ keys.mT) * seen

    total = weights(False).sum(-1, keepdim=True)
    return (weights(_rotates(call)) / total.masked_fill(total == 0, torch.inf)).to(q.dtype)


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """Block by block; small blocks several at a time."""
    return _read(q, k, v, None, call)


def advance(k: Tensor, v: Tensor, call: Call, state: State | None) -> State:
    """``(S, n)``, whatever blocks the positions are in: later blocks and the rest of this one see all of them."""
    sums = recurrence.advance(without_padding(features(k, call, 0, _rotates(call)), call), v)
    total = without_padding(features(k, call, 0, False), call).sum(2)
    return (sums, total) if state is None else (state[0] + sums, state[1] + total)


def resume(q: Tensor, k: Tensor, v: Tensor, state: State, call: Call) -> Tensor:
    """From the state before, which may end inside a block."""
    return _read(q, k, v, state, call)


def _read(q: Tensor, k: Tensor, v: Tensor, state: State | None, call: Call) -> Tensor:
    if _rotates(call):
        numerator, denominator = _sums(q, k, v, state, call)
        return (numerator / denominator.masked_fill(denominator == 0, torch.inf)).to(v.dtype)
    before = None if state is None else torch.cat([state[0], state[1][..., None]], -1)
    return _chunked(q, k, v, before, call, rotate=False, averaged=True)


def _sums(q: Tensor, k: Tensor, v: Tensor, state: State | None, call: Call) -> tuple[Tensor, Tensor]:
    """Numerator ``[batch, head, pos, d_value]`` and denominator ``[batch, head, pos, 1]``."""
    ones = torch.ones_like(v[..., :1], dtype=recurrence.exact(v))
    sums, total = (None, None) if state is None else (state[0], state[1][..., None])
    numerator = _chunked(q, k, v.to(ones.dtype), sums, call, rotate=_rotates(call))
    return numerator, _chunked(q, k, ones, total, call, rotate=False)


def _chunked(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor | None, call: Call, rotate: bool, averaged: bool = False
) -> Tensor:
    def both(queries: Tensor, keys: Tensor, piece: slice) -> tuple[Tensor, Tensor]:
        part = call.positions(piece.start, piece.stop)
        return features(queries, part, 0, rotate), without_padding(features(keys, part, 0, rotate), part)

    return recurrence.chunked(
        q, k, v, state=state, features=both, averaged=averaged, block=call["block"], first=call.first
    )


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """Each query's numerator, ``[batch, head, dest, d_value]``, and denominator, ``[batch, head, dest]``, the share of
    queries where that is 0, and the state after the last position: S, ``[batch, head, d_head, d_value]``, and n,
    ``[batch, head, d_head]``."""
    earlier = k.shape[2] - q.shape[2]
    start = advance(k[:, :, :earlier], v[:, :, :earlier], call.positions(0, earlier), None)
    rows = call.positions(earlier)
    numerator, total = _sums(q, k[:, :, earlier:], v[:, :, earlier:], start, rows)
    state, normaliser = advance(k, v, call, None)
    dead = recurrence.share(total[..., 0] == 0, rows)
    return {
        "numerator": numerator,
        "denominator": total[..., 0],
        "dead": dead,
        "state": state,
        "normaliser": normaliser,
    }


def _stochastic(settings: Settings) -> bool:
    return settings["feature"] == "elu" and settings["rotary"] == "none"


operator = Operator(
    name="block-linear",
    version=1,
    source="Chen et al. 2025 (SANA-Video), arXiv 2509.24695; code NVlabs/Sana",
    status="as released",
    choices=(
        "blocks are runs of positions; the code's are runs of frames",
        "rotary='numerator' turns by the position in the sequence; the code by frame, row and column",
        "the paper's text was not read",
    ),
    settings={
        "block": Setting(64, "whole number", "positions of a block, which see each other", at_least=1),
        "feature": Setting("relu", "word", "φ: relu(x), or elu(x) + 1", choices=("relu", "elu")),
        "rotary": Setting("none", "word", "which features are rotated", choices=("none", "numerator")),
    },
    causal="block",
    row_stochastic=_stochastic,
    shift_invariant=False,
    resumes="state",
    form="linear",
    records=("numerator", "denominator", "dead", "state", "normaliser"),
    matrix=matrix,
    efficient=efficient,
    advance=advance,
    resume=resume,
    record=record,
    check_length=lambda settings: settings["block"] + 8,
    block=lambda settings: settings["block"],
)
