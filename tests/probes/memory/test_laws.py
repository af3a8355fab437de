"""Laws against simulation, and both against the values of a simulation that is not of this repository.

Those were made in numpy with 10 to 300 draws each. "Agrees" is within 2 % or three standard errors of our mean.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

import workbench as wb
from probes.memory import laws
from probes.memory.draws import draw, keys_of, unit
from probes.memory.memory import Memory

#: Of values that are printed with three decimals.
ROUNDING = 5e-4


def agrees(curve: wb.MemoryCurve, expected: list[float] | np.ndarray, share: float = 0.02, draws: int = 0) -> None:
    """With `draws`, the expected value is itself a mean of so many only."""
    error = curve.standard_error * (1 + (curve.trials / draws if draws else 0)) ** 0.5
    tolerance = np.maximum(share * np.abs(expected), 3 * error) + ROUNDING
    assert (np.abs(curve.mean - expected) <= tolerance).all(), (curve.mean, expected, curve.standard_error)


#: rule, criterion → what the other simulation has at 8, 16, 32, 64, 128 and 256 pairs, d = 64.
LOADS = (8, 16, 32, 64, 128, 256)
SIMULATED = {
    ("hebbian", "mse"): [0.108, 0.237, 0.489, 0.985, 1.990, 4.018],
    ("hebbian", "cosine"): [0.951, 0.902, 0.823, 0.712, 0.580, 0.448],
    ("hebbian", "argmax"): [1.0, 1.0, 1.0, 0.9997, 0.981, 0.7615],
}


@pytest.mark.parametrize(("rule", "criterion"), SIMULATED)
def test_a_curve_agrees_with_the_other_simulation(rule: str, criterion: str) -> None:
    agrees(wb.memory(rule, n=LOADS, criterion=criterion), SIMULATED[rule, criterion])


@pytest.mark.parametrize(
    ("rule", "criterion", "n", "simulated"),
    [
        ("delta", "mse", (32, 64, 128, 256), [0.292, 0.597, 1.059, 1.493]),
        ("delta", "cosine", (32, 64, 128, 256), [0.843, 0.676, 0.446, 0.247]),
        ("pseudo-inverse", "mse", (96, 128, 256), [0.337, 0.497, 0.751]),
        ("pseudo-inverse", "cosine", (256,), [0.498]),
        ("hebbian", "sign", (16, 32, 64, 128), [0.022, 0.077, 0.153, 0.238]),
        ("softmax", "mse", (256,), [0.015]),
    ],
)
def test_other_points_agree_with_it(rule: str, criterion: str, n: tuple[int, ...], simulated: list[float]) -> None:
    agrees(wb.memory(rule, n=n, criterion=criterion, trials=500), simulated)


#: Laws that hold at every load, and those that hold from a load on.
HOLD: list[tuple[str, str, tuple[int, ...]]] = [
    *(
        (rule, criterion, LOADS)
        for rule in ("hebbian", "decay", "delta", "gated-delta")
        for criterion in ("mse", "cosine")
    ),
    *(("delta(beta=0.3)", criterion, LOADS) for criterion in ("mse", "cosine")),
    ("gated-delta(beta=1, decay=0.9)", "mse", LOADS),
    ("pseudo-inverse", "mse", (96, 128, 256)),
    ("pseudo-inverse", "cosine", (96, 128, 256)),
    ("hebbian", "worst case", LOADS),
    ("hebbian", "sign", (64, 128, 256)),
    *(("softmax", criterion, (64, 128, 256)) for criterion in ("mse", "cosine", "worst case")),
]


@pytest.mark.parametrize(("rule", "criterion", "n"), HOLD)
def test_a_law_holds_within_2_percent_or_three_standard_errors(rule: str, criterion: str, n: tuple[int, ...]) -> None:
    small = [load for load in n if load <= 16]
    for loads, trials in ((small, 2000), ([load for load in n if load > 16], 200)):
        if loads:
            curve = wb.memory(rule, n=loads, criterion=criterion, trials=trials)
            tolerance = np.maximum(0.02 * np.abs(curve.law), 3 * curve.standard_error)
            assert (np.abs(curve.gap) <= tolerance).all(), (curve.gap, tolerance)


@pytest.mark.parametrize(("d", "n"), [(16, (4, 16, 40)), (128, (32, 128))])
def test_exact_laws_hold_at_other_sizes_and_other_values(d: int, n: tuple[int, ...]) -> None:
    for rule in ("hebbian", "delta", "gated-delta", "decay", "pseudo-inverse"):
        curve = wb.memory(rule, d=d, d_value=10, n=n, trials=500)
        assert curve.info["law"]["exact"]
        assert (np.abs(curve.gap) <= np.maximum(0.02 * curve.law, 3 * curve.standard_error) + 1e-6).all(), rule


def test_the_pseudo_inverse_makes_no_error_up_to_d_pairs() -> None:
    curve = wb.memory("pseudo-inverse", n=(8, 32, 63, 64), trials=1000)
    assert (curve.mean < 1e-6).all() and curve.law.tolist() == [0, 0, 0, 0]


def test_the_softmax_weight_on_the_right_item() -> None:
    for d, n, simulated in ((64, 256, 0.877), (64, 1024, 0.640), (16, 16, 0.700)):
        k, _ = draw(keys_of("random"), range(60 if n < 1000 else 10), n, d, 1, 0)
        weight = Memory("softmax").write(k, torch.eye(n).expand(len(k), -1, -1)).read(k).diagonal(dim1=1, dim2=2)
        assert weight.mean().item() == pytest.approx(simulated, rel=0.02)
        assert laws.softmax_weight(n, d, d**0.5) == pytest.approx(simulated, rel=0.02)
    for d, others in ((16, 33.5), (64, 1815), (128, 49_792)):  # at which it is a half
        assert math.exp(d**0.5 - laws.log_mean_exponential(d, d**0.5)) == pytest.approx(others, rel=2e-3)


@pytest.mark.parametrize(("d", "beta"), [(2, 0.3), (2, 1000.0), (64, 8.0), (64, 1000.0), (1024, 32.0), (4096, 1000.0)])
def test_the_mean_of_an_exponential_is_an_integral(d: int, beta: float) -> None:
    angle = np.linspace(0, np.pi, 400_001)[1:-1]
    log_density = (d - 2) * np.log(np.sin(angle))
    log = logsumexp(beta * np.cos(angle) + log_density) - logsumexp(log_density)
    assert laws.log_mean_exponential(d, beta) == pytest.approx(log, rel=1e-4)
    assert laws.log_mean_exponential(1_000_000, 1000.0) == pytest.approx(0.5, rel=1e-3)
    assert 0 <= laws.softmax_mse(100, d, beta / 2) < 1


def test_the_argmax_law_is_a_lower_estimate() -> None:
    curve = wb.memory("hebbian", criterion="argmax", n=(128, 256, 512), trials=100)
    assert curve.law == pytest.approx([0.956, 0.693, 0.301], abs=1e-3)
    agrees(curve, [0.981, 0.7615, 0.339])
    assert (curve.gap > 0).all() and (curve.gap[:2] < 0.1 * curve.mean[:2]).all()
    assert laws.hebbian_argmax(512, 128, 128) == pytest.approx(0.960, abs=1e-3)
    assert laws.hebbian_argmax(1024, 128, 128) == pytest.approx(0.638, abs=1e-3)


@pytest.mark.parametrize(
    ("d", "n", "item", "every"),
    [(32, 35, 0.969, 0.32), (64, 109, 0.991, 0.38), (32, 109, 0.54, None), (64, 349, 0.56, None)],
)
def test_the_thresholds_of_argmax(d: int, n: int, item: float, every: float | None) -> None:
    curve = wb.memory("hebbian", criterion="argmax", d=d, n=n, trials=400 if n < 200 else 60)
    agrees(curve, [item])
    if every is not None:  # of the share of trials without an error; the other value has two digits
        share = (curve.samples[0] == 1).mean()
        assert share == pytest.approx(every, abs=3 * math.sqrt(every * (1 - every) / 200))


def test_the_sign_law_and_its_values() -> None:
    assert [laws.hebbian_sign_error(n, 64) for n in (16, 32, 64, 128)] == pytest.approx(
        [0.019, 0.075, 0.157, 0.239], abs=1e-3
    )
    curve = wb.memory("hebbian", criterion="sign", d=256, n=(64, 128), trials=400)
    agrees(curve, [0.0220, 0.0780])
    assert curve.law == pytest.approx([0.0219, 0.0778], abs=1e-4)


@pytest.mark.parametrize(("d", "critical"), [(16, 3.2), (64, 5.8), (256, 10.6), (1024, 20.7)])
def test_the_worst_case_reaches_a_half_at_a_number_of_pairs_that_grows_as_the_root_of_d(
    d: int, critical: float
) -> None:
    k, _ = draw(keys_of("random"), range(600), 2 * int(critical) + 12, d, 1, 0)
    reached = ((k[:, 1:] @ k[:, 0, :, None]).abs()[..., 0].cumsum(1) >= 0.5).to(torch.float64)
    assert bool(reached[:, -1].all())
    terms = reached.shape[1] - reached.sum(1) + 1
    assert abs(terms.mean().item() - critical) <= max(0.02 * critical, 3 * terms.std().item() / 600**0.5) + 0.05
    mean = laws.hebbian_worst_case(2, d)
    assert mean == pytest.approx(math.sqrt(2 / (math.pi * d)), rel=0.02)


@pytest.mark.parametrize(
    ("n", "after"),
    [
        (16, {1: 0.131, 5: 0.0002}),
        (32, {1: 0.288, 5: 0.016, 20: 1e-5}),
        (48, {1: 0.455, 5: 0.093, 20: 0.0073}),
        (64, {1: 0.601, 5: 0.261, 20: 0.130, 100: 0.060}),
    ],
)
def test_many_passes_of_the_delta_rule(n: int, after: dict[int, float]) -> None:
    for passes, error in after.items():
        curve = wb.memory("delta", n=n, passes=passes, trials=200)
        agrees(curve, [error], draws=10)  # after many passes trials differ much
        assert np.isnan(curve.law[0]) == (passes > 1)


def by_age(rule: str, ages: list[int], n: int = 300, trials: int = 300) -> tuple[Any, Any, Any]:
    """The mean error and the mean projection onto the value of items of those ages, d = 64, and the mean of ‖S‖²."""
    k, v = draw(keys_of("random"), range(trials), n, 64, 64, 0)
    memory = Memory(rule).write(k, v)
    at = [n - 1 - age for age in ages]
    read = memory.read(k[:, at])
    error, signal = (read - v[:, at]).square().sum(-1), (read * v[:, at]).sum(-1)
    assert memory.state is not None
    return error, signal, memory.state[0].square().sum((1, 2)).mean().item()


def means_agree(samples: torch.Tensor, expected: Any, draws: int = 0) -> None:
    """With `draws`, the expected values are themselves means of so many only."""
    error = (1 / len(samples) + (1 / draws if draws else 0)) ** 0.5
    mean, deviation = samples.mean(0).numpy(), samples.std(0).numpy() * error
    tolerance = np.maximum(0.02 * np.abs(expected), 3 * deviation) + ROUNDING
    assert (np.abs(mean - expected) <= tolerance).all(), (mean, expected)


def test_decay_by_age() -> None:
    ages = [0, 10, 50]
    error, _, _ = by_age("decay(decay=0.97)", ages)
    law = laws.decay_mse_by_age(300, 64, 0.97)[ages]
    assert law == pytest.approx([0.249, 0.325, 0.875], abs=1e-3)
    means_agree(error, law)
    means_agree(error, [0.247, 0.322, 0.875])


def test_the_gated_delta_rule_by_age_and_the_size_of_its_state() -> None:
    ages = [0, 20, 60]
    _, signal, size = by_age("gated-delta", ages)
    law = laws.delta_by_age(300, 64, 0.5, 0.98)[0][ages]
    assert law == pytest.approx([0.500, 0.285, 0.093], abs=1e-3)
    means_agree(signal, law)
    means_agree(signal, [0.502, 0.281, 0.095])
    assert size == pytest.approx(4.92, rel=0.02) and laws.delta_size(64, 0.5, 0.98) == pytest.approx(4.92, abs=0.005)


def test_the_delta_rule_by_age_has_a_half_life_and_no_cliff() -> None:
    signal, square = laws.delta_by_age(3000, 64, 1.0)
    age = np.arange(0, 600, 50)
    assert signal[age] == pytest.approx(np.exp(-age / 64), rel=0.08)
    assert (1 - 2 * signal + square)[age] == pytest.approx(2 * (1 - np.exp(-age / 64)), abs=0.02)
    error, projection, _ = by_age("delta", [0, 30, 100])
    means_agree(error[:, 1:], (1 - 2 * signal + square)[[30, 100]])
    means_agree(projection[:, 1:], signal[[30, 100]])
    assert error[:, 0].max() < 1e-10


# --- queries with noise, chains of memories, several heads


@pytest.mark.parametrize(("n", "noise", "simulated"), [(32, 0.3, 0.528), (32, 1.0, 0.978), (64, 0.5, 1.232)])
def test_a_noisy_query(n: int, noise: float, simulated: float) -> None:
    k, v = draw(keys_of("random"), range(200), n, 64, 64, 0)
    other, _ = draw(keys_of("random"), range(200), n, 64, 64, 1)
    errors = (Memory("hebbian").write(k, v).read(k + noise * other) - v).square().sum(-1).mean(1)
    means_agree(errors[:, None], [simulated])
    assert laws.noisy_query_mse(n, 64, noise) == pytest.approx(simulated, rel=0.01)


@pytest.mark.parametrize(
    ("n", "simulated"),
    [(32, [0.123, 0.252, 0.405, 0.595, 0.785, 1.015]), (64, [0.248, 0.553, 0.920, 1.388, 1.929, 2.618])],
)
def test_a_chain_of_memories_multiplies_its_errors(n: int, simulated: list[float]) -> None:
    codes = [draw(keys_of("random"), range(60), n, 256, 1, seed)[0] for seed in range(7)]
    read, errors = codes[0], []
    for key, value in pairwise(codes):
        read = Memory("hebbian").write(key, value).read(read)
        errors.append((read - value).square().sum(-1).mean(1))
    means_agree(torch.stack(errors, 1), simulated, draws=10)
    assert [laws.chain_mse(n, 256, layers) for layers in range(1, 7)] == pytest.approx(simulated, rel=0.06)


@pytest.mark.parametrize(("heads", "simulated"), [(1, 2.297), (2, 1.258), (4, 0.754), (8, 0.503), (16, 0.375)])
def test_several_heads_are_one_with_a_longer_key(heads: int, simulated: float) -> None:
    trials, n = 40, 128
    k, v = draw(keys_of("random"), range(trials), n, 512, 64, 0)
    generator, read = torch.Generator().manual_seed(0), 0
    for _ in range(heads):
        key = k @ (torch.randn(trials, 512, 64, generator=generator) / 8)
        read = read + Memory("hebbian").write(key, v).read(key) / heads
    means_agree((read - v).square().sum(-1).mean(1)[:, None], [simulated])
    assert laws.heads_mse(n, 512, 64, heads) == pytest.approx(simulated, rel=0.02)


# --- keys that are not isotropic, values that are outliers


@pytest.mark.parametrize(
    ("keys", "hebbian", "one_pass"),
    [
        ("random", 1.988, 1.055),
        ("spectrum(exponent=0.5)", 2.728, 1.106),
        ("spectrum(exponent=1)", 7.170, 1.256),
        ("shared-mean(share=0.25)", 6.827, 1.104),
        ("shared-mean(share=1)", 32.8, 1.258),
    ],
)
def test_correlated_keys_ruin_the_hebbian_memory_and_hardly_the_delta_rule(
    keys: str, hebbian: float, one_pass: float
) -> None:
    curve = wb.memory("hebbian", keys=keys, n=128, trials=400)
    agrees(curve, [hebbian], share=0.03)
    assert (np.abs(curve.gap) <= np.maximum(0.02 * curve.law, 3 * curve.standard_error)).all()
    agrees(wb.memory("delta", keys=keys, n=128, trials=200), [one_pass])


def test_n_over_the_participation_ratio_is_an_identity() -> None:
    k, _ = draw(keys_of("spectrum"), range(3), 20, 8, 1, 0)
    gram = (k @ k.mT).double().numpy()
    others = (gram**2).sum(-1) - np.diagonal(gram, axis1=1, axis2=2) ** 2
    assert laws.of_gram(gram) == pytest.approx(others.mean(1), rel=1e-5)


@pytest.mark.parametrize(
    ("rule", "errors"),
    [
        ("hebbian", {1: 0.486, 10: 2.06, 30: 14.4}),
        ("delta", {1: 0.303, 10: 1.85, 30: 14.2}),
        ("yaad(huber=norm, delta=1.5)", {1: 0.301, 10: 0.316, 30: 0.316}),
    ],
)
def test_an_outlier_among_the_values_harms_memories_without_a_limit(rule: str, errors: dict[int, float]) -> None:
    k, v = draw(keys_of("random"), range(400), 32, 64, 64, 0)
    for length, error in errors.items():
        values = torch.cat([v[:, :31], length * v[:, 31:]], 1)
        read = Memory(rule).write(k, values).read(k[:, :31])
        means_agree((read - values[:, :31]).square().sum(-1).mean(1)[:, None], [error])


def test_draws_of_length_one_do_not_depend_on_loads_or_the_number_of_trials() -> None:
    for text in ("random", "spectrum(exponent=2)", "shared-mean(share=1)"):
        keys = keys_of(text)
        k, v = draw(keys, range(5), 10, 8, 4, 3)
        few_k, few_v = draw(keys, range(2, 4), 6, 8, 4, 3)
        assert torch.equal(few_k, k[2:4, :6]) and torch.equal(few_v, v[2:4, :6])
        torch.testing.assert_close(unit(k), k)
        assert not torch.allclose(draw(keys, range(5), 10, 8, 4, 4)[0], k)
    assert set(draw(keys_of("random"), range(2), 10, 8, 1, 0)[1].unique().tolist()) == {-1.0, 1.0}
