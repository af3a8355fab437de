"""Checks of an operator's numbers: the efficient form is the matrix, the last rows are those of the whole, and states
take up where the positions before ended."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from workbench.attention.operator import BoundOperator
from workbench.errors import UsageError
from workbench.testing.operator_case import (
    BATCH,
    D_VALUE,
    HEADS,
    Case,
    cases,
    distance,
    is_exact,
    kinds,
    long,
    sample,
)

#: Largest relative differences of values and of gradients, by precision.
TOLERANCES = {torch.float64: (1e-10, 1e-9), torch.float32: (2e-4, 2e-3)}


def has_shapes(bound: BoundOperator) -> Iterator[str]:
    """z and A have their shapes and the precision of v, in bfloat16 too, are finite, and leave their inputs alone."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for case in cases(bound, dtype=dtype):
            n, before = case.length, {name: tensor.clone() for name, tensor in case.tensors.items()}
            expected: dict[str, tuple[int, ...]] = {"z": (BATCH, HEADS, n, D_VALUE)}
            results = {"z": case.z()}
            if bound.operator.matrix_axis != "none":
                channels = (D_VALUE,) if bound.operator.matrix_axis == "channel" else ()
                expected["A"], results["A"] = (BATCH, HEADS, *channels, n, n), case.pattern()
            for name, result in results.items():
                if tuple(result.shape) != expected[name]:
                    yield f"{name} has shape {tuple(result.shape)} at {n} positions; expected {expected[name]}."
                if result.dtype != dtype:
                    yield f"{name} is {result.dtype} where q, k and v are {dtype}. Return the precision of v."
                if not result.isfinite().all():
                    yield f"{name} is not finite in {dtype} at {n} positions."
            if any(not torch.equal(tensor, before[name]) for name, tensor in case.tensors.items()):
                yield "it writes into q, k, v or x. Work on copies."
            if not torch.equal(case.z(), results["z"]):
                yield "a second call with the same inputs gives another z. Draw nothing at random."


def equals_its_matrix(bound: BoundOperator) -> Iterator[str]:
    """The efficient form against the matrix, values and gradients; without a matrix, float32 against float64."""
    if bound.operator.matrix_axis == "none":
        yield from _is_precise(bound)
        return
    for dtype, (tolerance, of_gradients) in TOLERANCES.items():
        for case in (*cases(bound, dtype=dtype), *_shared_keys(bound, dtype)):
            fast, slow = case.gradients(), case.gradients(explicit=True)
            rounding = 0.0 if dtype == torch.float64 else _rounding(case, slow["z"])
            where = f"{dtype}, {case.length} positions, call.causal={case.call.causal}"
            for name in slow:
                limit = max(tolerance, rounding) if name == "z" else max(of_gradients, 5 * rounding)
                if (error := distance(fast[name], slow[name])) > limit:
                    what = "z" if name == "z" else f"the gradient of {name}"
                    yield f"{what} of the efficient form differs from A v by {error:.2g} ({where})."
    if bound.operator.factors is not None:
        for case in cases(bound):
            first, second = bound.operator.factors(case.q, case.k, case.call)
            if distance(second @ first, case.pattern()) > 1e-10:
                yield f"A is not the product A₂ A₁ of its factors at {case.length} positions."


def _rounding(case: Case, z: Tensor) -> float:
    """Some times as far as A v itself is from that in float64, within a limit: where weights cancel, no form is
    precise."""
    module = None if case.module is None else deepcopy(case.module).double()
    data = {name: x.double() if x.is_floating_point() else x for name, x in case.plain.data.items()}
    double = {name: tensor.double() for name, tensor in case.tensors.items()}
    exact = replace(case, **double, module=module, plain=replace(case.plain, data=data)).explicit()
    return min(10 * distance(z, exact), 2e-3)


def _shared_keys(bound: BoundOperator, dtype: torch.dtype) -> Iterator[Case]:
    """Two key/value heads for four query heads: copies of them."""
    for kind in kinds(bound):
        case = sample(bound, long(bound), **kind, dtype=dtype, n_kv_heads=2)
        yield replace(case, **{name: getattr(case, name)[:, [0, 0, 2, 2]] for name in ("k", "v")})


def _is_precise(bound: BoundOperator) -> Iterator[str]:
    case = sample(bound, 7)
    try:
        case.pattern()
        yield "matrix_axis is 'none', and it has a matrix. Write 'head', 'channel' or 'two'."
    except UsageError:
        pass
    for double, single in zip(cases(bound), cases(bound, dtype=torch.float32), strict=True):
        exact, rounded = double.gradients(), single.gradients()
        for name, value in exact.items():
            if (error := distance(rounded[name], value)) > (2e-3 if name == "z" else 2e-2):
                what = "z" if name == "z" else f"the gradient of {name}"
                yield f"{what} in float32 differs from that in float64 by {error:.2g} at {double.length} positions."


def ends_like_the_whole(bound: BoundOperator) -> Iterator[str]:
    """The last rows alone: z and A, where keys or a state suffice; an operator that declares that they do not."""
    differs, has_matrix = False, bound.operator.matrix_axis != "none"
    for case in cases(bound):
        whole, pattern = case.z(), case.pattern() if has_matrix else None
        for dest in sorted({1, 3, case.length // 2} & set(range(1, case.length))):
            where = f"the last {dest} of {case.length} positions (call.causal={case.call.causal})"
            try:
                z = case.z(dest)
                rows = None if pattern is None else case.pattern(dest)
            except UsageError as error:
                if bound.operator.resumes != "no":
                    yield f"it refuses {where}: {error}"
                differs = True
                continue
            if rows is not None and distance(bound.apply(rows, case.v, case.call), z) > 1e-10:
                yield f"z of the efficient form differs from A v for {where}."
            same = distance(z, whole[:, :, -dest:]) <= 1e-10
            if rows is not None and pattern is not None:
                same &= distance(rows, pattern[..., -dest:, :]) <= 1e-10
            differs |= not same
            if not same and bound.operator.resumes != "no":
                yield f"{where} give other rows of z or A than the whole. q are the last positions of k."
    pair = bound.operator.role == "pair"  # its rows are no positions of its keys
    if bound.operator.resumes == "no" and not differs and is_exact(bound, "resumes") and not pair:
        yield "resumes is 'no', but the last rows alone give what the whole gives. Write 'keys' or 'state'."


def keeps_its_state(bound: BoundOperator) -> Iterator[str]:
    """At lengths that no chunk divides: the state of pieces is that of the whole, and z goes on from it."""
    if bound.operator.resumes != "state":
        return
    for kind in kinds(bound):
        for padding in (False, True):
            case = sample(bound, long(bound), **kind)
            yield from _state_in_pieces(_padded(case) if padding else case)
        yield from _shared_state(sample(bound, long(bound), **kind))
    single = sample(bound, long(bound), dtype=torch.float32)
    at = single.length // 3
    z = bound.z(
        single.q[:, :, at:], single.k[:, :, at:], single.v[:, :, at:], single.call.positions(at), _state(single, at)
    )
    if distance(z, single.z()[:, :, at:]) > TOLERANCES[torch.float32][0]:
        yield "in float32, z from a state differs from that of the whole."


def _padded(case: Case) -> Case:
    padding = torch.ones(case.q.shape[0], case.length, dtype=torch.bool)
    padding[0, : case.length // 4] = padding[1, -3:] = False
    return case.with_call(padding=padding)


def _state(case: Case, stop: int, start: int = 0, state: tuple[Tensor, ...] | None = None) -> tuple[Tensor, ...]:
    at = (slice(None), slice(None), slice(start, stop))
    return case.bound.advance(case.k[at], case.v[at], case.call.positions(start, stop), state)


def _state_in_pieces(case: Case) -> Iterator[str]:
    bound, n = case.bound, case.length
    whole, z = _state(case, n), case.z()
    for cuts in ([1], [n - 1], [min(64, n - 2)], list(range(5, n - 1, 33))):
        state, start = None, 0
        for stop in (*cuts, n):
            if start:
                at = (slice(None), slice(None), slice(start, None))
                rest = bound.z(case.q[at], case.k[at], case.v[at], case.call.positions(start), state)
                if distance(rest, z[:, :, start:]) > 1e-10:
                    yield f"z from the state of {start} positions differs from that of the whole ({n} positions)."
            state, start = _state(case, stop, start, state), stop
        assert state is not None
        if any(distance(part, entire) > 1e-10 for part, entire in zip(state, whole, strict=True)):
            yield f"the state after pieces that end at {cuts} and {n} differs from the state after all {n} positions."


def _shared_state(case: Case) -> Iterator[str]:
    """A state of one example, for three rows that begin with it."""
    bound, at = case.bound, case.length // 2
    case = replace(case, **{name: _same_start(name, tensor, at) for name, tensor in case.tensors.items()})
    state = _state(case.rows([0]), at)
    z = bound.z(case.q[:, :, at:], case.k[:, :, at:], case.v[:, :, at:], case.call.positions(at), state)
    if distance(z, case.z()[:, :, at:]) > 1e-10:
        yield "z of three rows from one state that they share differs from that of the whole rows."
    pieces = (slice(None), slice(None), slice(at, None))
    after = bound.advance(case.k[pieces], case.v[pieces], case.call.positions(at), state)
    if any(distance(part, entire) > 1e-10 for part, entire in zip(after, _state(case, case.length), strict=True)):
        yield "the state of three rows that go on from one shared state differs from that of the whole rows."


def _same_start(name: str, tensor: Tensor, at: int) -> Tensor:
    axis = 1 if name == "x" else 2
    head, rest = tensor.narrow(axis, 0, at)[:1], tensor.narrow(axis, at, tensor.shape[axis] - at)
    return torch.cat([head.expand(tensor.shape[0], *head.shape[1:]), rest], axis)


def records_what_it_names(bound: BoundOperator) -> Iterator[str]:
    """`records` are the keys of `record`, everywhere, and what it records is finite."""
    for case in cases(bound):
        recorded = bound.record(case.q, case.k, case.v, case.call)
        if set(recorded) != set(bound.operator.records):
            yield f"record gives {sorted(recorded)}, and records names {sorted(bound.operator.records)}."
        for name, value in recorded.items():
            if value.is_floating_point() and not value.isfinite().all():
                yield f"the record {name!r} is not finite at {case.length} positions."
