"""The price of each form: counts against loops that count, states against published tables, passes by operator."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from workbench.attention.cost.forms import FORMS, form
from workbench.attention.cost.traffic import state_bytes
from workbench.attention.cost.workload import Workload
from workbench.attention.operator import operator
from workbench.errors import UnknownName, UsageError
from workbench.registry import OPERATORS

#: Form, passes over the keys, and of these to select, by operator.
EXPECTED = {
    **dict.fromkeys(
        (
            *("softmax", "sliding-window", "neighbourhood", "context-causal", "layout-mask", "masked-reference"),
            *("alternating-subregion", "joint-block", "pattern-reordered"),
        ),
        ("softmax", 1, 0),
    ),
    "fixed-qk": ("shared softmax", 1, 0),
    "interleaved-space-time": ("two softmaxes", 2, 0),
    "second-order": ("polynomial", 1, 0),
    "query-free": ("query-free", 1, 0),
    "mlp": ("position-wise", 0, 0),
    "uniform": ("mean", 1, 0),
    "static": ("stored weights", 1, 0),
    **dict.fromkeys(("block-mixture", "video-block-mixture", "bi-level-routing"), ("block-selected softmax", 2, 1)),
    "pyramid-sparse": ("pooled softmax", 2, 1),
    "proxy-heads": ("proxy-selected softmax", 2, 1),
    **dict.fromkeys(("linear", "block-linear", "simplified-linear"), ("linear", 1, 0)),
    "lightning": ("decayed linear", 1, 0),
    "recurrent-chunks": ("chunk states", 1, 0),
    **dict.fromkeys(("delta", "gated-delta"), ("delta", 1, 0)),
    **dict.fromkeys(("moneta", "yaad", "memora"), ("gradient memory", 1, 0)),
    "reversed": ("reversed softmax", 1, 0),
}


@pytest.mark.parametrize("operator", EXPECTED)
def test_the_passes_of_each_operator(operator):
    name, passes, to_select = EXPECTED[operator]
    assert (form(name).passes, form(name).passes_to_select) == (passes, to_select)


def test_softmax_takes_three_as_written_and_one_with_a_running_maximum():
    assert (form("softmax").passes_as_written, form("softmax").passes) == (3, 1)


def test_all_operators_of_the_list_are_priced():
    assert len(EXPECTED) == 32


@pytest.mark.parametrize("name", sorted(OPERATORS.names()))
def test_every_operator_names_a_form(name):
    expected = EXPECTED.get(name, (None,))[0]
    assert OPERATORS[name].form in FORMS
    if expected is not None:
        assert OPERATORS[name].form.removesuffix(" state") == expected


def test_an_unknown_form_is_refused():
    with pytest.raises(UnknownName, match=r"form='softmaxx': expected .* Did you mean 'softmax'"):
        form("softmaxx")


@pytest.mark.parametrize(
    "wrong", [{"length": 0}, {"pairs": 10}, {"n_heads": 4, "n_kv_heads": 3}, {"causal": 1}, {"block": 2.5}]
)
def test_a_workload_without_a_meaning_is_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(reversed(wrong)))):
        Workload(**{"length": 3, **wrong})


# --- pairs


@pytest.mark.parametrize("length", [1, 7, 8, 21])
@pytest.mark.parametrize("block", [1, 4, 8, 50])
def test_pairs_are_those_of_a_loop(length, block):
    work = Workload(length=length, block=block)
    assert work.seen == sum(i + 1 for i in range(length))
    assert work.chunk_state_pairs == sum(i // block + 1 for i in range(length))
    assert work.n_blocks == len(range(0, length, block))
    sizes = [size for count, size in work.block_sizes for _ in range(count)]
    assert sizes == [min(block, length - at) for at in range(0, length, block)]
    assert Workload(length=length, causal=False).seen == length**2


# --- FLOPs, against PyTorch's own counter of matrix products


def counted(run) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def inputs(length: int, d: int, f: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(length, d), torch.randn(length, d), torch.randn(length, f)


def test_softmax_is_two_products():
    q, k, v = inputs(24, 8, 6)
    work = Workload(length=24, d_head=8, d_value=6, causal=False)
    assert form("softmax").flops(work) == counted(lambda: torch.softmax(q @ k.mT, -1) @ v)


def test_stored_weights_are_one_product():
    v = torch.randn(24, 6)
    work = Workload(length=24, d_head=8, d_value=6, causal=False)
    assert form("stored weights").flops(work) == counted(lambda: torch.randn(24, 24) @ v)


def chunks(length: int, size: int) -> list[slice]:
    return [slice(at, min(at + size, length)) for at in range(0, length, size)]


@pytest.mark.parametrize("length", [16, 21])
def test_decayed_linear_in_chunks(length):
    q, k, v = inputs(length, 8, 6)
    work = Workload(length=length, d_head=8, d_value=6, block=4)

    def run() -> None:
        state = torch.zeros(8, 6)
        for at in chunks(length, 4):
            _ = (q[at] @ k[at].mT) @ v[at], q[at] @ state
            state = state + k[at].mT @ v[at]

    assert form("decayed linear").flops(work) == counted(run)


def test_the_price_of_lightning_is_what_the_operator_computes():
    """All but the first chunk's product with a state and the last one's addition to it, which it leaves out."""
    q, k, v = (torch.randn(1, 3, 300, d) for d in (8, 8, 6))
    lightning = operator("lightning")
    work = Workload(length=300, d_head=8, d_value=6, block=64)
    done = counted(lambda: lightning.z(q, k, v, lightning.call(scale=1.0, causal=True)))
    assert form(lightning.operator.form).flops(work) * 3 - done == 3 * 2 * (64 + 300 % 64) * 8 * 6


@pytest.mark.parametrize("causal", [True, False])
def test_linear_is_that_with_a_column_of_ones_in_v(causal):
    q, k, v = inputs(21, 8, 6)
    v = torch.cat([v, torch.ones(21, 1)], 1)
    work = Workload(length=21, d_head=8, d_value=6, block=4, causal=causal)

    def run() -> None:
        for at in chunks(21, 4) if causal else [slice(None)]:
            _ = q[at] @ (k[at].mT @ v[at])
            if causal:
                _ = (q[at] @ k[at].mT) @ v[at]

    assert form("linear").flops(work) == counted(run)


@pytest.mark.parametrize("length", [16, 21])
def test_delta_in_chunks(length):
    q, k, v = inputs(length, 8, 6)
    work = Workload(length=length, d_head=8, d_value=6, block=4)
    solves = 0

    def run() -> None:
        nonlocal solves
        state = torch.zeros(8, 6)
        for at in chunks(length, 4):
            triangle = torch.eye(len(q[at])) + (k[at] @ k[at].mT).tril(-1)
            both = torch.cat([v[at], k[at]], 1)
            solves += len(both) ** 2 * both.shape[1]  # half of a full product, which the counter does not know
            u, w = torch.linalg.solve_triangular(triangle, both, upper=False, unitriangular=True).split([6, 8], 1)
            new = u - w @ state
            _ = q[at] @ state + (q[at] @ k[at].mT).tril() @ new
            state = state + k[at].mT @ new

    assert form("delta").flops(work) == counted(run) + solves


def test_selection_adds_its_scores_and_means():
    dense, selected = form("softmax"), form("block-selected softmax")
    work = Workload(length=64, d_head=8, block=16, pairs=500)
    k = torch.randn(64, 8)
    means = k.view(4, 16, 8).mean(1)
    assert selected.flops(work) - dense.flops(work) == counted(lambda: k @ means.mT) + k.numel()


def test_work_grows_as_the_form_says():
    def growth(name: str) -> float:
        return form(name).flops(Workload(length=2**16)) / form(name).flops(Workload(length=2**15))

    for name in ("linear", "decayed linear", "delta", "gradient memory", "query-free", "mean", "polynomial state"):
        assert growth(name) == 2, name
    for name in ("softmax", "polynomial", "stored weights", "reversed softmax", "chunk states"):
        assert growth(name) == pytest.approx(4, rel=0.01), name
    half = Workload(length=64, causal=False, pairs=64**2 // 4)  # alternating subregions: work / s
    assert 4 * form("softmax").flops(half) == form("softmax").flops(Workload(length=64, causal=False))


# --- state


@pytest.mark.parametrize("batch", [1, 3])
def test_states_are_those_of_the_published_table(batch):
    """Deconstructing Attention (arXiv 2510.11602), decode cache in bytes of 16-bit numbers: d = width of all heads."""
    length, heads, d = 100, 14, 896
    work = Workload(length=length, n_heads=heads, d_head=d // heads, batch=batch, bytes_each=2)
    expected = {
        "softmax": 4 * batch * length * d,
        "position-wise": 0,
        "query-free": 2 * batch * d + 4 * batch * heads,
        "shared softmax": 2 * (batch + 1) * length * d,
    }
    assert {name: state_bytes(form(name), work) for name in expected} == expected


def test_states_of_recurrences():
    work = Workload(length=1000, n_heads=4, n_kv_heads=2, d_head=8, d_value=6, block=64)
    longer = Workload(length=5000, n_heads=4, n_kv_heads=2, d_head=8, d_value=6, block=64)
    expected = {"decayed linear": 8 * 6, "delta": 8 * 6, "linear": 8 * 6 + 8, "mean": 6, "polynomial state": 73 * 7}
    for name, numbers in expected.items():
        assert state_bytes(form(name), work) == state_bytes(form(name), longer) == 4 * 4 * numbers, name
    assert state_bytes(form("softmax"), work) == 4 * 2 * 1000 * 14
    assert state_bytes(form("chunk states"), work) == 4 * 4 * (15 + 1) * 14
    assert state_bytes(form("reversed softmax"), work) is None
