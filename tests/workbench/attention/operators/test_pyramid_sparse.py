"""PSA: the reference's printed numbers, identities, selection, the causal form and traps."""

import pytest
import torch

from tests.workbench.attention.sparse_cases import check_forms, check_padding, close, dense, random, waves
from workbench.attention.operator import operator
from workbench.attention.operators import pyramid_sparse
from workbench.errors import UsageError

SMALL = {"query_block": 8, "key_block": 4, "tile": 4}


def psa(**settings):
    return operator("pyramid-sparse", **{**SMALL, **settings})


def only(level, **settings):
    """Every block but the best at one level."""
    shares = {f"level_{other}": float(other >= level) for other in (1, 2, 4, 8)}
    return psa(**shares, **{"tile": 1, **settings})


def test_printed_numbers():
    q, k, v = waves(2, 16, 4)
    call = psa().call(scale=0.5, causal=False)
    table = torch.tensor([[1, 2, 4, 0], [4, 1, 2, 0]]).expand(1, 2, 2, 4)
    pattern = pyramid_sparse.spread(q, k, table, call)
    z = pattern @ v
    close(z[0, 0, 0], torch.tensor([0.072851, 0.015686, -0.046958, -0.093199], dtype=torch.float64), 6e-7)
    close(z[0, 1, 15], torch.tensor([0.035644, -0.017615, -0.06472, -0.089217], dtype=torch.float64), 6e-7)
    assert float(z.sum()) == pytest.approx(-2.73211, abs=6e-7)
    close(pattern.sum(-1), torch.ones(1, 2, 16, dtype=torch.float64))
    twos = pyramid_sparse.spread(q, k, torch.full_like(table, 2), call) @ v
    assert float(twos.sum()) == pytest.approx(1.309808, abs=6e-7)
    scores = pyramid_sparse.importance(q, k, call)
    assert scores[0, 0].tolist() == [[1, 1, 1, 1]] * 2
    assert scores[0, 1, 1].tolist() == pytest.approx([1, 1, 1, 0.991645], abs=6e-7)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"level_1": 0.3, "level_2": 0.5, "level_4": 0.7, "level_8": 0.8},
        {"select": "energy", "level_1": 0.4, "level_2": 0.6, "level_4": 0.7, "level_8": 0.9, "stride": 2},
        {"query_block": 5, "key_block": 12, "level_4": 0.5, "level_8": 1, "first_block": True},
        {"query_block": 16, "key_block": 16, "tile": 4, "level_2": 0.6, "level_4": 0.8, "level_8": 1, "cap": True},
    ],
)
@pytest.mark.parametrize("causal", [True, False])
def test_all_forms(settings, causal, monkeypatch):
    for length in (1, 7, 38, 64):
        q, k, v = random(length)
        bound = psa(**settings)
        check_forms(bound, q, k, v, bound.call(scale=0.4, causal=causal), monkeypatch)
        sums = bound.pattern(q, k, bound.call(scale=0.4, causal=causal)).sum(-1)
        close(sums, torch.ones_like(sums))


@pytest.mark.parametrize("causal", [True, False])
def test_all_at_level_one_is_dense(causal):
    q, k, v = random(37)
    bound = psa(level_1=1, level_2=1, level_4=1, level_8=1)
    close(bound.z(q, k, v, bound.call(scale=0.4, causal=causal)), dense(q, k, v, 0.4, causal))


@pytest.mark.parametrize("level", [2, 4, 8])
def test_levels_do_not_matter_where_blocks_are_constant(level):
    """A mean counts as the tokens that it has, in a ragged last block too."""
    q, k, v = random(36)
    k, v = (x[:, :, ::8].repeat_interleave(8, 2)[:, :, :36] for x in (k, v))
    bound = only(level, key_block=8)
    call = bound.call(scale=0.4, causal=False)
    assert (bound.record(q, k, v, call)["levels"] == level).any()
    close(bound.z(q, k, v, call), dense(q, k, v, 0.4))


def test_keys_that_are_constant_suffice():
    q, k, v = random(32)
    k = k[:, :, ::8].repeat_interleave(8, 2)
    bound = only(8, key_block=8)
    close(bound.z(q, k, v, bound.call(scale=0.4, causal=False)), dense(q, k, v, 0.4))


def test_a_level_of_the_block_is_one_token_a_block():
    q, k, v = random(32)
    call = psa(key_block=8).call(scale=0.4, causal=False)
    z = pyramid_sparse.spread(q, k, torch.full((2, 4, 4, 4), 8), call) @ v
    close(z, dense(q, k.unflatten(2, (4, 8)).mean(3), v.unflatten(2, (4, 8)).mean(3), 0.4))


def test_a_mean_of_three_counts_as_three():
    q, k, v = random(11)
    call = psa(query_block=16, key_block=8).call(scale=0.4, causal=False)
    z = pyramid_sparse.spread(q, k, torch.full((2, 4, 1, 2), 4), call) @ v
    groups = [range(4), range(4, 8), range(8, 11)]
    scores = torch.stack([0.4 * q @ k[:, :, group].mean(2)[..., None] for group in groups], -1)[..., 0, :]
    weights = (scores + torch.tensor([4.0, 4, 3], dtype=torch.float64).log()).softmax(-1)
    close(z, weights @ torch.stack([v[:, :, group].mean(2) for group in groups], 2))


def test_ranks_give_levels():
    """Shares of ten blocks, and runs in multiples of what the kernel reads."""
    scores = torch.linspace(1, 0.1, 10, dtype=torch.float64).view(1, 1, 1, 10)
    k = torch.zeros(1, 1, 10, 1, dtype=torch.float64)
    shares = {"level_1": 0.1, "level_2": 0.3, "level_4": 0.3, "level_8": 0.5}
    settings = {"key_block": 1, "query_block": 10, **shares}
    wide = psa(**{**settings, "key_block": 64, "tile": 8}).call(causal=False)
    assert pyramid_sparse.levels(scores, k, wide)[0, 0, 0].tolist() == [1, 2, 2, 8, 8, 0, 0, 0, 0, 0]
    two = psa(**{**settings, "key_block": 64, "tile": 16}).call(causal=False)  # 8s come in pairs
    assert pyramid_sparse.levels(scores, k, two)[0, 0, 0].tolist() == [1, 2, 2, 8, 8, 0, 0, 0, 0, 0]
    four = psa(**{**settings, "key_block": 64, "tile": 32}).call(causal=False)  # in fours
    assert pyramid_sparse.levels(scores, k, four)[0, 0, 0].tolist() == [1, 2, 2, 8, 8, 8, 8, 0, 0, 0]
    flipped = pyramid_sparse.levels(scores.flip(-1), k, four)[0, 0, 0].tolist()
    assert flipped == [0, 0, 0, 8, 8, 8, 8, 2, 2, 1]
    equal = pyramid_sparse.levels(torch.ones_like(scores), k, four)[0, 0, 0].tolist()
    assert equal == [1, 2, 2, 8, 8, 8, 8, 0, 0, 0]


def test_energy_gives_levels():
    """Cumulative shares .4 .7 .9 1; a level takes those within its share and the one that crosses it."""
    scores = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64).view(1, 1, 1, 4)
    k = torch.zeros(1, 1, 4, 1, dtype=torch.float64)
    shares = {"level_1": 0.1, "level_2": 0.5, "level_4": 0.75, "level_8": 0.75}
    call = psa(key_block=64, tile=8, select="energy", **shares).call(causal=False)
    assert pyramid_sparse.levels(scores, k, call)[0, 0, 0].tolist() == [1, 2, 4, 0]


def test_causal_blocks():
    q, k, v = random(40)
    bound = psa(key_block=8, level_1=0.2, level_2=0.4, level_4=0.6, level_8=0.8, tile=2)
    call = bound.call(scale=0.4)
    parts = bound.record(q, k, v, call)
    table = parts["levels"]
    assert (table.diagonal(dim1=-2, dim2=-1) == 1).all() and (table.triu(1) == 0).all() and (table.tril(-1) > 1).any()
    assert (parts["importance"].triu(1)[..., 0, 1:] == -1).all()
    pattern = bound.pattern(q, k, call)
    assert (pattern.triu(1) == 0).all() and (pattern.diagonal(dim1=-2, dim2=-1) > 0).all()
    later = torch.cat([k[:, :, :33], 4 * k[:, :, 33:].flip(2)], 2)
    close(bound.z(q, later, v, call)[:, :, :32], bound.z(q, k, v, call)[:, :, :32])
    sharp = torch.cat([q[:, :, :39], 40 * k[:, :, [3]]], 2)  # the last query of a block changes what its others read
    assert (bound.pattern(sharp, k, call)[:, :, 32:39] != pattern[:, :, 32:39]).any()
    first = psa(**{**bound.settings, "first_block": True})
    assert (first.record(q, k, v, first.call())["levels"][..., 0] == 1).all()


def test_a_mean_is_seen_from_its_last_token_on():
    q, k, _ = random(7)
    call = psa(query_block=8, key_block=8).call(scale=0.4)
    pattern = pyramid_sparse.spread(q, k, torch.full((2, 4, 1, 1), 2), call)
    at = torch.arange(7)
    last = torch.tensor([1, 1, 3, 3, 5, 5, 6])
    assert torch.equal(pattern > 0, (last <= at[:, None]).expand_as(pattern))
    assert (pattern[:, :, 0] == 0).all()  # it sees nothing


def test_density():
    """Of four blocks in levels 1, 2, 4 and 0."""
    q, k, v = random(16, batch=1)
    bound = psa(query_block=16, level_1=0.25, level_2=0.5, level_4=0.75, level_8=0.75, tile=1)
    density = bound.record(q, k, v, bound.call(causal=False))["density"]
    close(density, torch.full((1, 4), (1 + 1 / 2 + 1 / 4) / 4, dtype=torch.float64))


def test_the_cap_wants_neighbours_alike():
    """Pairs alike, fours not; where all are alike eight is allowed, and where none are one."""
    call = psa(key_block=8, alike_2=0.9, alike_4=0.9, alike_8=0.9).call()
    pairs = torch.eye(4, dtype=torch.float64).repeat_interleave(2, 0)
    same, mixed = torch.ones(8, 4, dtype=torch.float64), torch.eye(8, dtype=torch.float64)[:, :4] + 1e-3
    k = torch.stack([torch.cat([pairs, same, same[:3]]), torch.cat([mixed, pairs, pairs[:3]])])[None]
    assert pyramid_sparse.allowed(k, call)[0].tolist() == [[2, 8, 2], [1, 2, 2]]


def test_padding_and_last_rows():
    q, k, v = random(14)
    for causal in (True, False):
        check_padding(psa(), q, k, v, psa().call(scale=0.4, causal=causal))
    with pytest.raises(UsageError, match="all queries together"):
        psa().z(q[:, :, 1:], k, v, psa().call())
    with pytest.raises(UsageError, match="shares that grow"):
        psa(level_1=0.5)
