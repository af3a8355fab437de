"""VMoBA: the reference's printed numbers, identities, scopes, partitions and traps."""

import pytest
import torch

from tests.workbench.attention.sparse_cases import check_forms, check_padding, close, dense, each, random, waves
from workbench.attention.operator import operator
from workbench.errors import UsageError

SEQUENCE = {"partition": "1d", "slabs": 4}
VIDEO = {"columns": (2, 3), "cubes": (2, 2, 2)}


def video(**settings):
    return operator("video-block-mixture", **settings)


@pytest.mark.parametrize(
    ("scope", "threshold", "pairs", "total"),
    [
        ("head_global", 0, 9, 1.022873),
        ("head_global", 0.25, 9, 1.022873),
        ("head_global", 0.5, 13, -2.224433),
        ("head_global", 0.75, 19, -0.930303),
        ("head_global", 1, 32, 1.368245),
        ("query_head", 0, 16, -1.666202),
        ("query_head", 0.25, 16, -1.666202),
        ("query_head", 0.5, 18, -1.234479),
        ("query_head", 0.75, 21, -0.55034),
        ("query_head", 1, 32, 1.368245),
    ],
)
def test_printed_numbers(scope, threshold, pairs, total):
    q, k, v = waves(2, 8, 4)
    bound = video(**SEQUENCE, threshold=threshold, scope=scope)
    call = bound.call(scale=0.5, causal=False)
    parts = bound.record(q, k, v, call)
    assert parts["pairs"].sum(-1).tolist() == [[pairs, pairs]]
    close(parts["density"], torch.full((1, 2), pairs / 32, dtype=torch.float64))
    assert float(bound.z(q, k, v, call).sum()) == pytest.approx(total, abs=5e-7)


@pytest.mark.parametrize("scope", ["head_global", "query_head"])
@pytest.mark.parametrize("select", ["threshold", "top-k"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_all_forms(scope, select, layer, monkeypatch):
    for length, call in (
        (25, {"grid": (2, 3, 4), "before": 1}),
        (35, {"grid": (5, 7)}),
        (61, {"grid": (3, 4, 5), "before": 1}),
        (1, {}),
        (19, {}),
    ):
        q, k, v = random(length)
        bound = video(**VIDEO, slabs=4, scope=scope, select=select, top_k=2, threshold=0.4)
        for causal in (True, False):
            check_forms(bound, q, k, v, bound.call(scale=0.4, layer=layer, causal=causal, **call), monkeypatch)


@pytest.mark.parametrize("scope", ["head_global", "query_head"])
def test_a_high_threshold_is_dense_and_a_low_one_adds_one_pair(scope):
    q, k, v = random(24)
    for causal in (True, False):
        bound = video(**SEQUENCE, threshold=2, scope=scope)
        close(bound.z(q, k, v, bound.call(scale=0.4, causal=causal)), dense(q, k, v, 0.4, causal))
    bound = video(**SEQUENCE, threshold=0, scope=scope)
    pairs = bound.record(q, k, v, bound.call(causal=False))["pairs"]
    assert (pairs.sum(-1) == 25).all() if scope == "head_global" else (pairs == 2).all()


def test_one_block_is_dense():
    q, k, v = random(24)
    for partition in ("1d", "2d", "3d"):
        bound = video(partition=partition, slabs=1, columns=1, cubes=1)
        close(bound.z(q, k, v, bound.call(scale=0.4, causal=False, grid=(2, 3, 4))), dense(q, k, v, 0.4))


def test_top_k_takes_so_many_pairs_and_own_blocks_first():
    q, k, v = random(24)
    for scope in ("head_global", "query_head"):
        parts = {}
        for top_k in (1, 3):
            bound = video(**SEQUENCE, select="top-k", top_k=top_k, scope=scope)
            parts[top_k] = bound.record(q, k, v, bound.call(causal=False))
        own = torch.arange(24)[:, None] // 6 == torch.arange(4)
        assert (parts[1]["selection"] == own).all()  # and not everything
        assert (parts[3]["selection"] | ~own).all()
        pairs = parts[3]["pairs"]
        assert (pairs.sum(-1) == 72).all() and (scope == "head_global" or (pairs == 3).all())
        similarity = parts[3]["similarity"].masked_fill(own, -torch.inf)
        others = parts[3]["selection"] & ~own
        dims = (-2, -1) if scope == "head_global" else (-1,)
        least = similarity.masked_fill(~others, torch.inf).amin(dims)
        assert (least >= similarity.masked_fill(others, -torch.inf).amax(dims)).all()


def test_the_released_slips():
    q, k, v = random(24)
    bound = video(**SEQUENCE, select="top-k", top_k=1, released=True)
    close(bound.z(q, k, v, bound.call(scale=0.4, causal=False)), dense(q, k, v, 0.4))
    bound = video(**SEQUENCE, scope="query_head", threshold=2, released=True)
    assert (bound.record(q, k, v, bound.call(causal=False))["pairs"] == 3).all()
    bound = video(**SEQUENCE, scope="head_global", threshold=2, released=True)
    assert (bound.record(q, k, v, bound.call(causal=False))["pairs"] == 4).all()


def test_partitions_by_layer():
    """A position's own block: a run in time, a column through all frames, a cube."""
    q, k, _ = random(64)
    blocks = {
        0: lambda t, h, w: t // 2,
        1: lambda t, h, w: (h // 2, w // 2),
        2: lambda t, h, w: (t // 2, h // 2, w // 2),
    }
    for layer, block in blocks.items():
        bound = video(slabs=2, columns=(2, 2), cubes=2, select="top-k", top_k=1)
        call = bound.call(causal=False, grid=(4, 4, 4), layer=layer + 3)
        seen = bound.pattern(q, k, call)[0, 0] > 0
        labels = [block(n // 16, n // 4 % 4, n % 4) for n in range(64)]
        assert seen.tolist() == [[a == b for b in labels] for a in labels]


def test_positions_ahead_see_all_and_are_seen_by_all():
    q, k, _ = random(27)
    bound = video(**VIDEO, partition="3d", select="top-k", top_k=1)
    pattern = bound.pattern(q, k, bound.call(causal=False, grid=(2, 3, 4), before=3))
    assert (pattern[:, :, :3] > 0).all() and (pattern[..., :3] > 0).all() and (pattern == 0).any()


def test_scopes_and_last_rows():
    q, k, v = random(24)
    bound = video(**SEQUENCE, scope="query_head", threshold=0.4)
    for grid, before in (((), 0), ((23,), 1)):
        call = bound.call(scale=0.4, causal=False, grid=grid, before=before)
        z = bound.z(q, k, v, call)
        for rows in (1, 7, 23):
            close(bound.z(q[:, :, -rows:], k, v, call), z[:, :, -rows:])
    bound = video(**SEQUENCE)
    with pytest.raises(UsageError, match="all queries together"):
        bound.z(q[:, :, 1:], k, v, bound.call(causal=False))


def test_where_the_model_is_causal_later_blocks_are_not_compared():
    q, k, v = random(24)
    bound = video(**SEQUENCE, threshold=0.6)
    call = bound.call(scale=0.4)
    selected = bound.record(q, k, v, call)["selection"]
    later = torch.arange(4) > torch.arange(24)[:, None] // 6
    assert not (selected & later).any() and (selected & ~later).any()
    changed = 3 * k.roll(1, 2)
    other = bound.record(q, torch.cat([k[:, :, :18], changed[:, :, 18:]], 2), v, call)["selection"]
    assert (other[:, :, :18] != selected[:, :, :18]).any()  # causal="mask"


def test_padding():
    q, k, v = random(14)
    check_padding(video(**SEQUENCE), q, k, v, video(**SEQUENCE).call(scale=0.4))


def test_padding_on_a_grid_contributes_nothing():
    q, k, v = random(25)
    for scope in ("head_global", "query_head"):
        bound = video(**VIDEO, partition="3d", scope=scope, threshold=0.5)
        padding = torch.ones(2, 25, dtype=torch.bool)
        padding[0, [4, 5, 20]] = padding[1, 13:19] = False
        call = bound.call(scale=0.4, causal=False, grid=(2, 3, 4), before=1, padding=padding)
        real = padding[:, None, :, None]
        other = each(lambda x, real=real: x.masked_fill(~real, 50.0), q, k, v)
        close(bound.z(q, k, v, call) * real, bound.z(*other, call) * real)


def test_what_is_refused():
    with pytest.raises(UsageError, match="a whole number, or 2 of them"):
        video(columns=(1, 2, 3))
    q, k, v = random(8)
    bound = video(partition="2d")
    with pytest.raises(UsageError, match="grid"):
        bound.z(q, k, v, bound.call(grid=(8,)))
