"""Heads coloured by the effects of a sweep."""

from __future__ import annotations

import os

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import workbench as wb
from app.heads import sweep_effect
from app.work import result_files
from app.work.result_files import SWEEPS
from app.work.sweep_results import NEWEST
from tests.app.heads.rendered import SCRIPT, TIMEOUT, grids, opened, values
from workbench.results.sweep import Sweep


def swept(*axes: str, name: str = "tiny", positions: int = 3) -> Sweep:
    """Made-up effects: head 1.2 alone recovers everything, at position 1."""
    model, n = wb.load("tiny"), 12
    sizes = {"layer": model.n_layers, "head": model.n_heads, "position": positions}
    effects = np.zeros([sizes[axis] for axis in axes])
    effects[(1, 2, 1)[: len(axes)]] = 1.0
    rng = np.random.default_rng(0)
    gap = 3 + rng.normal(size=n) / 10
    info: dict[str, object] = {"model": name, "model_sha256": model.provenance.get("sha256")}
    info |= {
        "task": "ioi",
        "n": n,
        "metric": "logit_difference",
        "direction": "denoise",
        "by": axes,
    }
    cells = effects[..., None] * gap + rng.normal(size=(*effects.shape, n)) / 100
    return Sweep(cells - 1, np.full(n, -1.0), gap - 1, axes, info=info)


def saved(sweep: Sweep, key: str = "a" * 64) -> str:
    path = result_files.result_path(SWEEPS, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep.save(path)
    return key


def test_without_a_sweep_the_page_says_where_to_run_one(app: AppTest) -> None:
    grid = grids(opened(app, score="patching_effect"))["grid"]
    assert "Patching page" in grid["note"] and np.isnan(values(grid)).all()


def test_the_newest_sweep_colours_the_heads(app: AppTest) -> None:
    sweep = swept("layer", "head")
    app.session_state[NEWEST] = {"tiny": saved(sweep)}
    grid = grids(opened(app, score="patching_effect"))["grid"]
    assert values(grid)[1, 2] == pytest.approx(1, abs=0.02) and grid["marked"] == [[1, 2]]
    assert grid["low"] == -grid["high"] and "0 = corrupt run" in grid["units"] and "n = 12" in grid["note"]
    message = grid["texts"][2][1]
    assert f"[{sweep.effect_low[1, 2]:.3g}, {sweep.effect_high[1, 2]:.3g}]" in message  # type: ignore[index] - a sweep with a source has effects
    assert f"p = {sweep.p_value[1, 2]:.2g}" in message and sweep.p_value[1, 2] < 0.05
    again = grids(opened(AppTest.from_string(SCRIPT, default_timeout=TIMEOUT), **app.query_params))["grid"]
    assert again == grid  # from the URL alone


def test_without_one_in_the_session_it_is_the_newest_by_head_on_this_machine(app: AppTest) -> None:
    full = swept("layer", "head")
    half = Sweep(full.base + full.delta / 2, full.base, full.source, full.axes, info=full.info)
    others = [swept("layer", "position"), swept("layer", "head", name="gpt2")]
    for age, (key, sweep) in enumerate(zip("abcd", [half, full, *others], strict=True)):
        os.utime(result_files.result_path(SWEEPS, saved(sweep, key * 64)), (age, age))
    result_files.result_path(SWEEPS, "e" * 64).write_bytes(b"damaged, and the newest of all")
    grid = grids(opened(app, score="patching_effect"))["grid"]
    assert values(grid)[1, 2] == pytest.approx(1, abs=0.02)
    os.utime(result_files.result_path(SWEEPS, "a" * 64), (9, 9))
    newer = grids(opened(AppTest.from_string(SCRIPT, default_timeout=TIMEOUT), score="patching_effect"))["grid"]
    assert values(newer)[1, 2] == pytest.approx(0.5, abs=0.02)
    again = grids(opened(AppTest.from_string(SCRIPT, default_timeout=TIMEOUT), **app.query_params))["grid"]
    assert again == grid  # a URL keeps to its own


def test_over_positions_the_largest_effect_is_shown(app: AppTest) -> None:
    app.session_state[NEWEST] = {"tiny": saved(swept("layer", "head", "position"))}
    grid = grids(opened(app, score="patching_effect"))["grid"]
    assert values(grid)[1, 2] == pytest.approx(1, abs=0.02)
    assert grid["texts"][2][1].endswith("at 1") and "largest value over positions" in grid["note"]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [(swept("layer", "position"), "by head"), (swept("layer", "head", name="gpt2"), "another model")],
)
def test_a_sweep_that_has_no_heads_of_this_model_is_named_in_a_line(app: AppTest, sweep: Sweep, message: str) -> None:
    app.session_state[NEWEST] = {"tiny": saved(sweep)}
    opened(app, score="patching_effect")
    assert message in app.error[0].value and any("Head 1.1" in str(heading.value) for heading in app.subheader)


def test_a_sweep_of_some_layers_leaves_the_others_blank() -> None:
    full = swept("layer", "head")
    part = Sweep(full.values[1:], full.base, full.source, full.axes, {"layer": ("1",)}, full.info)
    score = sweep_effect.score(wb.load("tiny"), saved(part))
    assert np.isnan(score.values[0]).all() and score.values[1, 2] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("key", ["../../etc/passwd", "b" * 64, "A" * 64])
def test_a_url_cannot_name_another_file_as_a_sweep(app: AppTest, key: str) -> None:
    grid = grids(opened(app, score="patching_effect", **{sweep_effect.PARAM + "tiny": key}))["grid"]
    assert "Patching page" in grid["note"]
