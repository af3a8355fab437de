"""BiFormer's routing: the reference's printed numbers, identities and traps."""

import pytest
import torch

from tests.workbench.attention.sparse_cases import check_forms, check_padding, close, dense, each, random, sine
from workbench.attention.operator import operator
from workbench.errors import UsageError


def routed(**settings):
    return operator("bi-level-routing", **settings)


def printed_input():
    """4 × 4 positions of 4 channels in 2 heads."""
    return [sine((1, 16, 2, 2), rate).transpose(1, 2) for rate in (1.0, 0.7, 0.4)]


@pytest.mark.parametrize(
    ("top_k", "routing", "total", "first", "last"),
    [
        (1, [{2}, {1}, {2}, {0}], 17.362925, [0.730515, 0.595636, 0.598732, 0.402408], None),
        (
            2,
            [{2, 3}, {1, 0}, {2, 1}, {0, 1}],
            -0.080325,
            [0.026709, -0.023407, -0.017788, -0.016709],
            [0.021147, -0.028612, -0.003286, 0.007957],
        ),
        (4, [{0, 1, 2, 3}] * 4, 0.482003, [-0.011948, 0.000044, 0.003163, 0.00666], None),
    ],
)
def test_printed_numbers(top_k, routing, total, first, last):
    q, k, v = printed_input()
    bound = routed(regions=2, top_k=top_k)
    call = bound.call(scale=0.5, causal=False, grid=(4, 4))
    z, parts = bound.z(q, k, v, call).transpose(1, 2).flatten(2)[0], bound.record(q, k, v, call)
    rows = [[-0.013375, -0.004354, 0.016063, 0.010291], [0.009566, 0.013646, -0.004856, -0.011881]]
    close(parts["affinity"][0, :2], torch.tensor(rows, dtype=torch.float64), 6e-7)
    assert [set(row) for row in parts["routing"][0].tolist()] == routing
    assert float(z.sum()) == pytest.approx(total, abs=6e-7)
    close(z[0], torch.tensor(first, dtype=torch.float64), 6e-7)
    if last is not None:
        close(z[15], torch.tensor(last, dtype=torch.float64), 6e-7)


@pytest.mark.parametrize("causal", [True, False])
def test_all_forms(causal, monkeypatch):
    for length, call in ((1, {}), (31, {}), (26, {"grid": (5, 5), "before": 1}), (24, {"grid": (2, 3, 4)})):
        for regions in (2, 3, 7):
            q, k, v = random(length)
            bound = routed(regions=regions, top_k=2)
            check_forms(bound, q, k, v, bound.call(scale=0.4, causal=causal, **call), monkeypatch)


def test_all_regions_or_one_are_dense():
    q, k, v = random(36)
    for settings in ({"regions": 3, "top_k": 9}, {"regions": 1, "top_k": 1}):
        bound = routed(**settings)
        close(bound.z(q, k, v, bound.call(scale=0.4, causal=False, grid=(6, 6))), dense(q, k, v, 0.4))
        close(bound.z(q, k, v, bound.call(scale=0.4, grid=(6, 6))), dense(q, k, v, 0.4, causal=True))


def test_regions_of_one_are_the_best_tokens():
    """Of the scores of all heads together."""
    q, k, _ = random(12)
    bound = routed(regions=(3, 4), top_k=5)
    pattern = bound.pattern(q, k, bound.call(scale=0.4, causal=False, grid=(3, 4)))
    best = (q @ k.mT).sum(1).topk(5).indices
    expected = torch.zeros(2, 12, 12, dtype=torch.bool).scatter_(2, best, True)
    assert torch.equal(pattern > 0, expected[:, None].expand_as(pattern))


def test_permuting_inside_regions_and_whole_regions():
    q, k, v = random(36)
    bound = routed(regions=3, top_k=2)
    call = bound.call(scale=0.4, causal=False, grid=(6, 6))
    z, at = bound.z(q, k, v, call), torch.arange(36).view(6, 6)
    inside = at.view(3, 2, 3, 2).flip(1, 3).flatten()
    regions = at.view(3, 2, 3, 2)[[2, 0, 1]][:, :, [1, 2, 0]].flatten()
    for order in (inside, regions):
        close(bound.z(q[:, :, order], k[:, :, order], v[:, :, order], call), z[:, :, order])
    assert not torch.equal(inside, regions)


def test_heads_share_one_routing():
    q, k, _ = random(36)
    bound = routed(regions=3, top_k=2)
    call = bound.call(causal=False, grid=(6, 6))
    seen = bound.pattern(q, k, call) > 0
    assert (seen == seen[:, :1]).all()
    other = q.clone()
    other[:, 0] = 8 * q[:, 0].flip(1)
    assert (bound.pattern(other, k, call)[:, 1:] != bound.pattern(q, k, call)[:, 1:]).any()


def test_a_region_need_not_see_itself_unless_it_is_causal():
    q, k, _ = printed_input()
    bound = routed(regions=2, top_k=1)
    assert (bound.pattern(q, k, bound.call(causal=False, grid=(4, 4)))[0, 0, 0, :2] == 0).all()
    q, k, _ = random(28)
    for top_k in (1, 2):
        bound = routed(top_k=top_k)
        pattern = bound.pattern(q, k, bound.call(scale=0.4))
        assert (pattern.diagonal(dim1=-2, dim2=-1) > 0).all() and (pattern.triu(1) == 0).all()
        assert ((pattern.sum(-1) - 1).abs() < 1e-12).all()


def test_a_causal_region_spends_nothing_on_later_ones():
    q, k, _ = random(28)
    bound = routed(top_k=2)
    seen = bound.pattern(q, k, bound.call(scale=0.4))[:, 0, 3::4] > 0  # the last position of each region
    number = seen.unflatten(-1, (7, 4)).any(-1).sum(-1)
    assert (number[:, 0] == 1).all() and ((number[:, 1:] == 2) | (number[:, 1:] == 3)).all()


def test_padding():
    q, k, v = random(14)
    bound = routed(regions=3, top_k=1)
    for causal in (True, False):
        check_padding(bound, q, k, v, bound.call(scale=0.4, causal=causal))


def test_padding_on_a_grid_contributes_nothing():
    q, k, v = random(26)
    padding = torch.ones(2, 26, dtype=torch.bool)
    padding[0, 1:8] = padding[1, 20] = False
    bound = routed(regions=2, top_k=1)
    call = bound.call(scale=0.4, causal=False, grid=(5, 5), before=1, padding=padding)
    other = each(lambda x: x.masked_fill(~padding[:, None, :, None], 50.0), q, k, v)
    real = padding[:, None, :, None]
    close(bound.z(q, k, v, call) * real, bound.z(*other, call) * real)


def test_what_is_refused():
    q, k, v = random(16)
    bound = routed(regions=(2, 2))
    with pytest.raises(UsageError, match="one for each axis of the grid"):
        bound.z(q, k, v, bound.call(causal=False))
    with pytest.raises(UsageError, match="all queries together"):
        routed().z(q[:, :, 1:], k, v, routed().call())
