"""Interference of given keys and values against numpy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probes.head_memory.interference import in_expectation, interference, measured, random_values, with_random_values
from probes.head_memory.spectra import centred, unit
from probes.memory import laws

RNG = np.random.default_rng(0)
KEYS = torch.from_numpy(RNG.standard_normal((3, 40, 8)) + np.array([0.0, 0.5, 2.0])[:, None, None])
VALUES = torch.from_numpy(RNG.standard_normal((3, 40, 6)) + 0.3)


def read(keys: np.ndarray, values: np.ndarray, weights: np.ndarray) -> float:
    return float(np.square(weights @ values - values).sum(1).mean())


def test_the_hebbian_memory_errs_in_expectation_by_the_law_of_the_gram_matrix() -> None:
    k = unit(KEYS)
    expected = laws.of_gram((k @ k.mT).numpy())
    assert in_expectation("hebbian", k).numpy() == pytest.approx(expected, rel=1e-9)


def test_the_mean_over_draws_of_values_nears_the_law() -> None:
    k = unit(KEYS)
    draws = torch.stack([with_random_values("hebbian", k, random_values(40, 16, 1, RNG)) for _ in range(400)])
    error = draws.std(0) / 20
    assert ((draws.mean(0) - in_expectation("hebbian", k)).abs() < 4 * error).all()


def test_draws_side_by_side_are_the_mean_of_single_draws() -> None:
    k, values = unit(KEYS), random_values(40, 6, 5, RNG)
    single = torch.stack([measured("hebbian", k, one.expand(3, -1, -1)) for one in values]).mean(0)
    assert with_random_values("hebbian", k, values).numpy() == pytest.approx(single.numpy(), rel=1e-4)


def test_every_reading_against_numpy() -> None:
    rng = np.random.default_rng(5)
    errors = interference(KEYS, VALUES, rng, draws=3)
    rng = np.random.default_rng(5)
    random = random_values(40, 6, 3, rng).numpy()
    order = rng.permutation(40)
    for head in range(3):
        raw, own = KEYS[head].numpy(), VALUES[head].numpy()
        k, c, v, o = (
            x / np.linalg.norm(x, axis=1, keepdims=True) for x in (raw, raw - raw.mean(0), own, own - own.mean(0))
        )
        softmax = np.exp(8**0.5 * c @ c.T)
        softmax /= softmax.sum(1, keepdims=True)
        state = np.zeros((6, 8))
        for key, value in zip(c, random[0], strict=True):
            state += np.outer(value - state @ key, key)
        expected = {
            "random_centred": np.mean([read(c, x, c @ c.T) for x in random]),
            "random_uncentred": np.mean([read(k, x, k @ k.T) for x in random]),
            "real_centred": read(c, o, c @ c.T),
            "real_values_centred": read(k, o, k @ k.T),
            "real_uncentred": read(k, v, k @ k.T),
            "shuffled": read(c, o[order], c @ c.T),
            "delta": np.square(c @ state.T - random[0]).sum(1).mean(),
            "softmax": np.square(softmax - np.eye(40)).sum(1).mean(),
            "softmax_real": read(c, o, softmax),
        }
        assert set(errors) == set(expected)
        for name, value in expected.items():
            assert float(errors[name][head]) == pytest.approx(value, rel=2e-4), name


def test_a_rotation_of_the_keys_changes_nothing() -> None:
    rotation = torch.linalg.qr(torch.from_numpy(RNG.standard_normal((8, 8))))[0]
    plain, rotated = (interference(x, VALUES, np.random.default_rng(1), draws=2) for x in (KEYS, KEYS @ rotation))
    for name in plain:
        assert rotated[name].numpy() == pytest.approx(plain[name].numpy(), rel=1e-4), name


def test_what_all_keys_share_costs_a_hebbian_memory_and_not_the_softmax() -> None:
    together = KEYS[:1] + 5
    errors, shifted = (interference(x, VALUES[:1], np.random.default_rng(1)) for x in (KEYS[:1], together))
    assert shifted["random_uncentred"] > 3 * errors["random_uncentred"]
    assert shifted["softmax"].numpy() == pytest.approx(errors["softmax"].numpy(), rel=1e-9)
    assert torch.allclose(unit(centred(together)), unit(centred(KEYS[:1])))
