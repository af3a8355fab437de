"""Neighbourhood attention against NATTEN, the reference's windows and numbers, and its identities."""

import math

import pytest
import torch
from torch.nn import functional as F

from tests.oracle.unpacked import NATTEN
from tests.workbench.attention.operators.mask_cases import close, padding_changes_nothing, proof, random, reference
from workbench.attention.operator import operator
from workbench.attention.primitives.neighbourhood import Axis
from workbench.errors import UsageError

#: Grid, d_head, and settings: by NATTEN's forward on the CPU.
AGAINST_NATTEN = [
    ((40,), 8, {"window": 5}),
    ((40,), 16, {"window": 6, "stride": 3}),
    ((64,), 32, {"window": 16, "stride": 8}),
    ((64,), 64, {"window": 8, "stride": 8}),
    ((50,), 8, {"window": 7, "stride": 2, "dilation": 3}),
    ((50,), 16, {"window": 8, "stride": 3, "dilation": 2, "causal": True}),
    ((50,), 32, {"window": 32, "causal": True}),
    ((33,), 8, {"window": 4, "stride": 4, "causal": True}),
    ((64,), 8, {"window": 63}),
    ((200,), 8, {"window": 8, "stride": 3, "dilation": 2}),  # these two in steps of the first axis
    ((200,), 8, {"window": 8, "stride": 3, "dilation": 2, "causal": True}),
    ((3, 4), 8, {"window": (2, 3), "stride": (1, 2), "causal": (False, True)}),
    ((7, 9), 16, {"window": (3, 4), "dilation": (2, 1), "causal": (True, False)}),
    ((40, 5), 8, {"window": (3, 4), "stride": (2, 1), "causal": (True, False)}),
    ((2, 3, 3), 8, {"window": (2, 2, 3), "stride": (2, 1, 1)}),
    ((4, 5, 6), 64, {"window": (3, 2, 3), "dilation": (1, 2, 2), "causal": (True, False, False)}),
]


@pytest.mark.parametrize("grid, d, settings", AGAINST_NATTEN)
def test_against_natten(grid, d, settings):
    functional = NATTEN.module("natten.functional")
    bound = operator("neighbourhood", **settings)
    q, k, v = random(2, 2, math.prod(grid), d, torch.float32)
    attention = {1: functional.na1d, 2: functional.na2d, 3: functional.na3d}[len(grid)]
    options = {name: settings[name] for name in ("stride", "dilation") if name in settings}
    with NATTEN.importable():
        expected = attention(
            *(x.transpose(1, 2).unflatten(1, grid) for x in (q, k, v)),
            kernel_size=settings["window"],
            is_causal=settings.get("causal", False),
            **options,
        )
    expected = expected.flatten(1, -3).transpose(1, 2)
    call = bound.call(scale=d**-0.5, causal=False, grid=grid)
    close(bound.z(q, k, v, call), expected, 2e-6)
    close(bound.explicit(q, k, v, call), expected, 2e-6)


def windows(length: int, window: int, stride: int = 1, dilation: int = 1, causal: bool = False) -> list[str]:
    first, last = Axis(window, stride, dilation, causal).ends(torch.arange(length), length)
    return [f"{a}-{b}" for a, b in zip(first.tolist(), last.tolist(), strict=True)]


def test_the_references_windows():
    assert windows(8, 3) == ["0-2", "0-2", "1-3", "2-4", "3-5", "4-6", "5-7", "5-7"]
    assert windows(8, 4) == [*["0-3"] * 3, "1-4", "2-5", "3-6", *["4-7"] * 2]
    assert windows(8, 4, 2) == ["0-3", "0-3", "1-4", "1-4", "3-6", "3-6", "4-7", "4-7"]
    assert windows(8, 4, 4) == ["0-3"] * 4 + ["4-7"] * 4
    assert windows(8, 4, 2, causal=True) == ["0-0", "0-1", "0-2", "0-3", "2-4", "2-5", "4-6", "4-7"]
    assert windows(10, 4, 4) == ["0-3"] * 4 + ["4-7"] * 4 + ["6-9"] * 2
    assert windows(10, 4, 3) == ["0-3"] * 3 + ["2-5"] * 3 + ["5-8"] * 3 + ["6-9"]
    seen = Axis(3, 1, 2).sees(torch.arange(9)[:, None], torch.arange(9), 9)
    rows = [seen[row].nonzero().flatten().tolist() for row in (0, 1, 7, 8)]
    assert rows == [[0, 2, 4], [1, 3, 5], [3, 5, 7], [4, 6, 8]]


@pytest.mark.parametrize(
    "window, stride, dilation, causal, total",
    [
        (3, 1, 1, False, 0.943225),
        (4, 2, 1, False, -4.872855),
        (4, 4, 1, False, 1.15411),
        (4, 2, 1, True, 4.330314),
        (3, 1, 2, False, 13.497738),
        (8, 1, 1, False, 1.368245),
    ],
)
def test_the_references_numbers_along_a_sequence(window, stride, dilation, causal, total):
    bound = operator("neighbourhood", window=window, stride=stride, dilation=dilation, causal=causal)
    z = bound.z(*reference(2, 8, 4), bound.call(scale=0.5, causal=False))
    assert z.sum().item() == pytest.approx(total, abs=1e-6)


def test_the_references_numbers_on_a_grid():
    q, k, v = reference(1, 16, 4)
    three = operator("neighbourhood", window=3)
    z = three.z(q, k, v, three.call(scale=0.5, causal=False, grid=(4, 4)))
    assert z.sum().item() == pytest.approx(-0.217421, abs=1e-6)
    expected = torch.tensor([0.077411, 0.010293, -0.06042, -0.110027], dtype=torch.float64)
    close(z[0, 0, 5], expected, 1e-5)
    two = operator("neighbourhood", window=2, stride=2)
    z = two.z(q, k, v, two.call(scale=0.5, causal=False, grid=(4, 4)))
    assert z.sum().item() == pytest.approx(2.510596, abs=1e-6)


def test_both_forms_agree():
    for settings in (
        {"window": 4},
        {"window": 4, "stride": 3},
        {"window": 3, "dilation": 2},
        {"window": 3, "causal": True},
    ):
        proof(operator("neighbourhood", **settings), [1, 2, 3, 9, 50])
        padding_changes_nothing(operator("neighbourhood", **settings))
        padding_changes_nothing(operator("neighbourhood", **settings), causal=False)
    for before in (0, 1):
        bound = operator("neighbourhood", window=(3, 2), stride=(2, 1), causal=(False, True))
        shapes = {n * 3 + before: {"grid": (n, 3), "before": before} for n in (1, 4, 25)}
        proof(bound, list(shapes), values=shapes.__getitem__)


def dense(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.5)


def test_identities():
    q, k, v = random(1, 2, 24, 4)
    i, j = torch.arange(24)[:, None], torch.arange(24)

    def z(causal=False, grid=(), **settings):
        bound = operator("neighbourhood", **settings)
        return bound.z(q, k, v, bound.call(scale=0.5, causal=causal, grid=grid))

    everything = i == i + 0 * j
    close(z(window=24), dense(q, k, v, everything))
    block = i // 6 == j // 6
    close(z(window=6, stride=6), dense(q, k, v, block))
    close(z(window=6, stride=6, causal=True), dense(q, k, v, block & (j <= i)))
    near = (j <= i) & (j > i - 5)
    close(z(window=5, causal=True), dense(q, k, v, near))
    sliding = operator("sliding-window", window=5)
    close(z(window=5, causal=True), sliding.z(q, k, v, sliding.call(scale=0.5)))
    close(z(window=6, dilation=4), dense(q, k, v, i % 4 == j % 4))
    swin = (i // 6 // 2 == j // 6 // 2) & (i % 6 // 3 == j % 6 // 3)
    close(z(window=(2, 3), stride=(2, 3), grid=(4, 6)), dense(q, k, v, swin))


def test_a_causal_model_has_causal_windows_and_a_grid_has_its_own():
    q, k, v = random(1, 2, 24, 4)
    plain, causal = (operator("neighbourhood", window=5, stride=2, causal=flag) for flag in (False, True))
    close(plain.z(q, k, v, plain.call(scale=0.5)), causal.z(q, k, v, causal.call(scale=0.5, causal=False)))
    whole = plain.pattern(q, k, plain.call(scale=0.5))
    for length in range(1, 24):  # of a beginning, whatever follows
        part = plain.pattern(q[:, :, :length], k[:, :, :length], plain.call(scale=0.5))
        close(part, whole[:, :, :length, :length])
    record = plain.record(q, k, v, plain.call(scale=0.5))["windows"]
    assert record[22:].tolist() == [[[19, 22]], [[19, 23]]]
    on_grid = plain.call(scale=0.5, causal=True, grid=(24,))
    seen = plain.pattern(q, k, on_grid) > 0
    assert not seen.triu(1).any()


def test_each_row_has_the_windows_size_and_axes_combine():
    bound = operator("neighbourhood", window=(3, 4), stride=(2, 1))
    q, k, _ = random(1, 1, 42, 4)
    seen = (bound.pattern(q, k, bound.call(causal=False, grid=(6, 7))) > 0)[0, 0]
    assert (seen.sum(-1) == 12).all()
    ends = [
        Axis(3, 2).sees(torch.arange(6)[:, None], torch.arange(6), 6),
        Axis(4).sees(torch.arange(7)[:, None], torch.arange(7), 7),
    ]
    assert torch.equal(seen, torch.kron(*(x.long() for x in ends)).bool())
    table = bound.record(q, k, q, bound.call(causal=False, grid=(6, 7)))["windows"]
    assert table.shape == (42, 2, 2)
    row = seen[17].view(6, 7)
    assert table[17].tolist() == [
        [(x := row.any(1 - axis).nonzero().flatten())[0].item(), x[-1].item()] for axis in (0, 1)
    ]


def test_what_does_not_fit_is_refused():
    q, k, v = random(1, 1, 12, 4)
    with pytest.raises(UsageError, match=r"stride=5\): expected no more than the window, which is 4"):
        operator("neighbourhood", window=4, stride=5)
    with pytest.raises(UsageError, match="as many values in each"):
        operator("neighbourhood", window=(4, 4), stride=(1, 1, 1))
    bound = operator("neighbourhood", window=(3, 3))
    with pytest.raises(UsageError, match=r"window=\(3, 3\)\): expected 1 value, one for each axis of a sequence"):
        bound.z(q, k, v, bound.call())
    with pytest.raises(UsageError, match=r"a grid of \(3, 5\) has 15 positions, and there are 12"):
        bound.z(q, k, v, bound.call(grid=(3, 5)))
    with pytest.raises(UsageError, match="True or False"):
        operator("neighbourhood", causal=(True, 2))
