"""Moneta, Yaad and Memora: the numbers of a worked example, and their identities with the delta rule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.attention.layer import LayerShape
from workbench.attention.operator import operator
from workbench.errors import UsageError

#: Four keys of length one and four values of three entries, and a memory to begin with.
_N = torch.arange(12, dtype=torch.float64)
K = torch.nn.functional.normalize(torch.sin(0.9 * _N + 0.1).view(1, 1, 4, 3), dim=-1)
V = 2 * torch.cos(0.6 * _N).view(1, 1, 4, 3)
START = 0.1 * torch.sin(torch.arange(9, dtype=torch.float64) + 1).view(1, 1, 3, 3)
NAMES = ("moneta", "yaad", "memora")


def after(name: str, start: Tensor = START, **settings: Any) -> tuple[Tensor, Tensor]:
    """W after the four positions, and what the operator holds."""
    bound = operator(name, **settings)
    call = bound.call()
    (state,) = bound.advance(K, V, call, (start,))
    # W, read with the three unit vectors as queries that write nothing.
    rates = {"eta": torch.zeros(1, 3, 1).double(), "alpha": torch.ones(1, 3, 1).double()}
    if settings.get("delta", True) is not None:
        rates["delta"] = torch.ones(1, 3, 1).double()
    silent = bound.call(gates=rates)
    unit = torch.eye(3, dtype=torch.float64)[None, None]
    return bound.z(unit, K[:, :, :3], V[:, :, :3], silent, (state,))[0, 0].T, state[0, 0]


def close(value: Tensor, expected: list[float] | float) -> None:
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=6e-7)


def test_moneta_in_numbers() -> None:
    w, a = after("moneta")
    close(w[0], [0.007299, -0.004541, -0.012984])
    close(w.sum(), 0.066311)
    assert a.pow(4).sum().pow(0.25).item() == pytest.approx(15.5578, abs=6e-5)
    close(after("moneta", p=2, q=2)[0].sum(), 3.421802)


def test_the_mirror_map_of_moneta_in_numbers() -> None:
    close(after("moneta", q=1.5, retention="mirror")[0].sum(), 2.778928)
    with pytest.raises(UsageError, match="expected a number above 1 and of at most 2, because retention is"):
        operator("moneta", retention="mirror")


@pytest.mark.parametrize(
    ("settings", "total"),
    [
        ({"delta": 2.5}, 2.365005),
        ({"delta": 2.5, "huber": "norm"}, 1.885706),
        ({"delta": 1.5, "huber": "coordinate"}, 1.76421),
        ({"delta": None}, 2.015816),
    ],
)
def test_yaad_in_numbers(settings: dict[str, Any], total: float) -> None:
    w, _ = after("yaad", **settings)
    close(w.sum(), total)
    if settings == {"delta": 2.5}:
        close(w[0], [0.505722, 0.297889, -0.145082])


def test_memora_in_numbers() -> None:
    uniform = torch.full((1, 1, 3, 3), 1 / 3, dtype=torch.float64).log()
    w, _ = after("memora", uniform)
    close(w[0], [0.512437, 0.325656, 0.161907])
    close(w[2], [0.369257, 0.371671, 0.259072])
    close(after("memora", uniform, slices="columns")[0][0], [0.366012, 0.292735, 0.251425])


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


Q = random(2, 3, 9, 4)
KEYS, VALUES = random(2, 3, 9, 4) + 0.2, random(2, 3, 9, 5)


def decayed_delta(factor: float, eta: float = 0.2, alpha: float = 0.9) -> Tensor:
    """``W ← alpha W − eta factor (W k − v) kᵀ``, written out."""
    q, k = (torch.nn.functional.normalize(x, dim=-1) for x in (Q, KEYS))
    w, rows = torch.zeros(2, 3, 5, 4, dtype=torch.float64), []
    for t in range(9):
        error = torch.einsum("bhvd,bhd->bhv", w, k[:, :, t]) - VALUES[:, :, t]
        w = alpha * w - eta * factor * torch.einsum("bhv,bhd->bhvd", error, k[:, :, t])
        rows.append(torch.einsum("bhvd,bhd->bhv", w, q[:, :, t]))
    return torch.stack(rows, 2)


@pytest.mark.parametrize(
    ("name", "settings", "factor"),
    [
        ("moneta", {"p": 2, "q": 2}, 2),
        ("moneta", {"p": 2, "q": 2, "retention": "mirror"}, 2),
        ("yaad", {"delta": None}, 1),
        ("yaad", {"delta": 1e6}, 1),
        ("yaad", {"delta": 1e6, "huber": "norm"}, 1),
        ("yaad", {"delta": 1e6, "huber": "coordinate", "factor": 2}, 2),
    ],
)
def test_without_its_loss_each_is_the_delta_rule_with_decay(name: str, settings: Any, factor: float) -> None:
    bound = operator(name, **settings)
    torch.testing.assert_close(bound.z(Q, KEYS, VALUES, bound.call()), decayed_delta(factor), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("slices", ["rows", "columns"])
@pytest.mark.parametrize("retention", ["decay", "kl"])
def test_slices_of_memora_stay_positive_and_sum_to_c(slices: str, retention: str) -> None:
    bound = operator("memora", slices=slices, retention=retention, total=2.5, eta=3)
    w = bound.record(Q, KEYS, VALUES, bound.call())["weights"]
    assert bool((w > 0).all())
    sums = w.sum(-1 if slices == "rows" else -2)
    torch.testing.assert_close(sums, torch.full_like(sums, 2.5), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_without_learning_or_forgetting_the_memory_stays(name: str) -> None:
    bound = operator(name, eta=0, alpha=1)
    start = torch.log_softmax(random(2, 3, 5, 4), -1) if name == "memora" else random(2, 3, 5, 4)
    (state,) = bound.advance(KEYS, VALUES, bound.call(), (start,))
    torch.testing.assert_close(state, start, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("retention", "q"), [("q-2", 1.5), ("q-2", 4), ("(q-2)/q", 1.5), ("(q-2)/q", 4), ("mirror", 1.5)]
)
def test_nothing_in_a_memory_of_moneta_divides_by_zero(retention: str, q: float) -> None:
    """Values of 0 leave A at 0: z is 0, and every gradient a number."""
    bound = operator("moneta", retention=retention, q=q, p=3)
    v = torch.zeros_like(VALUES).requires_grad_()
    z = bound.z(Q, KEYS, v, bound.call())
    assert not z.any()
    z.sum().backward()
    assert v.grad is not None and bool(v.grad.isfinite().all())


def test_the_printed_loss_of_yaad_jumps_at_its_limit() -> None:
    """At e = (.6, .8, 0), of length δ = 1: e before, (1, 1, 0) behind, longer by √2."""
    k, v = (torch.tensor([[[x]]], dtype=torch.float64) for x in ([1.0, 0], [-0.6, -0.8, 0]))
    lengths = []
    for scale in (1 - 1e-9, 1 + 1e-9):
        bound = operator("yaad", delta=1, eta=1)
        lengths.append(bound.z(k, k, v * scale, bound.call()).norm().item())
    assert lengths == pytest.approx([1, 2**0.5], abs=1e-6)


def test_surprises_and_the_branch_of_yaad_are_recorded() -> None:
    bound = operator("yaad", delta=2.5)
    call = bound.call()
    recorded = bound.record(K, K, V, call)
    assert recorded["surprise"][0, 0, 0].item() == pytest.approx(V[0, 0, 0].norm().item())
    errors, w = [], torch.zeros(3, 3).double()
    for t in range(4):
        e = w @ K[0, 0, t] - V[0, 0, t]
        errors.append(e.norm().item())
        w = 0.9 * w - 0.2 * torch.outer(e if e.norm() <= 2.5 else 2.5 * e.sign(), K[0, 0, t])
    assert recorded["surprise"][0, 0].tolist() == pytest.approx(errors)
    assert recorded["limited"][0, 0].tolist() == [error > 2.5 for error in errors]
    assert 0 < sum(recorded["limited"][0, 0].tolist()) < 4


@pytest.mark.parametrize("name", NAMES)
def test_a_swap_begins_with_the_settings(name: str) -> None:
    """The module's projections have weights 0: whatever x is, z is that of the constants."""
    bound = operator(name, eta=0.3, alpha=0.8)
    assert bound.operator.module is not None
    shape = LayerShape(layer=0, n_layers=1, n_heads=3, n_kv_heads=3, d_head=4, d_value=5, d_model=7)
    module = bound.operator.module(shape, bound.settings).double()
    gates = module.gates(random(2, 9, 7), lambda name, x: x)
    with_gates = bound.z(Q, KEYS, VALUES, bound.call(gates=gates))
    torch.testing.assert_close(with_gates, bound.z(Q, KEYS, VALUES, bound.call()), rtol=1e-5, atol=1e-6)
