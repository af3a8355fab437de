"""`Sweep`: shapes, numbers, tables, figures, and its file as untrusted input."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save as to_bytes

from workbench.core import Head
from workbench.errors import BadInput, UnknownName, UsageError
from workbench.plotting import style
from workbench.results.sweep import Sweep

N = 12
INFO = {"model": "tiny", "task": "ioi", "site": "z", "by": "head", "edit": "patch", "direction": "denoise"}
INFO |= {"metric": "logit_difference", "units": "logits"}
SHAPES = {
    ("layer",): (4,),
    ("layer", "head"): (4, 3),
    ("layer", "kv_head"): (4, 2),
    ("layer", "position"): (4, 5),
    ("layer", "head", "position"): (4, 3, 5),
}


def make(axes=("layer", "head"), n=N, source=True, seed=0, **labels) -> Sweep:
    """A sweep whose cell i has about i % of the gap as its effect, with a negative cell and a blank one at the end."""
    rng = np.random.default_rng(seed)
    shape = SHAPES[axes]
    base, gap = rng.normal(0, 1, n), rng.normal(4, 0.5, n)
    share = np.arange(np.prod(shape)).reshape(shape) / 100
    share[(0,) * len(shape)], share[(-1,) * len(shape)] = -0.5, np.nan
    values = base + share[..., None] * gap * rng.normal(1, 0.1, (*shape, n))
    return Sweep(
        values, base, base + gap if source else None, axes, labels, INFO if source else {**INFO, "edit": "zero"}
    )


def test_effect_is_a_ratio_of_means_and_not_a_mean_of_ratios():
    base, source = np.zeros(2), np.array([1.0, 3.0])
    sweep = Sweep(np.array([[1.0, 0.0]]), base, source, ("layer",))
    assert sweep.effect is not None and sweep.effect[0] == 0.5 / 2
    assert (sweep.mean_delta[0], sweep.delta.tolist()) == (0.5, [[1.0, 0.0]])


def test_intervals_hold_the_effect_and_blank_cells_stay_blank():
    sweep = make()
    assert sweep.effect is not None and sweep.effect_low is not None and sweep.effect_high is not None
    blank = np.isnan(sweep.mean_delta)
    assert blank.sum() == 1 and blank[-1, -1]
    for quantity in (sweep.effect, sweep.effect_low, sweep.effect_high, sweep.delta_low, sweep.p_value):
        np.testing.assert_array_equal(np.isnan(quantity), blank)
    assert (sweep.effect_low <= sweep.effect)[~blank].all() and (sweep.effect <= sweep.effect_high)[~blank].all()
    assert sweep.p_value[0, 0] == sweep.smallest_p_value == 2 / 2**12 and sweep.effect_note == ""


def test_without_a_source_there_is_no_effect():
    sweep = make(source=False)
    assert sweep.effect is sweep.effect_low is sweep.effect_high is None
    assert "mean_delta" in sweep.effect_note and sweep.table().effect.isna().all()
    with pytest.raises(UsageError, match="no effect"):
        sweep.figure("effect")


@pytest.mark.parametrize("positions", ["S2", ["S2", "end"]])
def test_it_says_where_the_edit_is_made_and_of_which_run(positions):
    patched = make()
    patched = replace(patched, info={**patched.info, "positions": positions})
    zeroed = make(source=False)
    zeroed = replace(zeroed, info={**zeroed.info, "positions": positions, "direction": "noise"})
    where = "z at S2, end" if isinstance(positions, list) else "z at S2"
    assert f", {where}, patch, denoise)" in repr(patched) and f", {where}, zero, clean run)" in repr(zeroed)
    subtitles = [style.chart_text(sweep, "mean_delta").subtitle for sweep in (patched, zeroed)]
    assert f"patch {where} by head · direction: denoise" in subtitles[0]
    assert f"zero {where} by head · base: clean run" in subtitles[1] and zeroed.info["direction"] == "noise"
    by_position = make(("layer", "position"))
    assert " at " not in repr(replace(by_position, info={**by_position.info, "positions": positions}))


def test_a_gap_around_zero_gives_nan_and_says_why():
    sweep = make()
    sweep = replace(sweep, source=sweep.base + np.random.default_rng(1).normal(0, 1, N))
    assert sweep.effect is not None and np.isnan(sweep.effect).all()
    assert "contains 0" in sweep.effect_note and sweep.quantity(None) == "mean_delta"
    assert np.isfinite(sweep.delta_low[0, 0])


def test_one_example():
    sweep = make(n=1)
    assert np.isnan(sweep.delta_low).all() and "only one example" in sweep.effect_note
    assert sweep.effect is not None and sweep.effect[0, 0] == pytest.approx(-0.5, abs=0.2)
    assert sweep.p_value[0, 0] == 1
    assert "only one example" in sweep._repr_html_() and sweep.figure() and sweep.picture()


def test_a_cell_with_one_infinite_example_is_blank_and_counted():
    sweep = make()
    values = sweep.values.copy()
    values[1, 1, 0] = -np.inf
    sweep = replace(sweep, values=values)
    assert np.isnan(sweep.mean_delta[1, 1]) and sweep.effect_note.startswith("1 cells")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"base": np.zeros(N + 1)},
            r"base=.* \(13,\)>: expected the shape \(12,\), because values 'layer head example'",
        ),
        (
            {"axes": ("layer",), "labels": {}},
            r"values=.* \(4, 3, 12\)>: expected the shape 'layer example'",
        ),
        ({"axes": ("head", "layer")}, "in this order"),
        ({"labels": {"head": ("0", "1")}}, r"labels\['head'\]=.*: expected 3 different labels"),
        ({"labels": {"position": ("S1",)}}, r"labels=\{.*'position'.*: expected labels of the axes"),
        ({"labels": {"head": ("a", "b", "c")}}, r"labels\['head'\]=.*: expected numbers"),
    ],
)
def test_shapes_that_clash_are_refused_with_both(change, message):
    with pytest.raises(UsageError, match=message):
        replace(make(), **change)


def test_values_cannot_be_changed_behind_the_statistics():
    values = np.zeros((1, 2))
    sweep = Sweep(values, np.zeros(2), None, ("layer",))
    with pytest.raises(ValueError, match="read-only"):
        sweep.values[0, 0] = 1
    values[0, 1] = 1  # the caller's array stays the caller's


def test_top_ranks_by_magnitude():
    sweep = make()
    assert sweep.top(2) == [Head(0, 0), Head(3, 1)]
    assert sweep.top(percent=2) == [Head(0, 0)] and len(sweep.top(percent=100)) == 11
    assert make(("layer", "head", "position")).top(1) == [Head(3, 2)]
    with pytest.raises(UsageError, match="no heads"):
        make(("layer",)).top(1)
    with pytest.raises(UsageError, match="k=None, percent=None: expected one of them"):
        sweep.top()


def test_too_few_examples_for_any_p_value_are_said():
    few, enough = (style.chart_text(make(n=n), "effect").note for n in (5, 6))
    assert "With n = 5 no cell can have p ≤ 0.05" in few and "no cell" not in enough


def test_table_names_heads_as_papers_do():
    table = make(("layer", "kv_head")).table()
    assert table["head"].tolist()[:3] == ["0.kv0", "0.kv1", "1.kv0"] and table.n.eq(N).all()
    table = make(("layer", "head", "position"), position=("IO", "S1", "S1+1", "S2", "end")).table()
    assert table.iloc[8][["layer", "head_index", "head", "position"]].tolist() == [0, 1, "0.1", "S2"]
    assert list(table.columns[4:]) == [
        "mean_delta", "delta_low", "delta_high", "effect", "effect_low", "effect_high", "p_value", "n",
    ]  # fmt: skip


@pytest.mark.parametrize("axes", SHAPES)
def test_every_shape_draws_itself(axes):
    sweep = make(axes)
    figure, picture = sweep.figure(), sweep.picture()
    plain = json.loads(str(figure.to_json()))
    assert "tiny · ioi · n = 12" in plain["layout"]["title"]["text"]
    assert {"denoise", "logit difference"} <= set(
        plain["layout"]["title"]["subtitle"]["text"].replace("direction: ", "").split(" · ")
    )
    trace = plain["data"][0]
    if len(axes) > 1:
        assert trace["zmin"] == -trace["zmax"] and "corrupt run" in trace["colorbar"]["title"]["text"]
        assert trace["hovertemplate"].startswith("%{customdata}")
        assert ("updatemenus" in plain["layout"]) == (len(axes) == 3)
    assert any("corrupt run" in text for text in (a.get_ylabel() for a in picture.axes))


def test_the_menu_shows_each_position():
    sweep = make(("layer", "head", "position"))
    assert sweep.effect is not None
    menu = json.loads(str(sweep.figure().to_json()))["layout"]["updatemenus"][0]
    largest, first, *others = menu["buttons"]
    assert len(others) == 4 and first["args"][0]["z"][0][2][1] == sweep.effect[1, 2, 0]
    best, where = style.largest_over_positions(sweep.effect)
    assert best[0, 0] == sweep.effect[0, 0, 0] < 0 and where[0, 0] == 0
    assert largest["args"][0]["z"][0][0][0] == best[0, 0]


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"into": "q", "receivers": ["9.6", "9.9"]}, "path patching of z into q of 9.6, 9.9"),
        ({"into": "resid_post", "receivers": "logits"}, "path patching of z into the logits"),
        ({"by": ["layer", "position"]}, "patch z by layer × position"),
    ],
)
def test_the_subtitle_says_what_was_done(info, words):
    subtitle = style.chart_text(replace(make(), info={**INFO, **info}), "effect").subtitle
    assert subtitle == f"{words} · direction: denoise · logit difference"


def test_hover_tells_value_interval_and_p():
    texts = style.hover(make(), "effect")
    assert all(word in texts[0, 0] for word in ("0.0", "effect −0.49", "95 %", "p = 0.00049"))
    assert "no value" in texts[-1, -1]


def test_drawing_leaves_matplotlibs_global_state_alone():
    from matplotlib import pyplot

    make().picture()
    assert pyplot.get_fignums() == []


def test_notebook_html_works_without_network_and_escapes():
    html = replace(make(), info={**INFO, "task": "<script>"})._repr_html_()
    assert "data:image/png;base64" in html and "http" not in html and "<script" not in html


def test_json_has_null_for_blank_cells():
    text = json.dumps(make().json(), allow_nan=False)
    data = json.loads(text)
    assert data["cells"][-1]["effect"] is None and data["cells"][0]["head"] == "0.0"
    assert data["gap"]["low"] < data["gap"]["mean"] < data["gap"]["high"]


@pytest.mark.parametrize("axes", SHAPES)
def test_saved_and_loaded(axes, tmp_path):
    sweep = make(axes, source=axes != ("layer",))
    sweep.save(tmp_path / "s.safetensors")
    again = Sweep.load(tmp_path / "s.safetensors")
    np.testing.assert_array_equal(again.values, sweep.values)
    assert (again.axes, again.labels, again.info) == (sweep.axes, sweep.labels, sweep.info)
    assert (again.source is None) == (sweep.source is None)
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


METADATA = {"axes": ["layer"], "labels": {}, "info": {}}
GOOD = {"values": np.zeros((2, 3)), "base": np.zeros(3)}


def file_of(tensors=GOOD, metadata=METADATA, format="workbench.sweep/1") -> bytes:
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    return to_bytes(tensors, metadata={"format": format, "sweep": text})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a complete safetensors"),
        (file_of()[:-8], "not a complete safetensors"),
        ((2**60).to_bytes(8, "little") + b"{}", "not a complete safetensors"),
        (to_bytes(GOOD), "format"),
        (file_of(format="other"), "format"),
        (file_of({**GOOD, "more": np.zeros(1)}), "'more'"),
        (file_of({**GOOD, "base": np.zeros(3, np.float32)}), "F32"),
        (file_of({"values": np.zeros((2, 3))}), "values and base"),
        (file_of({**GOOD, "base": np.zeros(4)}), "expected the shape"),
        (file_of(metadata="["), "not valid JSON"),
        (file_of(metadata="[" * 100_000), "not valid JSON"),
        (file_of(metadata='{"axes": ["layer"], "labels": {}, "info": ' + '{"a":' * 50 + "1" + "}" * 51), "deeper"),
        (file_of(metadata={**METADATA, "axes": [1]}), "list of strings"),
        (file_of(metadata={**METADATA, "axes": ["layer", "layer"]}), "in this order"),
        (file_of(metadata={**METADATA, "labels": {"layer": ["0"]}}), "expected 2 different labels"),
        (file_of(metadata={**METADATA, "more": 1}), "must contain"),
    ],
)
def test_files_that_are_not_as_written_are_refused(data, message, tmp_path):
    path = tmp_path / "s.safetensors"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=message):
        Sweep.load(path)


def test_a_missing_file_and_info_that_is_no_json(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        Sweep.load(tmp_path / "none")
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        replace(make(), info={"x": object()}).save(tmp_path / "s.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_quantity_is_refused():
    with pytest.raises(UnknownName, match="mean_delta"):
        make().picture("delta")


def test_a_picture_over_steps_has_every_head_of_a_small_model() -> None:
    values = np.random.default_rng(0).normal(size=(3, 6, 4, 8))
    sweep = Sweep(values, np.zeros(8), None, ("step", "layer", "head"), {}, {"n_steps": 3, "steps": [0, 1, 2]})
    axes = sweep.picture().axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"{i}.{j}" for i in range(6) for j in range(4)]
    assert "strongest of" not in axes.get_title(loc="left")
    many = Sweep(np.concatenate([values] * 2, 1), np.zeros(8), None, ("step", "layer", "head"), {}, sweep.info)
    axes = many.picture().axes[0]
    assert len(axes.get_yticklabels()) == 20 and "the 20 strongest of 48 heads" in axes.get_title(loc="left")


def test_the_steps_of_an_edit_are_in_the_short_form() -> None:
    info = {"site": "z", "n_steps": 4, "steps": [0, 1, 2, 3]}
    for steps, words in (([0, 1, 2, 3], "z in all 4 steps at once"), ([0], "z in step 0"), ([1, 3], "z in steps 1, 3")):
        sweep = Sweep(np.zeros((2, 3)), np.zeros(3), None, ("layer",), {}, {**info, "steps": steps})
        assert words in repr(sweep)
