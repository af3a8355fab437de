"""`MemoryCurve`: its numbers, files, tables and figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.errors import BadInput
from workbench.results.memory_curve import FILE, MemoryCurve


@pytest.fixture(scope="module")
def curve() -> MemoryCurve:
    return wb.memory("hebbian", d=16, n=(4, 16, 64), trials=40)


def made_of(curve: MemoryCurve, samples: list[list[float]], **info: Any) -> MemoryCurve:
    return replace(
        curve, samples=np.array(samples, dtype=float), info={**curve.info, "trials": len(samples[0]), **info}
    )


def test_numbers(curve: MemoryCurve) -> None:
    own = made_of(curve, [[1, 3], [2, 2], [4, 8]])
    assert own.mean.tolist() == [2, 2, 6] and own.trials == 2
    assert own.standard_error.tolist() == pytest.approx([1, 0, 2])
    assert own.law.tolist() == [3 / 16, 15 / 16, 63 / 16] and own.gap.tolist() == (own.mean - own.law).tolist()
    assert own.low.tolist() == [1, 2, 4] and own.high.tolist() == [3, 2, 8]
    assert (curve.low < curve.mean).all() and (curve.mean < curve.high).all()
    table = own.table()
    assert table["n"].tolist() == [4, 16, 64] and table["mean"].tolist() == [2, 2, 6]


def test_capacity_is_where_the_mean_reaches_the_limit(curve: MemoryCurve) -> None:
    own = made_of(curve, [[1, 1], [2, 2], [4, 4]])
    assert own.capacity(3) == 40 and own.capacity(1) == 4 and own.capacity(2) == 16
    assert np.isnan(own.capacity(0.5)) and own.capacity(4) == np.inf
    falling = made_of(curve, [[0.9, 0.9], [0.5, 0.5], [0.1, 0.1]], falls=True)
    assert falling.capacity(0.7) == pytest.approx(10) and np.isnan(falling.capacity(0.95))


def test_a_memory_that_diverges_has_no_value_and_says_so(curve: MemoryCurve) -> None:
    own = made_of(curve, [[1, 1], [2, np.inf], [np.nan, 1]])
    assert own.mean[0] == 1 and np.isnan(own.mean[1:]).all() and np.isnan(own.standard_error[1:]).all()
    assert "The memory diverges from n = 16 on, where there is no value." in own.notes
    assert own.capacity(3) == 4
    json.dumps(own.json(), allow_nan=False)
    assert own.figure().data and own.picture().axes


def test_figures_have_the_numbers_the_law_and_its_kind(curve: MemoryCurve) -> None:
    figure: Any = curve.figure()
    picture = curve.picture()
    lines = {trace.name: trace for trace in figure.data if trace.name}
    assert set(lines) == {"simulated", "law: (n − 1) / d"}
    assert list(lines["simulated"].y) == curve.mean.tolist() and list(lines["law: (n − 1) / d"].y) == curve.law.tolist()
    note = " ".join(str(text.text) for text in figure.layout.annotations).replace("<br>", " ")
    assert "exact in expectation" in note and "A memory that reads 0 has 1." in note and "seed 0" in note
    assert len(picture.axes[0].get_lines()) == 2 and picture.axes[0].get_xscale() == "log"
    assert "without" not in note and "no law" not in note
    lawless = wb.memory("decay", d=16, n=(4, 8), trials=5, criterion="argmax")
    drawing: Any = lawless.figure()
    assert [trace.name for trace in drawing.data if trace.name] == ["simulated"]
    assert lawless.notes[0] == "There is no law of this criterion for this rule and these keys."
    html = curve._repr_html_()
    assert "<img" in html and "exact in expectation" in html and "<td>16</td>" in html


def test_a_curve_is_saved_and_loaded(curve: MemoryCurve, tmp_path: Path) -> None:
    path = tmp_path / "curve.safetensors"
    for one in (curve, wb.memory("decay", d=4, n=3, trials=3, criterion="sign")):
        one.save(path)
        loaded = MemoryCurve.load(path)
        assert np.array_equal(loaded.samples, one.samples) and np.array_equal(loaded.law, one.law, equal_nan=True)
        assert loaded.loads == one.loads and loaded.info == one.info and repr(loaded) == repr(one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loads": [4, 16]}, "of as many loads and trials as are named"),
        ({"loads": [16, 4, 64]}, "loads must be ascending whole numbers above 0"),
        ({"loads": [0, 4, 64]}, "loads must be ascending whole numbers above 0"),
        ({"loads": "abc"}, "loads must be ascending whole numbers above 0"),
        ({"info": {}}, "info must contain rule, title"),
        ({"info": None}, "info must contain rule, title"),
        ({"trials": 41}, "of as many loads and trials as are named"),
        ({"trials": True}, "info has a trials of another type"),
        ({"falls": 1}, "info has a falls of another type"),
        ({"law": {"formula": "n"}}, "info has a law without formula, exact and note"),
        ({"rule": 3}, "info has a rule of another type"),
    ],
)
def test_a_file_that_save_would_not_write_is_refused(
    curve: MemoryCurve, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "curve.safetensors"
    metadata = {"loads": curve.loads, "info": dict(curve.info)}
    for name, value in changes.items():
        if name in metadata:
            metadata[name] = value
        else:
            metadata["info"][name] = value
    FILE.save(path, {"samples": curve.samples, "law": curve.law}, metadata)
    with pytest.raises(BadInput, match=message):
        MemoryCurve.load(path)


def test_other_arrays_are_refused(curve: MemoryCurve, tmp_path: Path) -> None:
    path = tmp_path / "curve.safetensors"
    FILE.save(path, {"samples": curve.samples}, {"loads": curve.loads, "info": curve.info})
    with pytest.raises(BadInput, match="expected samples and law"):
        MemoryCurve.load(path)
