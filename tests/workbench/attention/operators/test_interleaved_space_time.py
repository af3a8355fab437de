"""Interleaved space and time: the reference's numbers, and attention under two masks."""

import pytest
import torch
from torch.nn import functional as F

from tests.workbench.attention.operators.mask_cases import close, proof, random, sines
from workbench.attention.operator import operator
from workbench.attention.operators import interleaved_space_time
from workbench.errors import UsageError

NAME = "interleaved-space-time"


def step(x: torch.Tensor, axis: str) -> torch.Tensor:
    """``x + SA(x)`` along an axis."""
    bound = operator(NAME, axis=axis)
    return x + bound.z(x, x, x, bound.call(scale=2**-0.5, causal=False, grid=(2, 2)))


def test_the_references_numbers_by_two_calls_with_a_residual_between():
    x = sines((2, 2, 2), 1).view(1, 1, 4, 2)
    space = step(x, "space")
    expected = [0.712448, 0.602357, 0.355008, -0.247975, -0.625295, -0.017458, 0.394083, 0.782933]
    close((space - x).flatten(), torch.tensor(expected, dtype=torch.float64), 1e-5)
    both = step(space, "time")
    expected = [3.093462, 3.015025, 1.072446, -1.60826, -3.105874, -0.557691, 2.09105, 3.489087]
    close(both.flatten(), torch.tensor(expected, dtype=torch.float64), 1e-5)
    assert both.sum().item() == pytest.approx(7.489245, abs=1e-5)
    other = step(step(x, "time"), "space")
    assert other.sum().item() == pytest.approx(7.607333, abs=1e-5)
    assert (other - both).abs().max().item() == pytest.approx(0.3179, abs=1e-4)
    joint = x + F.scaled_dot_product_attention(x, x, x)
    assert joint.sum().item() == pytest.approx(3.697405, abs=1e-5)


def test_the_references_composed_row():
    x = sines((2, 2, 2), 1).view(1, 1, 4, 2)
    after = step(x, "space")
    patterns = []
    for values, axis in ((x, "space"), (after, "time")):
        bound = operator(NAME, axis=axis)
        patterns.append(bound.pattern(values, values, bound.call(scale=2**-0.5, causal=False, grid=(2, 2))))
    composed = (patterns[1] @ patterns[0])[0, 0, 0]
    close(composed, torch.tensor([0.812036, 0.183383, 0.003635, 0.000946], dtype=torch.float64), 1e-5)


SHAPES = {n * 3 + before: {"grid": (n, 3), "before": before} for n, before in ((1, 0), (4, 0), (4, 1), (7, 0))}


@pytest.mark.parametrize("axis", ["both", "space", "time"])
def test_both_forms_agree(axis):
    bound = operator(NAME, axis=axis)
    proof(bound, list(SHAPES), values=SHAPES.__getitem__, last_rows=axis != "both")
    proof(bound, [24], values=lambda length: {"grid": (4, 2, 3)}, last_rows=axis != "both")


def test_it_is_attention_under_two_masks_in_a_row():
    q, k, v = random(2, 2, 12, 4)
    position = torch.arange(12)
    frame, place = position // 3, position % 3
    bound = operator(NAME)
    call = bound.call(scale=0.5, causal=False, grid=(4, 3))
    inner = F.scaled_dot_product_attention(q, k, v, attn_mask=frame[:, None] == frame, scale=0.5)
    expected = F.scaled_dot_product_attention(q, k, inner, attn_mask=place[:, None] == place, scale=0.5)
    close(bound.z(q, k, v, call), expected)
    first, second = interleaved_space_time.factors(q, k, call)
    close(second @ first, bound.pattern(q, k, call))
    record = bound.record(q, k, v, call)
    close(record["space"], first)
    close(record["time"], second)


def test_one_frame_and_frames_of_one_place():
    q, k, v = random(1, 1, 5, 4)
    for grid, axis in (((1, 5), "time"), ((5, 1), "space")):
        bound = operator(NAME, axis=axis)
        close(bound.z(q, k, v, bound.call(causal=False, grid=grid)), v)


def test_permuting_frames_permutes_what_they_give():
    q, k, v = random(1, 1, 12, 4)
    order = torch.arange(12).view(4, 3)[[2, 0, 3, 1]].flatten()
    bound = operator(NAME)
    call = bound.call(causal=False, grid=(4, 3))
    other = bound.z(q[:, :, order], k[:, :, order], v[:, :, order], call)
    close(other, bound.z(q, k, v, call)[:, :, order])


def test_last_rows_of_both_and_a_sequence_are_refused():
    q, k, v = random(1, 1, 12, 4)
    bound = operator(NAME)
    with pytest.raises(UsageError, match="expected 12, as k has"):
        bound.z(q[:, :, -3:], k, v, bound.call(grid=(4, 3)))
    with pytest.raises(UsageError, match="interleaved-space-time needs a grid"):
        bound.z(q, k, v, bound.call())
