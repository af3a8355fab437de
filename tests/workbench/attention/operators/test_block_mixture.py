"""MoBA: the reference's printed numbers, an implementation row by row, identities and traps."""

import pytest
import torch

from tests.workbench.attention.sparse_cases import check_forms, check_padding, close, dense, each, random, waves
from workbench.attention.operator import operator
from workbench.attention.primitives import block_sparse


def row_by_row(q, k, v, block, top_k, scale):
    """Causal MoBA of one head as the paper tells it, without a mask: [pos, d]."""
    z = torch.empty_like(v)
    for i in range(len(q)):
        own = i // block
        scores = [float(q[i] @ k[n * block : (n + 1) * block].mean(0)) for n in range(own)]
        best = sorted(range(own), key=lambda n: (-scores[n], n))[: top_k - 1]
        sources = sorted(j for n in best for j in range(n * block, (n + 1) * block)) + list(range(own * block, i + 1))
        z[i] = torch.softmax(scale * k[sources] @ q[i], 0) @ v[sources]
    return z


def test_printed_numbers():
    q, k, v = waves(2, 8, 4)
    bound = operator("block-mixture", block=2, top_k=2)
    call = bound.call(scale=0.5)
    z, parts = bound.z(q, k, v, call), bound.record(q, k, v, call)
    first = ["1000", "1000", "1100", "1100", "1010", "0110", "0101", "1001"]
    rows = [["".join(str(int(x)) for x in row) for row in head] for head in parts["selection"][0]]
    assert rows == [first, [*first[:6], "1001", "1001"]]
    printed = torch.tensor([-0.221109, -0.775069, -0.572103, 0.189574], dtype=torch.float64)
    close(parts["gate"][0, 0, 7], printed, 5e-7)
    close(z[0, 0, 7], torch.tensor([-0.105748, -0.146756, -0.136498, -0.078557], dtype=torch.float64), 5e-7)
    assert float(z.sum()) == pytest.approx(0.074058, abs=5e-7)
    for block, top_k, total in ((2, 1, 0.907666), (1, 3, -0.1134)):
        bound = operator("block-mixture", block=block, top_k=top_k)
        assert float(bound.z(q, k, v, bound.call(scale=0.5)).sum()) == pytest.approx(total, abs=5e-7)


@pytest.mark.parametrize(
    ("length", "block", "top_k"), [(1, 4, 2), (8, 4, 2), (37, 4, 3), (50, 7, 2), (30, 1, 4), (33, 16, 1)]
)
def test_against_rows_and_all_forms(length, block, top_k, monkeypatch):
    q, k, v = random(length)
    bound = operator("block-mixture", block=block, top_k=top_k)
    z = check_forms(bound, q, k, v, bound.call(scale=0.4), monkeypatch)
    for example in range(2):
        for head in range(4):
            own = row_by_row(q[example, head], k[example, head], v[example, head], block, top_k, 0.4)
            close(z[example, head], own)
    check_forms(bound, q, k, v, bound.call(scale=0.4, causal=False), monkeypatch)


def test_all_blocks_are_causal_softmax_and_one_is_block_diagonal(monkeypatch):
    monkeypatch.setattr(block_sparse, "SHORTEST", 0)
    q, k, v = random(22)
    for settings in ({"block": 4, "top_k": 6}, {"block": 22, "top_k": 1}, {"block": 100, "top_k": 2}):
        bound = operator("block-mixture", **settings)
        close(bound.z(q, k, v, bound.call(scale=0.4)), dense(q, k, v, 0.4, causal=True))
    bound = operator("block-mixture", block=4, top_k=1)
    z = bound.z(q, k, v, bound.call(scale=0.4))
    for start in range(0, 22, 4):
        at = slice(start, start + 4)
        close(z[:, :, at], dense(q[:, :, at], k[:, :, at], v[:, :, at], 0.4, causal=True))


def test_the_released_kernel_is_dense_with_one_block(monkeypatch):
    q, k, v = random(22)
    bound = operator("block-mixture", block=4, top_k=1, released=True)
    close(check_forms(bound, q, k, v, bound.call(scale=0.4), monkeypatch), dense(q, k, v, 0.4, causal=True))
    one, other = (operator("block-mixture", block=4, top_k=2, released=flag) for flag in (True, False))
    close(one.z(q, k, v, one.call()), other.z(q, k, v, other.call()), 0)


def test_shuffling_a_past_block_changes_neither_selection_nor_z():
    q, k, v = random(24)
    bound = operator("block-mixture", block=6, top_k=2)
    call = bound.call(scale=0.4)
    order = torch.cat([torch.tensor([3, 0, 5, 1, 4, 2]), torch.arange(6, 24)])
    shuffled = q, k[:, :, order], v[:, :, order]
    assert torch.equal(
        bound.record(q, k, v, call)["selection"][:, :, 6:], bound.record(*shuffled, call)["selection"][:, :, 6:]
    )
    close(bound.z(q, k, v, call)[:, :, 6:], bound.z(*shuffled, call)[:, :, 6:])


def test_later_positions_change_nothing_earlier():
    """Causal by token, at every position: the selection too."""
    q, k, v = random(23)
    bound = operator("block-mixture", block=5, top_k=2)
    call = bound.call(scale=0.4)
    z, selected = bound.z(q, k, v, call), bound.record(q, k, v, call)["selection"]
    for at in range(1, 23):
        changed = each(lambda x, at=at: torch.cat([x[:, :, :at], 9 * x[:, :, at:].flip(2)], 2), q, k, v)
        close(bound.z(*changed, call)[:, :, :at], z[:, :, :at])
        assert torch.equal(bound.record(*changed, call)["selection"][:, :, :at], selected[:, :, :at])


def test_last_rows_alone_and_prefixes():
    q, k, v = random(23)
    bound = operator("block-mixture", block=5, top_k=2)
    call = bound.call(scale=0.4)
    z = bound.z(q, k, v, call)
    for rows in (1, 2, 9, 22):
        close(bound.z(q[:, :, -rows:], k, v, call), z[:, :, -rows:])
        close(bound.explicit(q[:, :, -rows:], k, v, call), z[:, :, -rows:])
    for length in (1, 5, 13):
        close(bound.z(*each(lambda x, length=length: x[:, :, :length], q, k, v), call), z[:, :, :length])


def test_padding():
    q, k, v = random(14)
    bound = operator("block-mixture", block=4, top_k=2)
    check_padding(bound, q, k, v, bound.call(scale=0.4))


def test_a_model_window_stays(monkeypatch):
    q, k, v = random(20)
    bound = operator("block-mixture", block=4, top_k=2)
    gap = torch.arange(20)[:, None] - torch.arange(20)
    call = bound.call(scale=0.4, visible=((gap >= 0) & (gap < 3))[None, None])
    check_forms(bound, q, k, v, call, monkeypatch)
    assert (bound.pattern(q, k, call)[..., gap >= 3] == 0).all()
