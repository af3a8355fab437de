"""The loops over blocks against softmax attention under the mask that they stand for."""

import pytest
import torch
from torch import Tensor

from tests.workbench.attention.sparse_cases import close, dense, each, random
from workbench.attention.call import Call
from workbench.attention.primitives import block_sparse, softmax_forms
from workbench.attention.primitives.blocks import Blocks
from workbench.attention.primitives.merge import attend, merge

CPU = torch.device("cpu")


def expected(q, k, v, mask, causal):
    if causal:
        mask = mask & torch.ones(mask.shape[-2:], dtype=torch.bool).tril()
    scores = (0.4 * q @ k.mT).masked_fill(~mask, -torch.inf)
    return torch.nan_to_num(scores.softmax(-1)) @ v


def chosen(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.4


@pytest.mark.parametrize(("length", "block"), [(1, 4), (3, 4), (16, 4), (37, 8), (50, 7), (20, 1), (20, 64)])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("d_value", [8, 5])
def test_loops_are_the_masked_softmax(length, block, causal, d_value):
    q, k, v = random(length, d_value=d_value)
    blocks, call = Blocks.even(length, block, CPU), Call(scale=0.4, causal=causal)
    own = torch.eye(blocks.count, dtype=torch.bool) if causal else torch.zeros(1, dtype=torch.bool)
    for shape in ((2, 4), (1, 4), (2, 1)):
        table = chosen(*shape, blocks.count, blocks.count) | own
        mask = table[:, :, blocks.labels][..., blocks.labels]
        close(block_sparse.by_block(q, k, v, table, blocks, call), expected(q, k, v, mask, causal))
        table = chosen(*shape, length, blocks.count) | own[blocks.labels if causal else [0]]
        mask = table[..., blocks.labels]
        close(block_sparse.by_query(q, k, v, table, blocks, call), expected(q, k, v, mask, causal))


def test_blocks_out_of_order():
    q, k, v = random(30)
    blocks, call = Blocks.on_grid((5, 6), (2, 3), CPU), Call(scale=0.4, causal=False)
    assert not blocks.in_order
    table = chosen(2, 4, 6, 6)
    mask = table[:, :, blocks.labels][..., blocks.labels]
    assert (~mask.any(-1)).any()  # some see nothing
    close(block_sparse.by_block(q, k, v, table, blocks, call), expected(q, k, v, mask, False))
    table = chosen(2, 4, 30, 6, seed=1)
    assert (~table.any(-1)).any()
    close(block_sparse.by_query(q, k, v, table, blocks, call), expected(q, k, v, table[..., blocks.labels], False))


def test_half_precision_is_merged_in_single():
    q, k, v = each(Tensor.float, *random(256))
    blocks, call = Blocks.even(256, 16, CPU), Call(scale=0.4, causal=False)
    table = torch.ones(1, 1, 256, 16, dtype=torch.bool)
    whole = dense(q, k, v, 0.4)
    half = block_sparse.by_query(*each(Tensor.bfloat16, q, k, v), table, blocks, call)
    assert half.dtype == torch.bfloat16 and (half.float() - whole).abs().max() < 0.05


@pytest.mark.parametrize("d_value", [8, 5])
def test_parts_merge_to_the_whole(d_value):
    q, k, v = random(20, d_value=d_value)
    parts = [attend(q, k[:, :, at], v[:, :, at], 0.4) for at in (slice(0, 7), slice(7, 20))]
    z, total = merge(*parts)
    close(z, dense(q, k, v, 0.4))
    close(total, (0.4 * q @ k.mT).logsumexp(-1))
    nothing = torch.zeros_like(z), torch.full_like(total, -torch.inf)
    close(merge(nothing, (z, total))[0], z)
    close(merge((z, total), nothing)[0], z)
    close(attend(q, k, v, 0.4, causal=True)[0], dense(q, k, v, 0.4, causal=True))


def test_what_the_loops_do_not_serve():
    q, k, v = (torch.zeros(1, 2, block_sparse.SHORTEST, 4) for _ in range(3))
    blocks, call = Blocks.even(q.shape[2], 64, CPU), Call()
    assert block_sparse.usable(q, k, v, call, blocks)
    assert not block_sparse.usable(q[:, :, 1:], k, v, call, blocks)
    assert not block_sparse.usable(*each(lambda x: x[:, :, 1:], q, k, v), call, blocks)
    assert not block_sparse.usable(q, k, v.clone().requires_grad_(), call, blocks)
    with torch.no_grad():
        assert block_sparse.usable(q, k, v.clone().requires_grad_(), call, blocks)
    everything = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    assert not block_sparse.usable(q, k, v, Call(visible=everything), blocks)
    assert not block_sparse.usable(q, k, v, Call(padding=everything[0, 0].expand(1, q.shape[2])), blocks)
    mixed = Blocks.on_grid((32, q.shape[2] // 32), (2, 2), CPU)
    assert not block_sparse.usable(q, k, v, call, mixed)
    assert block_sparse.usable(q, k, v, Call(causal=False), mixed)


def test_a_long_prompt_makes_no_mask(monkeypatch):
    """Above its length an operator goes through the loops: the masked kernel is not called."""
    from workbench.attention.operator import operator

    def refuse(*_):
        raise AssertionError("masked kernel")

    monkeypatch.setattr(softmax_forms, "masked", refuse)
    q, k, v = (
        torch.randn(1, 2, block_sparse.SHORTEST + 5, 8, generator=torch.Generator().manual_seed(i)) for i in (0, 1, 2)
    )
    for name in ("block-mixture", "video-block-mixture", "bi-level-routing", "proxy-heads", "pattern-reordered"):
        for causal in (True, False):
            bound = operator(name)
            assert bound.z(q, k, v, bound.call(scale=0.3, causal=causal)).isfinite().all()
