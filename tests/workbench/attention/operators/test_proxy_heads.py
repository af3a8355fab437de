"""ProxyAttn as reconstructed: the reference's printed numbers and its identities."""

import pytest
import torch

from tests.workbench.attention.sparse_cases import check_forms, check_padding, close, dense, random, waves
from workbench.attention.operator import operator
from workbench.errors import UsageError


def proxy(**settings):
    return operator("proxy-heads", **{"block": 4, "stride": 1, **settings})


@pytest.mark.parametrize(
    ("share", "budgets", "pairs", "total"),
    [(0.5, [2, 2, 2, 2], [8, 8, 9, 9], -9.037199), (0.9, [4, 4, 4, 4], [10, 10, 10, 10], -11.758453)],
)
def test_printed_numbers(share, budgets, pairs, total):
    q, k, v = waves(4, 16, 4)
    bound = proxy(groups=2, share=share)
    call = bound.call(scale=0.5)
    parts = bound.record(q, k, v, call)
    assert parts["scores"][0, 0, -1].tolist() == pytest.approx([0.084084, 0.097479, 0.087675, 0.08307], abs=6e-7)
    assert parts["mass"][0, 0].tolist() == pytest.approx([0.250872, 0.319203, 0.272872, 0.157053], abs=6e-7)
    assert parts["budgets"][0].tolist() == budgets
    assert parts["selection"].sum((-2, -1))[0].tolist() == pairs
    assert float(bound.z(q, k, v, call).sum()) == pytest.approx(total, abs=6e-7)
    if share == 0.9:
        close(bound.z(q, k, v, call), dense(q, k, v, 0.5, causal=True))


@pytest.mark.parametrize(("block", "stride", "groups"), [(4, 1, 1), (4, 2, 2), (6, 3, 4), (8, 8, 1), (1, 1, 2)])
@pytest.mark.parametrize("causal", [True, False])
def test_all_forms(block, stride, groups, causal, monkeypatch):
    for length in (1, 5, 24, 39):
        q, k, v = random(length)
        bound = proxy(block=block, stride=stride, groups=groups, share=0.6)
        check_forms(bound, q, k, v, bound.call(scale=0.4, causal=causal), monkeypatch)


@pytest.mark.parametrize("causal", [True, False])
def test_a_share_of_one_or_a_high_floor_is_dense(causal):
    q, k, v = random(39)
    for settings in ({"share": 1}, {"share": 0.1, "floor": 2048}):
        bound = proxy(**settings)
        close(bound.z(q, k, v, bound.call(scale=0.4, causal=causal)), dense(q, k, v, 0.4, causal))


def test_as_many_groups_as_heads_score_for_themselves():
    """And identical heads share the scores that each would have alone."""
    q, k, v = random(24)
    bound = proxy(groups=4, share=0.6)
    call = bound.call(scale=0.4)
    scores = bound.record(q, k, v, call)["scores"]
    pattern = (0.4 * q @ k.mT).masked_fill(torch.ones(24, 24, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)
    close(scores, pattern.unflatten(2, (6, 4)).unflatten(4, (6, 4)).amax((3, 5)))
    alike_q, alike_k = (x[:, [0, 0, 2, 2]] for x in (q, k))
    own = proxy(groups=2, share=0.6)
    close(own.record(alike_q, alike_k, v, own.call(scale=0.4))["scores"], scores[:, [0, 2]])


def test_the_budget_is_the_least_share_of_blocks():
    """By hand: what the last block of queries attends to, and how many blocks hold the share of it."""
    q, k, v = random(22)
    bound = proxy(share=0.7)
    parts = bound.record(q, k, v, bound.call(scale=0.9))
    pattern = (0.9 * q @ k.mT).masked_fill(torch.ones(22, 22, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)
    for example in range(2):
        for head in range(4):
            mean = pattern[example, head, 20:].mean(0)
            mass = [float(mean[start : start + 4].sum()) for start in range(0, 22, 4)]
            assert parts["mass"][example, head].tolist() == pytest.approx(mass)
            ordered = sorted(mass, reverse=True)
            least = next(n for n in range(1, 7) if sum(ordered[:n]) >= 0.7)
            assert int(parts["budgets"][example, head]) == least
            row = parts["selection"][example, head, 5]
            assert int(row.sum()) in (least, least + 1) and bool(row[5])
    assert len(parts["budgets"].unique()) > 1


def test_every_stride_th_position_is_read():
    q, k, v = random(24)
    bound = proxy(stride=2, groups=1)
    parts = bound.record(q, k, v, bound.call(scale=0.4, causal=False))
    close(parts["proxy_pattern"][:, 0], (0.4 * q.mean(1)[:, ::2] @ k.mean(1)[:, ::2].mT).softmax(-1))
    close(parts["scores"][:, 0], parts["proxy_pattern"][:, 0].unflatten(1, (6, 2)).unflatten(3, (6, 2)).amax((2, 4)))


def test_heads_share_scores_and_later_positions_count():
    q, k, _ = random(24)
    bound = proxy(groups=2, share=0.4)
    call = bound.call(scale=0.4)
    pattern = bound.pattern(q, k, call)
    assert (pattern.triu(1) == 0).all()
    other = q.clone()
    other[:, 0] = 9 * q[:, 0].flip(1)
    changed = bound.pattern(other, k, call)
    assert (changed[:, 1] != pattern[:, 1]).any() and torch.equal(changed[:, 2:], pattern[:, 2:])
    later = torch.cat([q[:, :, :20], 30 * q[:, :, 20:]], 2)
    assert (bound.pattern(later, k, call)[:, :, :20] != pattern[:, :, :20]).any()


def test_padding():
    q, k, v = random(14)
    bound = proxy(share=0.5)
    for causal in (True, False):
        check_padding(bound, q, k, v, bound.call(scale=0.4, causal=causal))


def test_what_is_refused():
    q, k, v = random(12)
    with pytest.raises(UsageError, match="a divisor of block=6"):
        proxy(block=6, stride=4)
    for groups, kv in ((3, 1), (2, 3)):
        with pytest.raises(UsageError, match=f"groups.={groups}: expected a number that divides 4 heads"):
            proxy(groups=groups).z(q, k, v, proxy(groups=groups).call(n_kv_heads=kv))
    with pytest.raises(UsageError, match="all queries together"):
        proxy().z(q[:, :, 1:], k, v, proxy().call())
