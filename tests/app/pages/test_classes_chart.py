"""Which classes stand in the chart of classes before and after edits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from app.classes_chart import classes_chart
from workbench.plotting.source import Source


@pytest.mark.parametrize("n", [2, 10, 12])
def test_all_of_few_classes_are_shown(n: int) -> None:
    chart = classes_chart(outcome(n), "Classes", "Head 1.2 edited", [], Source())
    assert sorted(chart.labels[0]) == sorted(f"c{i}" for i in range(n))
    assert chart.options["subtitle"] == f"Head 1.2 edited; all {n} classes"


def test_of_many_classes_those_with_the_largest_change_are_shown() -> None:
    both = outcome(1000)
    before, after = (x[0].softmax(-1).numpy() for x in (both.base_logits, both.logits))
    chart = classes_chart(both, "Classes", "Head 1.2 edited", [], Source())
    assert chart.options["subtitle"] == "Head 1.2 edited; the 10 with the largest change of 1,000 classes"
    displayed = [int(name[1:]) for name in chart.labels[0]]
    assert set(displayed) == set(np.argsort(-abs(after - before))[:10])
    np.testing.assert_allclose(chart.arrays[0], after[displayed], rtol=1e-6)
    np.testing.assert_allclose(chart.options["reference"], before[displayed], rtol=1e-6)
    assert (np.diff(np.maximum(before, after)[displayed]) <= 0).all()


def outcome(n: int) -> wb.Outcome:
    """Of one image, with n classes and random logits."""
    model: Any = wb.load("digits-vit")
    images = wb.images([np.zeros((8, 8), dtype=np.uint8)]).as_seen_by(model)
    real = wb.run(model, images, [], cache=False)
    generator = torch.Generator().manual_seed(0)
    before, after = 3 * torch.randn(2, 1, n, generator=generator)
    return replace(real, logits=after, plain=before, output_names=tuple(f"c{i}" for i in range(n)))
