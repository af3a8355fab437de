"""The page Patching opened from Heads and Circuits: a head that is ablated, two prompts that are patched."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import Home, models
from app.work import background
from app.work.stored_pairs import load_stored
from tests.app.circuits.made_runs import make_run
from tests.app.heads.rendered import OTHER, Queue
from tests.app.patching.driving import TEXT, TIMEOUT, kl_caption, rerun
from tests.oracle.plain_hooks import Plain

HOME = """
import streamlit as st
from app import sidebar, url_state
from app.page import pages, views
from app.messages import show_errors

view = st.navigation(list(views().values()))
with url_state.update_url(), show_errors():
    sidebar.widgets(["tiny"], {page.title: page for page in pages()}[view.title].uses)
    view.run()
"""
HEADS = ["task", "stage", "layer", "index", "head", "role", "mean_effect"]


@pytest.fixture
def home(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """All pages, with the page Patching's folders and a queue that computes nothing."""
    queue = Queue()
    for module in (background, Home):
        monkeypatch.setattr(module, "job_queue", lambda: queue)
    monkeypatch.setattr(models, "available", lambda: ["tiny"])
    return AppTest.from_string(HOME, default_timeout=TIMEOUT)


def pressed(app: AppTest, key: str) -> AppTest:
    app.button(key=key).click()
    return rerun(rerun(app))


def kl_without(layer: int, index: int, text: str) -> float:
    """KL of the next token without a head, by plain hooks."""
    model = wb.load("tiny")
    plain, ids = Plain(model.hf, "llama"), model.to_tokens(text)[0]

    def silence(z: torch.Tensor) -> None:
        z[:, index] = 0

    p = plain.logits(ids).double().log_softmax(-1)
    q = plain.logits(ids, ("z", layer, silence)).double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum())


def test_the_open_head_is_ablated_and_its_effect_is_shown_at_once(home: AppTest) -> None:
    home.query_params.update({"head": "1.2", "prompt": TEXT})
    pressed(rerun(home), "ablate")
    assert home.query_params["set"] == "1.2" and home.selectbox(key="kind-by-hand").value == "zero"
    assert f"KL(before ‖ after) {kl_without(1, 2, TEXT):.3g} nats" in kl_caption(home)


def test_a_head_of_a_tasks_prompt_is_ablated_on_that_prompt(home: AppTest) -> None:
    home.query_params.update({"head": "1.2", "scored": "a task", "task": "ioi", "n": "4", "closely": "3"})
    pressed(rerun(home), "ablate")
    clean = wb.task("ioi", n=4, seed=0).examples()[2].clean
    assert home.query_params["on"] == "3" and home.query_params["run-by-hand"] == "clean run"
    assert f"KL(before ‖ after) {kl_without(1, 2, clean):.3g} nats" in kl_caption(home)


def test_a_circuits_head_is_ablated(home: AppTest) -> None:
    make_run(
        "circuit-reuse", {"heads": pd.DataFrame([("ioi", "logits", 1, 1, "1.1", "mover", 0.5)], columns=HEADS)}, "tiny"
    )
    switch = HOME.replace(
        "    view.run()",
        """    if not st.session_state.get("started"):
        st.session_state["started"] = True
        st.switch_page(views()["circuits"], query_params=st.query_params.to_dict())
    view.run()""",
    )
    app = AppTest.from_string(switch, default_timeout=TIMEOUT)
    app.query_params.update({"head": "1.1", "prompt": TEXT})
    pressed(rerun(app), "circuit-ablate")
    assert app.query_params["set"] == "1.1"
    assert f"KL(before ‖ after) {kl_without(1, 1, TEXT):.3g} nats" in kl_caption(app)


def test_two_compared_prompts_become_a_pair_whose_corrupt_run_is_edited(home: AppTest) -> None:
    home.query_params.update({"compare": "yes", "differs": "prompt", "prompt": TEXT, "prompt2": OTHER, "head": "1.1"})
    pressed(rerun(home), "patch-these")
    (row,) = load_stored(home.query_params["pairs"]).rows
    (expected,) = wb.prompt_pair(wb.load("tiny"), TEXT, OTHER).items
    assert (row["clean"], row["corrupt"]) == (TEXT, OTHER)
    assert (tuple(row["answer"]), tuple(row["wrong"])) == (expected.answer, expected.wrong)
    query = home.query_params
    assert (query["source"], query["on"], query["kind-by-hand"]) == ("pairs of my own", "1", "patch")
    assert query["run-by-hand"] == "corrupt run" and "set" not in query
    texts = " ".join(caption.value.replace("\\", "") for caption in home.caption)
    assert f"The corrupt run is edited: {OTHER}" in texts
    assert len(json.loads(home.get("bidi_component")[0].proto.json)["values"]) == wb.load("tiny").n_heads


def test_prompts_of_unequal_length_are_refused_in_one_line(home: AppTest, tmp_path: Path) -> None:
    home.query_params.update({"compare": "yes", "differs": "prompt", "prompt": TEXT, "prompt2": TEXT + " the"})
    pressed(rerun(home), "patch-these").run()
    assert "pairs" not in home.query_params
    home.button(key="patch-these").click()
    (error,) = rerun(home).error
    assert "they must have the same number" in error.value and "\n" not in error.value
