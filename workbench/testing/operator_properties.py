"""Checks of what an operator declares. What it says that it does not do, it must really not do for some input."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from workbench.attention.operator import BoundOperator
from workbench.testing.operator_case import (
    BATCH,
    HEADS,
    Case,
    Kind,
    accepts,
    cases,
    distance,
    is_exact,
    kinds,
    lengths,
    longest,
    sample,
    shows_in_few,
)

#: What counts as equal in float64.
EQUAL = 1e-10

#: Random cases that are tried for an example of something.
TRIES = 3


def rows_sum_to_one(bound: BoundOperator) -> Iterator[str]:
    """Where declared: rows of A are non-negative and sum to one."""
    if bound.operator.matrix_axis == "none":
        if bound.declared("row_stochastic"):
            yield "row_stochastic is declared, and it has no matrix. Write row_stochastic=False."
        return
    violated = False
    for case in cases(bound):
        pattern = case.pattern()
        violated |= bool((pattern < -EQUAL).any() or ((pattern.sum(-1) - 1).abs() > 1e-8).any())
    if bound.declared("row_stochastic") and violated:
        yield "row_stochastic is declared, and a row of A has a negative entry or does not sum to one."
    if is_exact(bound, "row_stochastic") and not bound.declared("row_stochastic") and not violated:
        yield "row_stochastic is declared False, and every row of A is non-negative and sums to one."


def is_causal_as_declared(bound: BoundOperator) -> Iterator[str]:
    """What later positions change, through q, k, v and the layer's input."""
    for causal in sorted({kind["causal"] for kind in kinds(bound)}):
        strict = bound.causal == "token" or (bound.causal == "model" and causal)
        earlier = before_block = False
        for kind in kinds(bound):
            if kind["causal"] == causal:
                yield from _attends_back(bound, kind)
                changed = _rows_changed_by_later_ones(bound, kind)
                earlier, before_block = earlier or changed[0], before_block or changed[1]
        if (strict and earlier) or (bound.causal == "block" and before_block):
            row = "an earlier row" if strict else f"a row before its block of {bound.block}"
            yield f"a later position changes {row} of z, and causal is {bound.causal!r} (call.causal={causal})."
        blocks = bound.causal == "block" and bound.block > 1
        loose = bound.causal == "no" or blocks or bound.causal == ("mask" if causal else "model")
        if is_exact(bound, "causal") and loose and not earlier:
            yield (
                f"causal is {bound.causal!r}, and with call.causal={causal} no later position changes an earlier row. "
                f"Write {'model' if causal else 'token'!r}."
            )


def _attends_back(bound: BoundOperator, kind: Kind) -> Iterator[str]:
    """Above the diagonal A is 0."""
    causal = bound.causal == "token" or (bound.causal in ("model", "mask") and kind["causal"])
    if not causal or bound.operator.matrix_axis == "none":
        return
    for length in lengths(bound):
        if bool(sample(bound, length, **kind).pattern().triu(1).any()):
            yield f"A has entries above the diagonal at {length} positions, and causal is {bound.causal!r}."
            return


def _rows_changed_by_later_ones(bound: BoundOperator, kind: Kind) -> tuple[bool, bool]:
    """Whether a change of some position and all behind it changes an earlier row, and one before that position's
    block."""
    earlier = before_block = False
    for seed in range(1 if bound.causal == "token" else TRIES):
        case = sample(bound, longest(bound), seed=seed, **kind)
        z, n, first, size = case.z(), case.length, case.call.before, bound.block
        for position in sorted({1, 5, n // 3, n // 2, n - 2} & set(range(1, n))):
            start = first + (position - first) // size * size if position >= first else 0
            other = case.new(seed + 50, start=position).z()
            earlier |= distance(other[:, :, :position], z[:, :, :position]) > EQUAL
            before_block |= distance(other[:, :, :start], z[:, :, :start]) > EQUAL
        if earlier and bound.causal != "block":
            break
    return earlier, before_block


def heads_are_as_declared(bound: BoundOperator) -> Iterator[str]:
    """What head 0 changes in the others."""
    changed = False
    for seed in range(TRIES):
        for kind in kinds(bound):
            case = sample(bound, longest(bound), seed=seed, **kind)
            other = case.new(seed + 50, names="qkv", heads=0)
            changed |= distance(other.z()[:, 1:], case.z()[:, 1:]) > EQUAL
        if changed:
            break
    if bound.declared("heads_independent") and changed:
        yield "heads_independent is declared, and q, k or v of head 0 changes z of another head."
    if is_exact(bound, "heads_independent") and not bound.declared("heads_independent") and not changed:
        yield "heads_independent is declared False, and q, k and v of head 0 change no other head."


def rows_are_independent(bound: BoundOperator) -> Iterator[str]:
    """A row of the batch is what it is alone, and permuting rows permutes z."""
    for case in cases(bound):
        z, order = case.z(), [2, 0, 1]
        if distance(case.rows(order).z(), z[order]) > EQUAL:
            yield f"permuting the rows of the batch does not permute z ({case.length} positions)."
        if any(distance(case.rows([row]).z(), z[[row]]) > EQUAL for row in range(BATCH)):
            yield f"z of a row of the batch depends on the other rows ({case.length} positions)."


def is_linear_as_declared(bound: BoundOperator) -> Iterator[str]:
    """Whether z of ``v + 2 w`` is z of v plus twice z of w."""
    linear = True
    for case in cases(bound):
        other = case.new(60, names="v")
        both = case.new(60, names="v")
        both.v.copy_(case.v + 2 * other.v)
        linear &= distance(both.z(), case.z() + 2 * other.z()) <= EQUAL
    if bound.declared("linear_in_v") and not linear:
        yield "linear_in_v is declared, and z of v + 2 w differs from z of v plus twice z of w."
    if is_exact(bound, "linear_in_v") and not bound.declared("linear_in_v") and linear:
        yield "linear_in_v is declared False, and z is linear in v."


def reads_what_it_says(bound: BoundOperator) -> Iterator[str]:
    """`ignores` names exactly what does not matter of q and k."""
    for name in ("q", "k"):
        pairs = ((case.new(70, names=name).z(), case.z()) for case in cases(bound))
        matters = any(distance(other, z) > EQUAL for other, z in pairs)
        if matters and name in bound.operator.ignores:
            yield f"ignores names {name!r}, and {name} changes z."
        if is_exact(bound, "ignores") and not matters and name not in bound.operator.ignores:
            yield f"{name} does not change z. Write ignores=({name!r},)."


def padding_contributes_nothing(bound: BoundOperator) -> Iterator[str]:
    """What padding holds does not matter; A is 0 at it; where positions are counted from does not matter, as declared;
    a row that sees nothing is 0."""
    for kind in kinds(bound):
        for length in lengths(bound):
            case = sample(bound, length, **kind)
            for left, right in ((2, 0), (0, 4), (2, 4)):
                if left + right < case.length:
                    yield from _padding_is_not_read(_padded(case, left, right), left, right)
            yield from _sees_nothing(_padded(case, case.length, 0))
    yield from _positions_count_as_declared(bound)


def _padded(case: Case, left: int, right: int) -> Case:
    padding = torch.ones(BATCH, case.length, dtype=torch.bool)
    padding[:2, :left] = False
    padding[:2, case.length - right :] = False  # the last row of the batch has none
    return case.with_call(padding=padding)


def _padding_is_not_read(case: Case, left: int, right: int) -> Iterator[str]:
    n, bound = case.length, case.bound
    other, where = case, f"{left} padding positions on the left and {right} on the right of {n}"
    for start, stop in ((0, left), (n - right, n)):
        other = other.new(80, start, stop)
    for name in ("q", "k", "v", "x"):  # the row without padding stays
        getattr(other, name)[2] = getattr(case, name)[2]
    z, real = case.z(), slice(left, n - right)
    if distance(other.z()[:2, :, real], z[:2, :, real]) > EQUAL:
        yield f"what padding holds changes z of other positions ({where}, call.causal={case.call.causal})."
    if distance(z[2:], case.with_call(padding=None).z()[2:]) > EQUAL:
        yield f"a row without padding changes where another has some ({where})."
    if left and bound.keeps_causality and (case.call.causal or bound.causal == "token") and bool(z[:2, :, :left].any()):
        yield f"a padding position that sees nothing has a z that is not 0 ({where})."
    if bound.operator.matrix_axis == "none":
        return
    pattern = case.pattern()
    if bool(pattern[:2, ..., :left].any() or pattern[:2, ..., n - right :].any()):
        yield f"A is not 0 at padding ({where})."
    if distance(case.explicit()[:, :, real], z[:, :, real]) > EQUAL:
        yield f"the efficient form differs from A v with {where} (call.causal={case.call.causal})."


def _sees_nothing(case: Case) -> Iterator[str]:
    """All of two rows is padding: z, A and no gradient that is not a number."""
    where = f"rows that see nothing ({case.length} positions, call.causal={case.call.causal})"
    if bool(case.z()[:2].any()):
        yield f"z of {where} is not 0."
    if case.bound.operator.matrix_axis != "none" and bool(case.pattern()[:2].any()):
        yield f"A of {where} is not 0."
    yield from _gradients_are_finite(case, where)


def _gradients_are_finite(case: Case, where: str) -> Iterator[str]:
    for explicit in (False, True) if case.bound.operator.matrix_axis != "none" else (False,):
        for name, value in case.gradients(explicit).items():
            if not value.isfinite().all():
                yield f"{'z' if name == 'z' else f'the gradient of {name}'} is not finite with {where}."


def honours_the_models_mask(bound: BoundOperator) -> Iterator[str]:
    """Softmax forms: what the model hides stays hidden, and rows that see nothing are 0."""
    if bound.operator.mask is None:
        return
    for case in cases(bound):
        n = case.length
        visible = torch.rand(BATCH, HEADS, n, n, generator=torch.Generator().manual_seed(n)) < 0.6
        visible = visible.tril() if case.call.causal else visible
        visible[:, :, n // 2] = False
        case = case.with_call(visible=visible)
        pattern, z, where = case.pattern(), case.z(), f"a mask of the model's ({n} positions)"
        if bool(pattern.masked_fill(visible, 0).any()):
            yield f"A has entries that call.visible hides, with {where}."
        if distance(z, case.explicit()) > EQUAL:
            yield f"the efficient form differs from A v with {where}."
        if bool(z[:, :, n // 2].any() or pattern[:, :, n // 2].any()):
            yield f"z or A of a row that sees nothing is not 0, with {where}."
        if bound.declared("row_stochastic") and not _rows_are_stochastic(pattern):
            yield f"rows of A do not sum to one, with {where}."
        yield from _gradients_are_finite(case, where)


def _rows_are_stochastic(pattern: Tensor) -> bool:
    sums = pattern.sum(-1)
    return bool((((sums - 1).abs() < 1e-8) | (sums == 0)).all())


def _positions_count_as_declared(bound: BoundOperator) -> Iterator[str]:
    """The unpadded run against the same positions between padding; grids and data of each position have no such."""
    trial, longer = (bound.operator.trial(BATCH, n) for n in (7, 12))
    shapes = [{name: value.shape for name, value in t.get("data", {}).items()} for t in (trial, longer)]
    sequences = [kind for kind in kinds(bound) if not (kind["on_grid"] and trial.get("grid"))]
    if not sequences or shapes[0] != shapes[1]:
        return
    declared, differs = bound.declared("shift_invariant"), False
    for kind, length in product(sequences, lengths(bound)):
        case = sample(bound, length, **kind)
        for left, right in ((0, 4), (6, 0), (6, 4)):
            if not accepts(bound, left + length + right):
                continue
            padded = _between_padding(case, kind, left, right)
            same = distance(padded.z()[:, :, left : left + case.length], case.z()) <= EQUAL
            always = not left and (bound.causal == "token" or (bound.causal == "model" and case.call.causal))
            differs |= not same
            if not same and (declared or always):
                yield (
                    f"{left} padding positions on the left and {right} on the right change z of {case.length} others "
                    f"(call.causal={case.call.causal})."
                    + ("" if always else " If it counts positions from the first one, write shift_invariant=False.")
                )
    if is_exact(bound, "shift_invariant") and not declared and not differs:
        yield "shift_invariant is declared False, and padding on either side changes nothing."


def _between_padding(case: Case, kind: Kind, left: int, right: int) -> Case:
    n = case.length
    longer = sample(case.bound, left + n + right, seed=90, **kind)
    for name, tensor in case.tensors.items():
        getattr(longer, name).narrow(1 if name == "x" else 2, left, n).copy_(tensor)
    padding = torch.zeros(BATCH, left + n + right, dtype=torch.bool)
    padding[:, left : left + n] = True
    return longer.with_call(padding=padding)


def shows_its_structure(bound: BoundOperator) -> Iterator[str]:
    """A softmax form that hides sources of a long run hides some at its `check_length`."""
    mask, short = bound.operator.mask, bound.check_length
    sequences = [kind for kind in kinds(bound) if not (kind["on_grid"] and bound.operator.trial(1, short).get("grid"))]
    if mask is None or not shows_in_few(bound):
        return

    def hides(length: int) -> bool:
        calls = [sample(bound, length, batch=1, **kind) for kind in sequences if accepts(bound, length)]
        return any(_hides_earlier(mask(case.q, case.k, case.call)) for case in calls)

    if hides(3 * short) and not hides(short):
        yield f"check_length={short} is too short: it hides nothing of so few positions, and something of more."


def _hides_earlier(mask: Tensor) -> bool:
    return not bool((mask | ~torch.ones(mask.shape[-2:], dtype=torch.bool).tril()).all())
