"""Damage by ablating circuits: the random controls, the arithmetic, and the matrix against full forwards."""

from __future__ import annotations

import numpy as np
import pytest

import workbench as wb
from circuits.ablation import cross_ablation, damage
from circuits.overlap import consistency
from tests.families import hooked, paired
from workbench.core import Head


def test_damage_is_the_share_of_the_base_that_is_lost() -> None:
    base = np.array([2.0, 4.0, 3.0, 3.0])
    half = damage(base, base / 2)
    assert (half.value, half.low, half.high) == pytest.approx((0.5, 0.5, 0.5))
    assert damage(base, -base).value == pytest.approx(2)
    assert damage(base, base).value == 0
    assert np.isnan(damage(base - base.mean(), base).value)


def test_the_matrix_is_what_whole_forwards_give() -> None:
    model = hooked("llama")
    inputs = {"a": paired(6), "b": paired(6, seed=4)}
    circuits = {"a": {Head(0, 1), Head(2, 3)}, "b": {Head(1, 0)}}
    steps: list[tuple[str, int]] = []
    table = cross_ablation(
        model, inputs, inputs, circuits, random_sets=3, progress=lambda task, n: steps.append((task, n))
    )
    assert steps[-1] == ("b", 6)
    assert list(zip(table["ablated"], table["measured"], strict=True)) == [
        ("a", "a"),
        ("b", "a"),
        ("a", "b"),
        ("b", "b"),
    ]
    for row in table.to_dict("records"):
        edits = [wb.Edit("z", h.layer, h.index, kind="mean") for h in circuits[row["ablated"]]]
        out = wb.run(model, inputs[row["measured"]], edits)
        base, after = out.scores(base=True).numpy(), out.scores().numpy()
        if np.isfinite(row["damage"]):
            assert row["damage"] == pytest.approx((base - after).mean() / base.mean(), abs=1e-3)
            assert row["beyond_random"] == pytest.approx(row["damage"] - row["random"], abs=1e-6)
            assert row["random_low"] <= row["random"] <= row["random_high"]
    assert np.isfinite(table["damage"]).any()


def test_circuits_of_resampled_prompts_are_compared_with_each_other() -> None:
    rng = np.random.default_rng(0)
    sure = np.zeros((4, 10, 20))
    sure[0, 0] = sure[1, 1] = 1
    assert consistency({"logits": sure + 0.01 * rng.normal(size=sure.shape)}, 5, 100) == 1
    noise = {"logits": rng.normal(size=(4, 10, 20))}
    assert consistency(noise, 5, 100) < 0.5
    assert np.isnan(consistency({"logits": sure[..., :1]}, 5, 100))
