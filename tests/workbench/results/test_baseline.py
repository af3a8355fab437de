"""Baselines of a sweep: against plain forwards of the Hugging Face model, scipy's bootstrap and Wilson's formula."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap

import workbench as wb
from tests.families import hooked, paired
from workbench.results.sweep import Sweep

N = 12


@pytest.fixture(scope="module")
def plain() -> dict[str, np.ndarray]:
    """The logits of the last position of both runs, ``[example, d_vocab]``."""
    model, inputs = hooked("llama").hf, paired(N)
    with torch.no_grad():
        runs = {"clean": inputs.clean, "corrupt": inputs.corrupt}
        return {name: np.stack([model(ids[None]).logits[0, -1].numpy() for ids in run]) for name, run in runs.items()}


def difference(logits: np.ndarray) -> np.ndarray:
    inputs = paired(N)
    return np.array(
        [
            row[list(answer)].mean() - row[list(wrong)].mean()
            for row, answer, wrong in zip(logits, inputs.answer, inputs.wrong, strict=True)
        ]
    )


def swept(**arguments: Any) -> Sweep:
    return wb.sweep(hooked("llama"), paired(N), layers=0, heads=0, cache=False, **arguments)


@pytest.mark.parametrize("direction", ["noise", "denoise"])
def test_mean_interval_and_counts_of_both_runs(plain: dict[str, np.ndarray], direction: str) -> None:
    baselines = swept(direction=direction).baselines
    assert [baseline.run for baseline in baselines] == ["clean", "corrupt"]
    assert any(0 < (difference(logits) > 0).sum() < N for logits in plain.values())
    for baseline in baselines:
        scores = difference(plain[baseline.run])
        assert baseline.value.value == pytest.approx(scores.mean(), abs=1e-4) and baseline.n == baseline.n_finite == N
        assert (baseline.right, baseline.wrong) == ((scores > 0).sum(), (scores < 0).sum())
        interval = bootstrap((scores,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
        error = 0.15 * scores.std() / np.sqrt(N)  # of the ends, over resamples
        assert (baseline.value.low, baseline.value.high) == pytest.approx(tuple(interval), abs=error)


def test_pairs_that_are_left_out_count_nowhere(plain: dict[str, np.ndarray]) -> None:
    some = [0, 3, 4, 7, 9]
    clean, corrupt = swept().of(some).baselines
    fewer = wb.sweep(hooked("llama"), paired(N).of(some), layers=0, heads=0, cache=False)
    assert [x.right for x in fewer.baselines] == [x.right for x in (clean, corrupt)]
    for baseline in (clean, corrupt):
        scores = difference(plain[baseline.run])[some]
        assert (baseline.n, baseline.right) == (5, (scores > 0).sum())
        assert baseline.value.value == pytest.approx(scores.mean(), abs=1e-4)


def test_accuracies_have_wilsons_interval(plain: dict[str, np.ndarray]) -> None:
    inputs = paired(N)
    for baseline in swept(metric="accuracy_among_options").baselines:
        rows = zip(plain[baseline.run], inputs.answer, inputs.options, strict=True)
        right = sum(max(options, key=lambda i: row[i]) in answer for row, answer, options in rows)
        share, z = right / N, 1.959964
        middle = (share + z**2 / (2 * N)) / (1 + z**2 / N)
        half = z / (1 + z**2 / N) * np.sqrt(share * (1 - share) / N + z**2 / (4 * N**2))
        assert (baseline.right, baseline.wrong) == (right, N - right)
        expected = (share, middle - half, middle + half)
        assert (baseline.value.value, baseline.value.low, baseline.value.high) == pytest.approx(expected, abs=1e-6)


def test_other_metrics_have_no_counts_and_other_edits_no_source() -> None:
    (clean,) = swept(edit="zero", metric="answer_probability").baselines
    assert clean.run == "clean" and clean.right is clean.wrong is None
    assert set(clean.columns()) == {"clean_mean", "clean_low", "clean_high"}
    (corrupt,) = wb.sweep_sets(hooked("llama"), paired(3), {"none": []}, base="corrupt", cache=False).baselines
    assert corrupt.run == "corrupt"


def made(base: list[float], source: list[float], **info: Any) -> Sweep:
    metadata = {"direction": "denoise", "metric": "logit_difference", "units": "logits", **info}
    return Sweep(np.zeros((1, len(base))), np.array(base), np.array(source), ("layer",), info=metadata)


def test_the_line_for_people() -> None:
    sweep = made([-1.0, -2.0, 0.5, -1.5], [2.0, 2.0, 2.0, 2.0])
    low, high = (f"{x:z.3g}".replace("-", "−") for x in (sweep.baselines[1].value.low, sweep.baselines[1].value.high))
    assert sweep.baseline_note == (
        "Clean run: mean logit difference 2 [2, 2] logits, the answer preferred on 4 of 4 pairs. "
        f"Corrupt run: −1 [{low}, {high}] logits, the answer preferred on 1 of 4 pairs, the wrong answer on 3. "
        "In brackets: 95 % intervals."
    )
    one = made([-1.0], [2.0]).baseline_note
    assert one.startswith("Clean run: mean logit difference 2 logits, the answer preferred on 1 of 1 pair. ")
    assert "[" not in one
    unknown = replace(sweep, info={"metric": "logit_difference"}).baseline_note
    assert unknown.startswith("Base run: mean logit difference −1 [") and "Source run: 2 [2, 2], the" in unknown


def test_a_value_that_is_not_finite_is_no_part_of_a_mean() -> None:
    sweep = made([-1.0, np.nan, -np.inf], [1.0, 2.0, np.inf])
    clean, corrupt = sweep.baselines
    assert np.isnan(clean.value.value) and np.isnan(corrupt.value.value)
    assert (clean.n_finite, clean.right, corrupt.n_finite, corrupt.right, corrupt.wrong) == (2, 3, 1, 0, 2)
    assert "Clean run: mean logit difference not finite on 1 of 3 examples, the answer preferred" in sweep.baseline_note
    assert json.loads(json.dumps(sweep.json(), allow_nan=False))["baselines"][0]["mean"] is None


def test_pictures_notebooks_and_data_have_them() -> None:
    sweep = made([-1.0, -2.0, 0.5, -1.5], [2.0, 1.0, 2.0, 3.0])
    note = " ".join(sweep.picture().get_supxlabel().split())
    assert sweep.baseline_note in note and sweep.baseline_note in sweep._repr_html_()
    clean = sweep.json()["baselines"][0]
    assert (clean["run"], clean["mean"], clean["right"], clean["wrong"], clean["n"]) == ("clean", 2.0, 4, 0, 4)
