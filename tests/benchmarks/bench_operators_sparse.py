"""Attention over selected blocks of keys against dense causal attention: CPU time of one thread."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.benchmarks.subject import Settings, Subject
from tests.benchmarks.timing import Bar, Ratio, Result, Row, cpu_seconds, in_turns, one_thread
from workbench.attention.operator import operator
from workbench.attention.primitives import block_sparse
from workbench.attention.primitives.blocks import Blocks

HEADS, WIDTH, LENGTH, QUICK_LENGTH = 9, 64, 8192, 2048
DENSITY = 0.25
#: At blocks of 256; others are printed.
BAR = {256: Bar(1.8)}


def selected(blocks: Blocks, generator: torch.Generator) -> Tensor:
    """Each block sees itself and so many random earlier ones that it sees a quarter of what it may, another choice a
    head: ``[1, head, block, block]``."""
    block = torch.arange(blocks.count)
    order = torch.rand(1, HEADS, blocks.count, blocks.count, generator=generator)
    order = order.masked_fill(block == block[:, None], 2).masked_fill(block > block[:, None], -1)
    places = order.argsort(dim=-1, descending=True).argsort(dim=-1)
    return places < torch.ceil(DENSITY * (block[:, None] + 1))


def run(_: Subject, settings: Settings) -> list[Result]:
    length = QUICK_LENGTH if settings.quick else LENGTH
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, length, HEADS, WIDTH, generator=generator).transpose(1, 2) for _ in range(3))
    work: dict[str, Callable[[], Tensor]] = {
        "dense causal": lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)
    }
    density, sizes, notes = {}, {}, []
    for size in (64, 128, 256):
        blocks = Blocks.even(length, size, q.device)
        table = selected(blocks, generator)
        call = operator("softmax").call(scale=WIDTH**-0.5)
        name = f"blocks of {size}"
        density[name], sizes[name] = float(table.sum() / (HEADS * blocks.count * (blocks.count + 1) / 2)), size
        work[name] = lambda table=table, blocks=blocks, call=call: block_sparse.by_block(q, k, v, table, blocks, call)
    for text in (
        "block-mixture(block=256, top_k=8)",
        "video-block-mixture(slabs=32)",
        "bi-level-routing(regions=32, top_k=8)",
        "proxy-heads(block=256, share=0.25)",
        "pyramid-sparse(query_block=128, key_block=64, tile=32, stride=4)",
    ):
        bound = operator(text)
        work[text] = lambda bound=bound: bound.z(q, k, v, bound.call(scale=WIDTH**-0.5))
    with one_thread():
        for name in work:
            work[name]()  # once for the allocator
        contestants = {name: lambda name=name: cpu_seconds(work[name]) for name in work}
        measured = in_turns(contestants, min(settings.rounds, 3), "sparse")
    dense = measured["dense causal"]
    rows = [
        Row(
            name,
            median(seconds),
            ratio=None if name == "dense causal" else Ratio.within_rounds(dense, seconds, "faster"),
            bar=BAR.get(sizes.get(name, 0)),
        )
        for name, seconds in measured.items()
    ]
    shares = ", ".join(f"{share:.0%} ({name})" for name, share in density.items())
    notes.append(f"Random earlier blocks and the own one, {shares} of the causal pairs; CPU seconds of one thread.")
    notes.append("Operators: their whole z, selection included, on random q and k.")
    return [
        Result("operators_sparse", f"z over selected blocks, {length} positions, {HEADS} heads", rows, notes, measured)
    ]
