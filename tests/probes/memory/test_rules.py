"""Every rule against its formula as a plain loop in numpy, and against the operator of the same arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from probes.memory.draws import unit
from probes.memory.memory import Memory
from workbench.attention.operator import operator
from workbench.errors import BadInput, UnknownName, UsageError
from workbench.registry import MEMORY_RULES

D, D_VALUE, N = 6, 5, 9


def pairs(trials: int, n: int, d: int, d_value: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Keys and values of length one."""
    generator = torch.Generator().manual_seed(0)
    k, v = (torch.randn(trials, n, size, generator=generator, dtype=torch.float64) for size in (d, d_value))
    return unit(k).to(dtype), unit(v).to(dtype)


# --- plain loops, of one trial


def hebbian(s: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    return s + np.outer(v, k)


def decay(g: float) -> Callable[..., np.ndarray]:
    return lambda s, k, v: g * s + np.outer(v, k)


def delta(beta: float, alpha: float = 1.0) -> Callable[..., np.ndarray]:
    return lambda s, k, v: alpha * s + beta * np.outer(v - alpha * s @ k, k)


def yaad(huber: str, eta: float, alpha: float, limit: float) -> Callable[..., np.ndarray]:
    def step(w: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        e = w @ k - v
        length = np.sqrt((e**2).sum())
        if length > limit:
            e = limit * (np.sign(e) if huber == "printed" else e / length)
        return alpha * w - eta * np.outer(e, k)

    return step


def loop(step: Callable[..., np.ndarray], k: Tensor, v: Tensor) -> np.ndarray:
    """W of each trial."""
    result = []
    for keys, values in zip(k.double().numpy(), v.double().numpy(), strict=True):
        w = np.zeros((values.shape[1], keys.shape[1]))
        for key, value in zip(keys, values, strict=True):
            w = step(w, key, value)
        result.append(w)
    return np.stack(result)


MATRICES: dict[str, Callable[..., np.ndarray]] = {
    "hebbian": hebbian,
    "decay": decay(0.97),
    "decay(decay=0.5)": decay(0.5),
    "delta": delta(1.0),
    "delta(beta=0.3)": delta(0.3),
    "delta(beta=1.5)": delta(1.5),
    "gated-delta": delta(0.5, 0.98),
    "gated-delta(beta=1, decay=0.7)": delta(1.0, 0.7),
    "yaad": yaad("norm", 1.0, 1.0, 1.0),
    "yaad(preset=printed, delta=0.7)": yaad("printed", 0.2, 0.9, 0.7),
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_memory_is_its_formula_in_a_loop(name: str) -> None:
    k, v = pairs(3, N, D, D_VALUE)
    memory = Memory(name).write(k, v)
    w = loop(MATRICES[name], k, v)
    assert memory.state is not None
    np.testing.assert_allclose(memory.state[0].numpy(), w, rtol=0, atol=1e-12)
    q, _ = pairs(3, 4, D, 1)
    np.testing.assert_allclose(memory.read(q).numpy(), q.numpy() @ w.swapaxes(1, 2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["delta", "delta(beta=0.3)", "gated-delta", "gated-delta(beta=1, decay=0.9)"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_the_triangular_solve_is_the_loop_over_several_chunks(name: str, dtype: torch.dtype, tolerance: float) -> None:
    k, v = pairs(4, 200, 64, 64, dtype)
    memory = Memory(name).write(k, v)
    assert memory.state is not None
    (state,) = memory.state
    w = loop(MATRICES.get(name) or delta(1.0, 0.9), k, v)
    assert state.dtype == dtype and np.abs(state.numpy() - w).max() < tolerance < np.abs(w).max()


@pytest.mark.parametrize(
    ("settings", "exponent"), [({}, 2 / 4), ({"preset": "printed"}, 2.0), ({"p": 2.5, "q": 3}, 1 / 3)]
)
def test_moneta_is_its_formula(settings: dict[str, Any], exponent: float) -> None:
    k, v = pairs(3, N, D, D_VALUE)
    memory = Memory("moneta", **settings)
    p, q, eta, alpha = (memory.settings[name] for name in ("p", "q", "eta", "alpha"))
    values = memory.write(k, v).read(k).numpy()
    for trial in range(3):
        a = w = np.zeros((D_VALUE, D))
        for key, value in zip(k[trial].numpy(), v[trial].numpy(), strict=True):
            e = w @ key - value
            a = alpha * a - eta * p * np.outer(np.sign(e) * np.abs(e) ** (p - 1), key)
            w = a / (np.abs(a) ** q).sum() ** (exponent / q)
        np.testing.assert_allclose(values[trial], k[trial].numpy() @ w.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"preset": "printed"}, {"slices": "columns"}])
def test_memora_is_its_formula(settings: dict[str, Any]) -> None:
    k, v = pairs(2, N, D, D_VALUE)
    memory = Memory("memora", **settings)
    axis, total = (0 if settings.get("slices") else 1), memory.settings["total"]
    values = memory.write(k, v).read(k).numpy()
    for trial in range(2):
        w = np.full((D_VALUE, D), total / (D_VALUE, D)[axis])
        for key, value in zip(k[trial].numpy(), v[trial].numpy(), strict=True):
            e = w @ key - value
            w = np.exp(memory.settings["alpha"] * np.log(w) - memory.settings["eta"] * 2 * np.outer(e, key))
            w = total * w / w.sum(axis, keepdims=True)
        np.testing.assert_allclose(values[trial], k[trial].numpy() @ w.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [3, D, 20])
def test_the_pseudo_inverse_is_least_squares(n: int) -> None:
    k, v = pairs(2, n, D, D_VALUE)
    q, _ = pairs(2, 7, D, 1)
    values = Memory("pseudo-inverse").write(k, v).read(q).numpy()
    for trial in range(2):
        w = np.linalg.lstsq(k[trial].numpy(), v[trial].numpy(), rcond=None)[0]
        np.testing.assert_allclose(values[trial], q[trial].numpy() @ w, rtol=0, atol=1e-10)


def test_the_pseudo_inverse_of_a_key_that_is_written_twice_is_the_mean_of_its_values() -> None:
    k, v = pairs(1, 2, D, D_VALUE)
    values = Memory("pseudo-inverse").write(k[:, [0, 0, 1]], torch.cat([v, v[:, :1]], 1)).read(k[:, :1])
    torch.testing.assert_close(values[0, 0], v[0].mean(0), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("settings", "beta"), [({}, D**0.5), ({"beta": 3.0}, 3.0)])
def test_softmax_is_its_formula(settings: dict[str, Any], beta: float) -> None:
    k, v = pairs(2, N, D, D_VALUE)
    weight = np.exp(beta * (k @ k.mT).numpy())
    expected = weight / weight.sum(-1, keepdims=True) @ v.numpy()
    np.testing.assert_allclose(Memory("softmax", **settings).write(k, v).read(k).numpy(), expected, rtol=0, atol=1e-12)


# --- the operators of the same arithmetic


OPERATORS = [
    *("hebbian", "delta", "delta(beta=0.3)", "gated-delta", "gated-delta(decay=0.9)", "softmax"),
    *(f"{name}{settings}" for name in ("yaad", "moneta", "memora") for settings in ("", "(preset=printed)")),
    *("yaad(delta=None)", "moneta(p=2, q=1.5, retention=mirror)", "memora(retention=kl, alpha=0.5)"),
]


@pytest.mark.parametrize("name", OPERATORS)
def test_a_memory_is_the_operator_of_its_name(name: str) -> None:
    memory = Memory(name)
    assert memory.rule.operator is not None
    bound = operator(memory.rule.operator(memory.settings))
    k, v = pairs(2, N, D, D_VALUE)
    q, _ = pairs(2, N, D, 1)
    # The last position sees all pairs. Operators of the delta rule divide q by √d; softmax has its scale in the call.
    scale = D**0.5 if bound.operator.name in ("delta", "gated-delta") else 1.0
    z = bound.z(scale * q[:, None], k[:, None], v[:, None], bound.call(scale=D**0.5))[:, 0]
    read = memory.write(k, v).read(q)
    assert z.abs().max() > 0.01
    torch.testing.assert_close(z[:, -1], read[:, -1], rtol=0, atol=1e-12)


def test_decay_is_lightning_attention_with_one_head() -> None:
    bound = operator("lightning(norm=False, layer_factor=False)")
    k, v = pairs(2, N, D, D_VALUE)
    z = bound.z(k[:, None], k[:, None], v[:, None], bound.call())
    memory = Memory("decay", decay=float(np.exp(-(2.0**-8))))  # the slope of ALiBi's only head
    torch.testing.assert_close(z[:, 0, -1], memory.write(k, v).read(k)[:, -1], rtol=0, atol=1e-8)


# --- the interface


@pytest.mark.parametrize("name", MEMORY_RULES.names())
def test_pairs_can_be_written_in_pieces_and_trials_are_independent(name: str) -> None:
    k, v = pairs(3, N, D, D_VALUE)
    whole = Memory(name).write(k, v).read(k)
    pieces = Memory(name).write(k[:, :4], v[:, :4]).write(k[:, 4:], v[:, 4:]).read(k)
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-12)
    alone = Memory(name).write(k[1], v[1]).read(k[1])
    assert alone.shape == (N, D_VALUE)
    torch.testing.assert_close(alone, whole[1], rtol=0, atol=1e-12)


def test_the_delta_rule_stores_the_newest_pair_without_an_error_and_numpy_is_taken() -> None:
    k, v = (x[0].numpy() for x in pairs(1, 20, D, D_VALUE))
    memory = Memory("delta").write(k, v)
    np.testing.assert_allclose(memory.read(k[-1:]).numpy(), v[-1:], atol=1e-12)
    assert repr(Memory("gated-delta", decay=0.5)) == "Memory(gated-delta(decay=0.5))"


@pytest.mark.parametrize(
    ("k", "v", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 3)), "v=<ndarray of shape (3, 3)>: expected as many values as keys, 1 × 2."),
        (np.zeros(3), np.zeros(3), "k=<ndarray of shape (3,)>: expected an array of numbers"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "k=<ndarray of shape (0, 3)>: expected at least one trial"),
        ("keys", np.zeros((2, 3)), "k='keys': expected an array of numbers"),
        (np.zeros((2, 3)), None, "v=None: expected an array of numbers"),
        (np.full((2, 3), np.nan), np.zeros((2, 3)), "k contains a number that is not finite."),
        (np.zeros((2, 3)), np.full((2, 3), np.inf), "v contains a number that is not finite."),
    ],
)
def test_pairs_that_cannot_be_written_are_refused_in_one_line(k: Any, v: Any, message: str) -> None:
    with pytest.raises((UsageError, BadInput)) as error:
        Memory("delta").write(k, v)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_what_does_not_fit_what_is_stored_is_refused() -> None:
    memory = Memory("delta")
    with pytest.raises(UsageError, match="Nothing is stored"):
        memory.read(np.zeros((1, 3)))
    memory.write(np.eye(3), np.eye(3))
    with pytest.raises(UsageError, match="expected 1 trials of d_key 3 and d_value 3, as is stored"):
        memory.write(np.eye(3), np.eye(3)[:, :2])
    with pytest.raises(UsageError, match="expected queries of 1 trials and d_key 3"):
        memory.read(np.eye(2))
    with pytest.raises(BadInput, match="q contains a number that is not finite"):
        memory.read(np.full((1, 3), np.nan))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dleta", "rule='dleta': expected the name of a memory's rule. Did you mean 'delta'"),
        ("delta(bta=1)", "Unknown setting of delta 'bta'. Did you mean 'beta'?"),
        ("delta(beta=2.5)", "delta(beta)=2.5: expected a number above 0 and of at most 2."),
        ("decay(decay=0)", "decay(decay)=0: expected a number above 0 and of at most 1."),
        ("hebbian(beta=1)", "Unknown setting of hebbian 'beta'. hebbian has no settings."),
        ("yaad(preset=best)", "yaad(preset)='best': expected 'tuned' or 'printed'."),
        ("moneta(retention=mirror)", "moneta(q)=4.0: expected a number above 1 and of at most 2"),
        ("delta(beta", "rule='delta(beta': expected NAME or NAME(SETTING=VALUE, …)"),
    ],
)
def test_rules_and_settings_that_do_not_exist_are_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises((UsageError, UnknownName)) as error:
        Memory(name)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
