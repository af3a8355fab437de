"""*Show as code* and the table of cells on the page Diffusion."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import workbench as wb
from app.diffusion.parts.grid import ROWS, cells_table
from app.diffusion.sweeps import FIRST_STEP
from app.work import result_files
from tests.app.diffusion.test_diffusion_page import LABEL, OTHER, QUERY, load_dit
from tests.app.pages.driving import NewPage


def run_script(app: AppTest, which: int) -> dict[str, Any]:
    """The variables that a script of the page leaves: 0 is the sweep's, 1 that of the edits."""
    names: dict[str, Any] = {}
    exec(compile(app.code[which].value, "script", "exec"), names)  # noqa: S102 - the page's own script
    return names


def swept(app: AppTest) -> wb.Sweep:
    """The sweep that the page runs."""
    app.button(key=f"start-{result_files.SWEEPS}").click().run()
    app.run()
    assert not app.exception and not app.error
    (path,) = result_files.result_paths(result_files.SWEEPS)
    return wb.Sweep.load(path)


@pytest.mark.parametrize(
    "query",
    [
        {"sample_edit": "patch", "sample_passes": "none"},
        {"sample_edit": "identity", "sample_guided": "no", "sample_metric": "contrast"},
        {"sample_edit": "mean", "sample_readout": "digits-vit", "sample_metric": "probability"},
    ],
)
def test_the_sweeps_script_gives_the_pages_sweep(query: dict[str, str], new_page: NewPage) -> None:
    app = new_page(**QUERY, **query, sample_n="2")
    sweep, names = swept(app), run_script(app, 0)
    np.testing.assert_allclose(names["sweep"].values, sweep.values, atol=1e-6)
    assert names["sweep"].info["metric"] == sweep.info["metric"]


@pytest.mark.parametrize(
    "query",
    [
        {"set_edit": "patch", "set_passes": "label", "set_first_step": "1", "set_last_step": "2"},
        {"set_edit": "identity", "sample_readout": "digits-vit"},
    ],
)
def test_the_edits_script_gives_the_edited_sample(query: dict[str, str], new_page: NewPage) -> None:
    app = new_page(**QUERY, **query, set="0.1,4.2")
    assert not app.exception and not app.error
    names = run_script(app, 1)
    model = load_dit().resampled(steps=4, guidance=2.0, readout=None)
    kind: dict[str, Any] = {"step": (1, 2), "position": "with the class"}
    if query["set_edit"] == "identity":
        kind = {"kind": "identity", "u": 1.0}
    site = "pattern" if "u" in kind else "z"
    edits = [wb.Edit(site, layer, head=head, **kind) for layer, head in ((0, 1), (4, 2))]
    assert names["edits"] == edits
    expected = wb.run(model, wb.latents(LABEL, other=OTHER, seed=7), edits)
    last = names["edited"].pixels(0, 4, "latent")
    np.testing.assert_allclose(last, wb.trajectory(model, names["sample"], edits).pixels(0, 4, "latent"))
    assert names["metrics"].to_dict() == names["scores_table"](expected).to_dict()
    assert ("classes" in names) == ("sample_readout" in query)


def test_the_table_has_the_cells_with_the_largest_changes(new_page: NewPage) -> None:
    app = new_page(**QUERY, sample_edit="zero", sample_metric="contrast", sample_n="2")
    sweep = swept(app)
    table = cells_table(sweep, ROWS)
    order = np.argsort(-np.abs(sweep.mean_delta), axis=None)[:ROWS]
    cells = [tuple(map(int, np.unravel_index(flat, sweep.mean_delta.shape))) for flat in order]
    displayed = list(zip(table["step"], table["head"], strict=True))
    assert displayed == [(step, f"{layer}.{head}") for step, layer, head in cells]
    np.testing.assert_allclose(table["mean delta"], [sweep.mean_delta[cell] for cell in cells])
    assert any(list(frame.value["head"]) == list(table["head"]) for frame in app.dataframe)


@pytest.mark.parametrize("passes", ["both", "none"])
def test_the_first_step_of_the_pass_without_the_class_is_exactly_0(passes: str, new_page: NewPage) -> None:
    app = new_page(**QUERY, sample_edit="patch", sample_n="2", sample_passes=passes)
    captions = [caption.value.replace("\\", "") for caption in app.caption]
    assert any(FIRST_STEP in caption for caption in captions) == (passes == "none")
    changes = swept(app).mean_delta
    assert (changes[0] == 0).all() == (passes == "none") and (changes[1] != 0).any()


def test_the_box_has_the_head_that_is_open(new_page: NewPage) -> None:
    app = new_page(**QUERY)
    assert app.text_input(key="head").value == "0.0"
