"""Recurrent chunks (RAT): a gated recurrence inside chunks, softmax attention over the states at their ends.

Inside each chunk of L positions, from 0: ``k̃_t = g_t k̃_{t−1} + (1 − g_t) k_t`` and the same for v, with a gate for each
channel of a head. Position t attends to the states at the ends of the chunks before its own, and to its own::

    z_t = Σ_c p_tc ṽ_end(c) + p_tt ṽ_t,     p_t = softmax(scale · q_t · [k̃_end(c) …, k̃_t])

then z is multiplied by an output gate. A is one matrix a channel: a position's share in a state differs by channel.
With ``rotary``, queries, end states and the own key turn by the index of their chunk. L = 1 is causal softmax attention
over ``(1 − g) k`` and ``(1 − g) v``; where L is the whole length, q and k do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.layer import LayerShape, OperatorModule, Project, Settings, State
from workbench.attention.operator import Operator
from workbench.attention.primitives import gates, softmax_forms
from workbench.attention.primitives.chunk_states import Layout, present, scan, shares
from workbench.attention.primitives.recurrence import exact, spans, times_state
from workbench.attention.primitives.rotary import rotated
from workbench.attention.settings import Setting
from workbench.errors import UsageError

#: Rows whose weights are made at once.
ROWS = 256


class Module(OperatorModule):
    """The gate of the recurrence, one for the keys' and values' channels alike, and the output gate."""

    def __init__(self, shape: LayerShape, settings: Settings) -> None:
        super().__init__()
        self.heads, self.d_head, self.d_value = shape.n_heads, shape.d_head, shape.d_value
        channels = max(shape.d_head, shape.d_value)
        quantiles = (torch.arange(channels) + 0.5) / channels
        scales = 1 + max(settings["chunk"] - 2, 0) * quantiles  # of the uniform distribution from 1 to chunk − 1
        self.gate = gates.constant_projection(shape.d_model, scales.log().repeat(shape.n_heads))
        if settings["output_gate"]:
            self.output = gates.constant_projection(shape.d_model, torch.zeros(shape.n_heads * shape.d_value))

    def gates(self, x: Tensor, project: Project) -> dict[str, Tensor]:
        """``key`` and ``value``, ``[batch, pos, head, d]``: the same g; ``output``, ``[batch, pos, head, d_value]``."""
        gate = self.gate(x).sigmoid().unflatten(-1, (self.heads, -1))
        by_name = {"key": gate[..., : self.d_head], "value": gate[..., : self.d_value]}
        if hasattr(self, "output"):
            by_name["output"] = self.output(x).sigmoid().unflatten(-1, (self.heads, -1))
        return by_name


def _gate(call: Call, name: str, like: Tensor) -> Tensor:
    """``[batch, head, pos, d]``; 1 at padding, which leaves states as they are."""
    if name not in call.gates:
        raise UsageError(f"recurrent-chunks: expected gates[{name!r}]. Take them from the operator's module.")
    gate = call.gates[name].transpose(1, 2).to(exact(like))
    return gate if call.padding is None else gate.masked_fill(~call.padding[:, None, :, None], 1)


@dataclass(frozen=True)
class _States:
    """Running states of each position, and the states at the ends of chunks: those before, and those that end within.

    Attributes:
        keys, values: ``[batch, head, chunk, L, d]``. present: see `present`.
        earlier: end keys and values ``[batch_or_1, head, chunk, d]`` and their presence ``[batch_or_1, chunk]``.
    """

    layout: Layout
    keys: Tensor
    values: Tensor
    present: Tensor
    earlier: tuple[Tensor, Tensor, Tensor]

    def ends(self, x: Tensor) -> Tensor:
        """``[batch, head, chunk, d]`` of the chunks that end within."""
        return x[:, :, : self.layout.full, -1]


def _states(k: Tensor, v: Tensor, call: Call, state: State | None) -> _States:
    kind, layout = exact(k), Layout(call["chunk"], call.first, k.shape[2])
    none = k.new_zeros(1, k.shape[1], 0, k.shape[3]), v.new_zeros(1, v.shape[1], 0, v.shape[3])
    earlier, own = (*none, torch.ones(1, 0, dtype=torch.bool, device=k.device)), (None, None, None)
    if state is not None:
        earlier, own = (state[0], state[1], state[2]), (state[3], state[4], state[5])
    keys = scan(k.to(kind), _gate(call, "key", k), own[0], layout)
    values = scan(v.to(kind), _gate(call, "value", v), own[1], layout)
    return _States(layout, keys, values, present(call.padding, own[2], layout, k.device), earlier)


def _pattern(q: Tensor, states: _States, call: Call, rows: slice, full: int) -> Tensor:
    """p of some rows, ``[batch, head, row, earlier ends + full + 1]``: of the first `full` ends within, then their own
    state."""
    layout = states.layout
    chunk = layout.place(q.device)[0][rows]
    q = q.to(states.keys.dtype) * call.scale
    own = (q * layout.joined(states.keys)[:, :, rows]).sum(-1, keepdim=True)
    earlier, ends = states.earlier[0].to(q.dtype), states.ends(states.keys)[:, :, :full]
    n = earlier.shape[2]
    if call["rotary"]:
        q = rotated(q, n + chunk, "halves")
        earlier, ends = _turned(earlier, 0), _turned(ends, n)
    scores = torch.cat([times_state(q, earlier.mT), q @ ends.mT, own], -1)
    real = layout.joined(states.present)[:, :, rows]
    keep = [
        states.earlier[2][:, None, None].expand(len(real), 1, q.shape[2], n),
        (torch.arange(full, device=q.device) < chunk[:, None])
        & states.ends(states.present)[:, :, :full, 0][:, :, None],
        real,
    ]
    return softmax_forms.softmax(scores, torch.cat(keep, -1))


def _whole_pattern(q: Tensor, states: _States, call: Call) -> Tensor:
    """Of the last rows, over all ends."""
    length = states.layout.length
    return _pattern(q, states, call, slice(length - q.shape[2], length), states.layout.full)


def _turned(ends: Tensor, start: int) -> Tensor:
    return rotated(ends, torch.arange(ends.shape[2], device=ends.device) + start, "halves")


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[batch, head, channel, dest, src]``: p times the source's share in the states, which depends on the channel."""
    gate, src = _gate(call, "value", k), k.shape[2]
    states = _states(k, torch.zeros_like(gate), call, None)
    layout, p = states.layout, _whole_pattern(q, states, call)
    chunk, inside = layout.place(q.device)
    share = shares(gate, layout)  # [batch, head, chunk, L, L, channel]
    rows = slice(src - q.shape[2], None)
    same = (chunk[rows, None] == chunk)[..., None]
    own = share[:, :, chunk[rows, None], inside[rows, None], inside] * same
    at_end = share[:, :, chunk, -1, inside]
    from_end = p[..., :-1].index_select(3, chunk.clamp(max=max(layout.full - 1, 0))) if layout.full else own[..., 0] * 0
    from_end = from_end * (chunk < layout.full)
    weights = from_end[..., None] * at_end[:, :, None] + p[..., -1:, None] * own
    return weights.movedim(-1, 2).to(q.dtype)


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """L steps for all chunks at once, and softmax over T/L + 1 states."""
    return _read(q, k, v, None, call)


def resume(q: Tensor, k: Tensor, v: Tensor, state: State, call: Call) -> Tensor:
    """From the end states before, and the running one."""
    return _read(q, k, v, state, call)


def _read(q: Tensor, k: Tensor, v: Tensor, state: State | None, call: Call) -> Tensor:
    states = _states(k, v, call, state)
    layout, earlier, ends = states.layout, states.earlier[1].to(states.values.dtype), states.ends(states.values)
    running, n, parts = layout.joined(states.values), states.earlier[1].shape[2], []
    for rows in spans(layout.length, ROWS):  # a tile sees no ends behind it
        full = min(layout.full, (layout.begun + rows.stop - 1) // layout.size)
        p = _pattern(q[:, :, rows], states, call, rows, full)
        z = times_state(p[..., :n], earlier) + p[..., n:-1] @ ends[:, :, :full]
        parts.append((z + p[..., -1:] * running[:, :, rows]).to(v.dtype))
    return torch.cat(parts, 2)


def advance(k: Tensor, v: Tensor, call: Call, state: State | None) -> State:
    """End keys and values ``[batch, head, chunk, d]`` and whether they hold something ``[batch, chunk]``; the running
    key and value ``[batch, head, d]`` and whether they do ``[batch]``, of a chunk that has begun, else 0."""
    states = _states(k, v, call, state)
    layout, batch = states.layout, k.shape[0]
    joined = [
        torch.cat([before.expand(batch, *before.shape[1:]).to(new), new], -2)
        for before, new in zip(states.earlier, (states.ends(states.keys), states.ends(states.values)), strict=False)
    ]
    present = states.present.expand(batch, -1, -1, -1, -1)
    real = torch.cat([states.earlier[2].expand(batch, -1), states.ends(present)[:, 0, :, 0]], 1)
    at = layout.begun + layout.length - 1
    running = [x[:, :, at // layout.size, at % layout.size] for x in (states.keys, states.values)]
    holds = present[:, 0, at // layout.size, at % layout.size, 0]
    if (at + 1) % layout.size == 0:
        running, holds = [torch.zeros_like(x) for x in running], torch.zeros_like(holds)
    return (*joined, real, *running, holds)


def finish(z: Tensor, call: Call) -> Tensor:
    """Times the output gate."""
    if not call["output_gate"]:
        return z
    return z * _output(call)[:, :, -z.shape[2] :].to(z.dtype)


def _output(call: Call) -> Tensor:
    if "output" not in call.gates:
        raise UsageError("recurrent-chunks: expected gates['output']. Take them from the operator's module.")
    return call.gates["output"].transpose(1, 2)


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """The gate ``[batch, head, src, d_value]``, the states at the ends of chunks ``[batch, head, chunk, d]``, and the
    pattern over them, ``[batch, head, dest, chunk + 1]``, whose last column is the own state."""
    states = _states(k, v, call, None)
    return {
        "gate": _gate(call, "value", k),
        "chunk_keys": states.ends(states.keys),
        "chunk_values": states.ends(states.values),
        "chunk_pattern": _whole_pattern(q, states, call),
    }


operator = Operator(
    name="recurrent-chunks",
    version=1,
    source="Wei et al. 2025 (RAT), arXiv 2507.04416; code CLAIRE-Labo/RAT",
    status="as published",
    choices=(
        "q and k are the layer's own, one set a head; RAT shares two sets among its heads",
        "no rotation by the chunk unless `rotary` is set: a model that rotates q and k has done so by their positions",
        "the last chunk need not be full",
        "gate biases at the quantiles of log U(1, L − 1) in each head instead of draws; 0 for L ≤ 2",
        "where keys and values have different widths, their channels share gates as far as both go",
    ),
    settings={
        "chunk": Setting(16, "whole number", "positions of a chunk", at_least=1),
        "rotary": Setting(False, "flag", "turn queries and keys by the index of their chunk"),
        "output_gate": Setting(True, "flag", "multiply z by a gate of each channel"),
    },
    needs=("gates",),
    invents="gates: projections of x with weights 0, whose biases give time scales up to the chunk, and halve z",
    causal="token",
    row_stochastic=False,
    shift_invariant=False,
    matrix_axis="channel",
    resumes="state",
    form="chunk states",
    records=("gate", "chunk_keys", "chunk_values", "chunk_pattern"),
    matrix=matrix,
    efficient=efficient,
    advance=advance,
    resume=resume,
    finish=finish,
    record=record,
    module=Module,
    check_length=lambda settings: 2 * settings["chunk"] + 8,
)
