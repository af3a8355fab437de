"""PARO as reconstructed: the reference's toy pattern, identities, and the sign that the sources print."""

from dataclasses import replace

import pytest
import torch

from tests.workbench.attention.sparse_cases import check_forms, check_padding, close, dense, each, random
from workbench.attention.operator import operator
from workbench.attention.operators import pattern_reordered
from workbench.errors import UsageError

CPU = torch.device("cpu")


def paro(**settings):
    return operator("pattern-reordered", **{"block": 8, **settings})


def columns():
    """4 × 4 × 4 positions, each of which attends to its row and column in all frames."""
    at = torch.arange(64) % 16
    return (at[:, None] == at).double() / 4


def test_the_toy_pattern():
    call = paro().call(grid=(4, 4, 4), causal=False)
    judged = [pattern_reordered.metrics(columns(), order, call) for order in pattern_reordered.orders((4, 4, 4), CPU)]
    # frames, rows, columns; frames, columns, rows; rows, frames, …; in itertools' order
    assert [float(sparse) for sparse, _, _ in judged] == [0.5, 0.5, 0.75, 0.875, 0.75, 0.875]
    assert [float(incoherence) for _, incoherence, _ in judged] == pytest.approx([8, 8, 4, 2, 4, 2])
    filled = [float((total > 0).double().mean()) for _, _, total in judged]
    assert filled == [0.5, 0.5, 0.25, 0.125, 0.25, 0.125]


@pytest.mark.parametrize(("alpha", "sign", "best"), [(1, "mended", 3), (1, "printed", 0), (0, "printed", 3)])
def test_the_sign_trap(alpha, sign, best):
    """As printed, the order with the fewest sparse blocks wins."""
    bound = paro(alpha=alpha, sign=sign)
    q = torch.eye(16, dtype=torch.float64).repeat(4, 1)[None, None] * 30
    call = bound.call(grid=(4, 4, 4), causal=False)
    parts = bound.record(q, q, q, call)
    close(parts["sparse"][0, 0], torch.tensor([0.5, 0.5, 0.75, 0.875, 0.75, 0.875], dtype=torch.float64))
    assert int(parts["order"]) == best


def test_orders_are_permutations_of_axes():
    orders = pattern_reordered.orders((2, 3, 2), CPU)
    assert orders[0].tolist() == list(range(12))
    assert orders[3].tolist() == [f * 6 + h * 2 + w for h in range(3) for w in range(2) for f in range(2)]
    assert len(pattern_reordered.orders((3, 4), CPU)) == 2 and len(pattern_reordered.orders((5,), CPU)) == 1


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    "call", [{"grid": (2, 3, 4), "before": 1}, {"grid": (5, 7)}, {"grid": (3, 4, 3)}, {"grid": ()}]
)
def test_all_forms(call, causal, monkeypatch):
    length = max(1, int(torch.tensor(call["grid"] or (29,)).prod())) + call.get("before", 0)
    for block in (4, 7):
        q, k, v = random(length)
        bound = paro(block=block, density=0.4)
        check_forms(bound, q, k, v, bound.call(scale=0.9, causal=causal, **call), monkeypatch)


def test_one_position(monkeypatch):
    q, k, v = random(1)
    check_forms(paro(), q, k, v, paro().call(), monkeypatch)


@pytest.mark.parametrize("causal", [True, False])
def test_all_blocks_in_any_order_are_dense(causal):
    q, k, v = random(36)
    bound = paro(density=1)
    for order in range(6):
        data = {"order": torch.full((1, 4), order), "blocks": torch.ones(1, 4, 5, 5, dtype=torch.bool)}
        call = bound.call(scale=0.4, causal=causal, grid=(3, 4, 3), data=data)
        close(bound.z(q, k, v, call), dense(q, k, v, 0.4, causal))
    close(bound.z(q, k, v, bound.call(scale=0.4, causal=causal, grid=(3, 4, 3))), dense(q, k, v, 0.4, causal))


def test_blocks_are_those_of_the_chosen_order():
    """By hand: put q, k and v in the order, attend under the mask of blocks, put z back."""
    q, k, v = random(36)
    bound = paro(density=0.5)
    call = bound.call(scale=0.9, causal=False, grid=(3, 4, 3))
    parts, z = bound.record(q, k, v, call), bound.z(q, k, v, call)
    assert len(parts["order"].unique()) > 1
    for example in range(2):
        for head in range(4):
            order = pattern_reordered.orders((3, 4, 3), CPU)[parts["order"][example, head]]
            queries, keys, values = (x[example, head, order] for x in (q, k, v))
            mask = parts["blocks"][example, head].repeat_interleave(8, 0).repeat_interleave(8, 1)[:36, :36]
            own = (0.9 * queries @ keys.T).masked_fill(~mask, -torch.inf).softmax(-1) @ values
            close(z[example, head, order], own)
    assert (parts["blocks"].sum(-1) >= 3).all() and (parts["blocks"].sum(-1) <= 4).all()  # of 5, and the own


def test_calibration_serves_other_prompts():
    """Order and blocks of one prompt for others: then a causal model stays causal to the token."""
    q, k, v = random(24, batch=1)
    other = random(24, batch=3, seed=1)
    bound = paro(block=4, density=0.3)
    for grid in ((2, 3, 4), ()):
        call = bound.call(scale=0.4, grid=grid)
        data = pattern_reordered.calibrated(q, k, call)
        fixed = replace(call, data={name: data[name] for name in ("order", "blocks")})
        close(bound.z(q, k, v, fixed), bound.z(q, k, v, call))
        seen = bound.pattern(other[0], other[1], fixed) > 0
        assert torch.equal(seen, (bound.pattern(q, k, call) > 0).expand_as(seen))
        z = bound.z(*other, fixed)
        changed = each(lambda x: torch.cat([x[:, :, :15], 9 * x[:, :, 15:].flip(2)], 2), *other)
        close(bound.z(*changed, fixed)[:, :, :15], z[:, :, :15])


def test_padding():
    q, k, v = random(14)
    bound = paro(block=3, density=0.4)
    for causal in (True, False):
        check_padding(bound, q, k, v, bound.call(scale=0.4, causal=causal))
    with pytest.raises(UsageError, match="all queries together"):
        bound.z(q[:, :, 1:], k, v, bound.call())
