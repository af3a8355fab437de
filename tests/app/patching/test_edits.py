"""The page Patching before any sweep, and texts before and after the edits."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from copy import copy
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import models
from app.patching import generated, manual_edits, pairs_input, sweep_view
from app.work.stored_pairs import StoredPairs
from tests.app.patching.driving import TEXT, kl_caption, rerun, run_sweep
from workbench.core import Head
from workbench.models.language import HookedLM
from workbench.models.prompts import chat_ids

TEMPLATE = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}John:"


def captions(app: AppTest) -> str:
    return " ".join(caption.value.replace("\\", "") for caption in app.caption)


def infos(app: AppTest) -> str:
    return " ".join(info.value for info in app.info)


@pytest.fixture
def grids(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What every grid was given."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(sweep_view, "head_grid", lambda values, **kwargs: calls.append({"values": values, **kwargs}))
    return calls


def test_the_grid_stands_before_any_sweep_and_a_click_selects_or_adds(
    app: AppTest, grids: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    app.query_params.update({"set": "0.1", "head": "1.2"})
    rerun(app)
    tiny = wb.load("tiny")
    assert (
        grids[-1]["values"].shape == (tiny.n_layers, tiny.n_heads)
        and (grids[-1]["values"] != grids[-1]["values"]).all()
    )
    assert grids[-1]["marked"] == {Head(0, 1)} and grids[-1]["selected"] == Head(1, 2)
    selected: list[Head] = []
    flipped: list[Head] = []
    monkeypatch.setattr("app.sidebar.select_head", selected.append)
    monkeypatch.setattr("app.patching.circuit_builder.toggle_head", flipped.append)
    grids[-1]["on_pick"](Head(0, 3))
    assert (selected, flipped) == ([Head(0, 3)], [])
    app.toggle(key="adding").set_value(True)
    rerun(app)
    grids[-1]["on_pick"](Head(0, 3))
    assert flipped == [Head(0, 3)]
    run_sweep(app)
    assert not (grids[-1]["values"] != grids[-1]["values"]).any() and grids[-1]["marked"] == {Head(0, 1)}


def test_pairs_that_cannot_be_used_leave_the_grid_and_the_side_bars_prompt(
    app: AppTest, grids: list[dict[str, Any]]
) -> None:
    row = {"clean": "Mary and John", "corrupt": "Mary", "answer": " Mary", "wrong": " John"}
    stored = StoredPairs((row,), ("",), edited=True).save()
    app.query_params.update({"source": pairs_input.OWN, "pairs": stored, "set": "1.2"})
    rerun(app)
    assert len(app.error) == 1 and grids and app.button(key="start-sweeps").disabled and kl_caption(app)
    assert app.selectbox(key="on").options == ["the side bar’s prompt"]


def test_every_control_has_words(app: AppTest) -> None:
    app.query_params.update({"on": "1", "set": "1.2", "head": "1.2"})
    rerun(app)
    labels = [widget.label for kind in (app.selectbox, app.number_input, app.multiselect) for widget in kind]
    assert len(labels) == len(set(labels)) and not {"Edit", "By", "Site", "At", "On", "at"} & set(labels)
    assert {"Activation", "One edit for each", "Sweep edit", "Edit of the set", "At which positions"} <= set(labels)
    assert "patch the corrupt run (denoise)" in app.selectbox(key="edit").options
    assert app.selectbox(key="head-role").value == "no role" and "no role: 1.2" in " ".join(
        m.value for m in app.markdown
    )


def test_the_text_is_continued_before_and_after(app: AppTest) -> None:
    app.query_params.update({"set": "1.0,1.1,1.2,1.3", "generating": "yes", "new-tokens": "4"})
    rerun(app)
    model = wb.load("tiny")
    edits = [wb.Edit("z", 1, head=j, kind="zero") for j in range(4)]
    expected = wb.generations(model, TEXT, edits=edits, max_new_tokens=4)
    table = next(frame.value for frame in app.dataframe if "p_before" in frame.value)
    assert table.equals(expected.table()) and app.query_params["new-tokens"] == "4"
    edited = manual_edits.EditedPrompt(expected.prompt_ids)
    assert generated.summary(expected, edited, edits) in captions(app)
    names: dict[str, Any] = {}
    code = app.code[0].value.replace("sweep = wb", "# ").replace("print(sweep", "# ")
    with redirect_stdout(io.StringIO()) as printed:
        exec(code, names)  # noqa: S102 - the script is what is tested
    assert str(expected.table()) in printed.getvalue()
    app.toggle(key="generating").set_value(False)
    assert not any("p_before" in frame.value for frame in rerun(app).dataframe)


def test_a_texts_mean_is_that_of_the_library_and_a_patch_is_explained(app: AppTest) -> None:
    app.query_params.update({"set": "1.2", "generating": "yes", "new-tokens": "2", "on": "2", "kind-by-hand": "mean"})
    app.query_params.update({"run-by-hand": "corrupt run"})
    rerun(app)
    model = wb.load("tiny")
    inputs = wb.task("ioi", n=6, seed=0).inputs(model.tokenizer)
    edit = wb.Edit("z", 1, head=2, kind="mean")
    expected = wb.generations(model, inputs.corrupt[1], edits=edit, max_new_tokens=2, mean_over=inputs)
    table = next(frame.value for frame in app.dataframe if "p_before" in frame.value)
    assert table.equals(expected.table()) and "over all positions of the pairs" in captions(app)
    app.selectbox(key="kind-by-hand").set_value("patch")
    assert "A patch takes its values from the pair’s other run" in infos(rerun(app))


def test_a_chat_is_offered_where_the_model_has_a_template(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    app.query_params.update({"set": "1.2", "chat": "yes"})
    assert "chat" not in [toggle.key for toggle in rerun(app).toggle]
    tiny = wb.load("tiny")
    tokenizer = copy(tiny.tokenizer)
    tokenizer.chat_template = TEMPLATE
    chatty = HookedLM(tiny.hf, tokenizer)
    chatty.provenance = {**tiny.provenance, "name": "chatty"}
    monkeypatch.setattr(models, "load", lambda name: chatty)
    manual_edits._run.clear()
    manual_edits.compute_change.clear()
    app.toggle(key="generating").set_value(True)
    rerun(app)
    ids = chat_ids(chatty, TEXT)
    with torch.no_grad():
        best = int(chatty.hf(ids[None]).logits[0, -1].argmax())
    table = next(frame.value for frame in app.dataframe if "p_before" in frame.value)
    first = table.to_dict("records")[0]
    assert (first["position"], first["before"]) == (len(ids), chatty.to_str_tokens(torch.tensor([best]))[0])
    assert len(app.selectbox(key="force-row").options) == len(ids)
    assert "chat=True" in app.code[0].value and "chat_ids" in app.code[0].value
    chart = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert first["before"].strip() in json.dumps(chart)
