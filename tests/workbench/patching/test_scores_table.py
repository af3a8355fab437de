"""Every metric before and after edits, against the metrics themselves on plain numbers."""

from __future__ import annotations

import numpy as np

import workbench as wb
from tests.oracle.plain_sampling import random_dit
from workbench.patching.scores_table import metrics_of, scores_table


def test_the_means_are_those_of_the_images() -> None:
    model = wb.HookedDiT(random_dit(), steps=2)
    outcome = wb.run(model, wb.latents([1, 2], seed=3), [wb.Edit("z", 0, head=1, kind="zero")])
    table = scores_table(outcome).set_index("metric")
    before, after = (x.reshape(2, -1).numpy() for x in (outcome.base_logits, outcome.logits))
    assert list(table.index) == [name.replace("_", " ") for name in metrics_of("pixels")]
    np.testing.assert_allclose(
        table.loc["contrast", ["before", "after"]].tolist(), [before.std(1).mean(), after.std(1).mean()]
    )
    distance = np.sqrt(np.square(after - before).mean(1)).mean()
    np.testing.assert_allclose(
        table.loc["image distance", ["before", "after", "change"]].tolist(), [0, distance, distance]
    )
    assert table.loc["slant", "units"] == "degrees"


def test_metrics_that_the_inputs_do_not_fit_are_left_out() -> None:
    outcome = wb.run(wb.load("tiny"), "Then, Mary and John", [wb.Edit("z", 1, head=3, kind="zero")])
    table = scores_table(outcome)
    assert table["metric"].tolist() == ["kl divergence"]
    np.testing.assert_allclose(table["after"][0], float(outcome.kl()[0]), rtol=1e-4)
