"""The files of a sample, and the classifiers that can read it."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import workbench as wb
from app.diffusion import readouts, sampled, sweeps
from app.diffusion.trajectory_figure import TrajectoryFigure
from workbench.plotting.source import Source


def test_classifiers_are_those_of_the_models_images() -> None:
    assert readouts.classifiers(wb.load("digits-dit")) == ["digits-vit"]
    assert readouts.classifiers(wb.load("mnist-dit")) == ["mnist-vit", "mnist-vit-reversed"]
    assert readouts.classifiers(wb.load("moving-digits-dit")) == []
    assert set(sweeps.LABELS) == set(sweeps.EDITS)


def test_the_files_of_a_sample_have_every_number() -> None:
    loaded: Any = wb.load("digits-dit")
    model = loaded.resampled(steps=3)
    settings = sampled.Settings("3", "8", 2, "euler", 3, None)
    plain = wb.trajectory(model, settings.latents())
    edited = wb.trajectory(model, settings.latents(), wb.Edit("z", 1, head=1, kind="zero"))
    source = Source("digits-dit", details=settings.details, edited="head 1.1 set to zero")
    figure = TrajectoryFigure(plain, source, edited)
    table = pd.read_csv(io.BytesIO(figure.csv()))
    pixels: Any = table.set_index(["step", "channel", "row", "column"])
    assert len(pixels) == 4 * 8 * 8 and pixels.index.is_unique
    for i, at in (((2, 0, 5, 3), 2), ((3, 0, 7, 0), 3)):
        assert pixels["sample"][i] == pytest.approx(plain.latents[(0, *i)])
        assert pixels["sample_under_edits"][i] == pytest.approx(edited.latents[(0, *i)])
        assert pixels["distance"][i] == pytest.approx(plain.distances(edited)[0, at])
    assert pixels["prediction"][2, 0, 5, 3] == pytest.approx(plain.estimates[0, 2, 0, 5, 3])
    assert pixels["prediction_under_edits"][2, 0, 5, 3] == pytest.approx(edited.estimates[0, 2, 0, 5, 3])
    assert pixels["prediction"][3].isna().all()
    named = {"class": [3], "seed": [2], "sampler": ["euler"], "steps": [3], "guidance": ["none"]}
    assert {name: table[name].unique().tolist() for name in named} == named
    data = json.loads(figure.json())
    np.testing.assert_allclose(data["latents"], plain.latents[0], rtol=1e-6)
    np.testing.assert_allclose(data["under_edits"]["estimates"], edited.estimates[0], rtol=1e-6)
    assert data["class"] == "3" and data["under_edits"]["edits"] and data["workbench"] == wb.__version__
    png = Image.open(io.BytesIO(figure.image("png")))
    assert "class 3, seed 2, sampler euler, steps 3, guidance none" in png.info["Description"]
