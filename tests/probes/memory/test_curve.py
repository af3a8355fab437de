"""`wb.memory`: loads, keys, criteria, settings that work, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from probes.memory import criteria
from probes.memory.draws import draw, keys_of
from probes.memory.memory import Memory
from workbench.errors import UsageError, WorkbenchError
from workbench.registry import MEMORY_RULES


@pytest.mark.parametrize("rule", MEMORY_RULES.names())
def test_a_load_of_a_curve_is_a_memory_of_its_own(rule: str) -> None:
    curve = wb.memory(rule, d=8, n=(3, 5, 12), trials=6, seed=2)
    k, v = draw(keys_of("random"), range(6), 12, 8, 8, 2)
    for load, samples in zip(curve.loads, curve.samples, strict=True):
        read = Memory(rule).write(k[:, :load], v[:, :load]).read(k[:, :load])
        expected = ((read - v[:, :load]) ** 2).sum(-1).mean(-1)
        np.testing.assert_allclose(samples, expected.numpy(), rtol=1e-3, atol=1e-6)


def test_curves_of_one_seed_are_of_the_same_pairs_however_many_loads_and_trials() -> None:
    curve = wb.memory("delta", d=8, n=(4, 16), trials=20, seed=1)
    np.testing.assert_allclose(
        wb.memory("delta", d=8, n=16, trials=8, seed=1).samples[0], curve.samples[1, :8], atol=1e-5
    )
    assert not np.allclose(wb.memory("delta", d=8, n=16, trials=20, seed=2).samples, curve.samples[1:])
    of_numpy: list[tuple[Any, tuple[int, ...]]] = [(np.array([16, 4]), (4, 16)), (np.int64(4), (4,))]
    for n, loads in of_numpy:
        assert wb.memory("delta", d=8, n=n, trials=20, seed=1).loads == loads


def test_trials_in_several_pieces_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from probes.memory import curve as module

    options: dict[str, Any] = {"d": 8, "n": (4, 8), "trials": 7, "keys": "spectrum"}
    whole = wb.memory("hebbian", **options)
    monkeypatch.setattr(module, "TOGETHER", 2 * (4 * 8 * (8 + 8 + 8) + 4 * 64))
    pieces = wb.memory("hebbian", **options)
    np.testing.assert_allclose(pieces.samples, whole.samples, rtol=1e-5)
    np.testing.assert_allclose(pieces.law, whole.law, rtol=1e-6)


def test_settings_in_the_name_and_as_arguments_are_the_same_and_arguments_win() -> None:
    named = wb.memory("gated-delta(decay=0.9)", d=8, n=4, trials=5)
    assert named.info["rule"] == "gated-delta(decay=0.9)"
    assert np.array_equal(named.samples, wb.memory("gated-delta", d=8, n=4, trials=5, decay=0.9).samples)
    assert wb.memory("gated-delta(decay=0.9)", d=8, n=4, trials=5, decay=0.5).info["rule"] == "gated-delta(decay=0.5)"


#: Rules with settings that work → the largest error at n = 32 and 64, where a memory that reads 0 has 1.
WORK = {"yaad": (0.28, 0.52), "moneta": (0.43, 0.58), "memora": (0.54, 0.71)}


@pytest.mark.parametrize("rule", WORK)
def test_there_are_settings_that_work_and_the_printed_ones_say_that_they_do_not(rule: str) -> None:
    tuned, printed = wb.memory(rule, n=(32, 64)), wb.memory(rule, n=(32, 64), preset="printed")
    assert (tuned.high < WORK[rule]).all() and (printed.low > tuned.high).all() and printed.low[1] > 0.99
    assert not tuned.info["note"] and printed.info["note"].startswith("As printed")
    assert printed.info["rule"] == f"{rule}(preset='printed')"
    assert printed.info["note"] in str(printed.figure().to_json()).encode().decode("unicode_escape")


def test_the_printed_jump_of_yaad_makes_errors_larger_than_they_were() -> None:
    curve = wb.memory("yaad(preset=printed, eta=1, alpha=1, delta=0.5)", n=(32, 64), trials=50)
    assert (curve.low > 4).all()
    assert (wb.memory("yaad(huber=norm, eta=1, alpha=1, delta=0.5)", n=(32, 64), trials=50).high < 0.6).all()


# --- criteria


def test_criteria_by_hand() -> None:
    values = torch.eye(2)[None]
    read = torch.tensor([[[1.0, 0.5], [3.0, 0.0]]])
    assert criteria.mse(read, values).tolist() == [(0.25 + 10) / 2]
    assert criteria.cosine(read, values).item() == pytest.approx(0.5 / 1.25**0.5)
    assert criteria.argmax(read, values).tolist() == [0.5]
    assert criteria.argmax(0 * read, values).tolist() == [0]  # a tie is no answer
    assert criteria.worst_case(read, values).tolist() == [(0.5 + 4) / 2]
    signs = torch.tensor([[[1.0], [1.0], [-1.0], [-1.0]]])
    assert criteria.sign(torch.tensor([[[2.0], [-1.0], [0.0], [-3.0]]]), signs).tolist() == [1.5 / 4]


@pytest.mark.parametrize(
    "rule", ["hebbian", "decay", "delta", "gated-delta", "pseudo-inverse", "softmax", "yaad(delta=None)"]
)
def test_the_worst_case_is_the_largest_error_over_all_signs(rule: str) -> None:
    n = 7
    curve = wb.memory(rule, d=6, n=n, trials=2, criterion="worst case")
    signs = torch.tensor([[1 - 2.0 * (i >> j & 1) for i in range(2**n)] for j in range(n)]).expand(2, -1, -1)
    k, _ = draw(keys_of("random"), range(2), n, 6, 1, 0)
    errors = (Memory(rule).write(k, signs).read(k) - signs).abs().amax(-1)
    np.testing.assert_allclose(curve.samples[0], errors.mean(-1).numpy(), rtol=1e-3, atol=1e-6)


def test_a_memory_that_reads_0_has_what_is_said() -> None:
    for name, criterion in criteria.CRITERIA.items():
        values = torch.eye(4)[None] if criterion.d_value is None else torch.ones(1, 4, 1)
        assert criterion.measure(torch.zeros_like(values), values).item() == criterion.empty, name


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n=0: expected a whole number from 1 to 1,000,000."),
        ({"n": []}, "n=[]: expected at least one number of stored pairs."),
        ({"n": [8, 8]}, "n=[8, 8]: 8 is repeated. Give each number of pairs once."),
        ({"n": "8"}, "n='8': expected numbers of stored pairs. Give one number, or a list of them."),
        ({"n": [8, float("nan")]}, "n=nan: expected a whole number"),
        ({"d": 1}, "d=1: expected a whole number from 2 to 1,000,000."),
        ({"d": float("inf")}, "d=inf: expected a whole number"),
        ({"trials": 1}, "trials=1: expected a whole number from 2"),
        ({"passes": 0}, "passes=0: expected a whole number from 1"),
        ({"seed": -1}, "seed=-1: expected a whole number of at least 0."),
        ({"beta": 3.0}, "delta(beta)=3.0: expected a number above 0 and of at most 2."),
        ({"beta": float("nan")}, "delta(beta)=nan: expected a finite number above 0 and of at most 2."),
        ({"gamma": 1}, "Unknown setting of delta 'gamma'. Known: beta."),
        ({"rule": "dleta"}, "rule='dleta': expected the name of a memory's rule. Did you mean 'delta'"),
        ({"rule": ""}, "rule='': expected"),
        ({"criterion": "mes"}, "criterion='mes': expected 'mse', 'cosine', 'argmax', 'sign' or 'worst case'. Did you"),
        ({"criterion": "sign", "d_value": 4}, "d_value=4: expected 1 or None, because the criterion is 'sign'."),
        ({"criterion": "worst case", "rule": "memora"}, "criterion='worst case': expected a rule that is linear"),
        (
            {"keys": "spectrm"},
            "keys='spectrm': expected one of random, spectrum, shared-mean. Did you mean 'spectrum'?",
        ),
        ({"keys": "spectrum(exponent=-1)"}, "spectrum(exponent)=-1: expected a number from 0 to 4."),
        ({"n": 1_000_000}, "n=1000000, d=64: one trial would need "),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkbenchError) as error:
        wb.memory(**{"rule": "delta", **arguments})
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert isinstance(error.value, UsageError)
