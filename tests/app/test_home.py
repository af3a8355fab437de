"""The explorer's pages, as Streamlit runs them without a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import Home, models, sidebar, upload_store
from app.heads import score_grid
from app.heads.prompt_record import PromptRecord
from app.page import pages
from app.work import background
from app.work.jobs import Job
from workbench.errors import BadInput, UnknownName
from workbench.models import catalog

PATCHING = """
from app import models, sidebar, url_state
from app.pages import patching
with url_state.update_url():
    sidebar.widgets(models.available())
    patching.page.render()
"""
HOSTILE = '<script>alert(1)</script> "><img src=x onerror=alert(2)> **bold** $x$'


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> AppTest:
    monkeypatch.setenv(models.STARTED, json.dumps(["tiny"]))
    monkeypatch.setattr(models, "available", lambda: ["tiny"])
    monkeypatch.setattr(upload_store, "folder", lambda: tmp_path / "inputs")
    # Not from the file: beside it lies a folder "pages", and AppTest would run a page of it alone the second time.
    return AppTest.from_string("from app.Home import main; main()", default_timeout=250)


def test_it_opens_on_something_worth_seeing(app: AppTest) -> None:
    app.run()
    assert not app.exception and not app.error
    assert app.session_state[sidebar.PROMPT] == sidebar.DEFAULT_PROMPT and app.session_state[sidebar.MODEL] == "tiny"
    assert pages()[0].name == "heads"
    seen = PromptRecord(wb.load("tiny"), wb.load("tiny").to_tokens(sidebar.DEFAULT_PROMPT)[0].tolist(), cache=False)
    sizes = np.abs(seen.scores["direct_logit_attribution"])
    layer, index = np.unravel_index(sizes.argmax(), sizes.shape)
    assert any(f"Head {layer}.{index}" in str(heading.value) for heading in app.subheader)
    assert app.query_params["head"] == f"{layer}.{index}"


def test_the_head_is_the_same_on_every_page(app: AppTest) -> None:
    app.run()
    head = app.query_params["head"]
    other = AppTest.from_string("from app.Home import main; main()", default_timeout=250)
    other.run()
    other.text_input(key=sidebar.HEAD).set_value("").run()  # nobody has selected one
    assert other.query_params["head"] == head and other.text_input(key=sidebar.HEAD).value == head
    patching = AppTest.from_string(PATCHING, default_timeout=250).run()
    assert not patching.exception and patching.query_params["head"] == head
    circuits = AppTest.from_string(PATCHING.replace("patching", "circuits"), default_timeout=250).run()
    assert not circuits.exception and circuits.text_input(key=sidebar.HEAD).value == ""  # none is selected there


def test_a_head_is_found_by_its_other_names(app: AppTest) -> None:
    app.run()
    app.text_input(key=sidebar.HEAD).set_value(" L1H2 ").run()
    assert not app.exception and not app.error and app.query_params["head"] == "1.2"
    assert app.text_input(key=sidebar.HEAD).value == "1.2"


def test_a_url_restores_model_prompt_and_head(app: AppTest) -> None:
    app.query_params.update({"model": "tiny", "prompt": "Paul and Anna", "head": "1.2"})
    app.run()
    assert not app.exception
    assert app.session_state[sidebar.PROMPT] == "Paul and Anna" and app.session_state[sidebar.HEAD] == "1.2"
    assert any("Head 1.2" in str(heading.value) for heading in app.subheader)


def test_the_box_shows_the_head_that_is_shown(app: AppTest) -> None:
    app.query_params.update({"model": "tiny", "head": "9.9"})
    app.run()
    assert not app.exception and app.text_input(key=sidebar.HEAD).value == "1.7"
    assert app.query_params["head"] == "1.7"
    (warning,) = app.warning
    assert "no head 9.9. Showing 1.7" in str(warning.value).replace("\\", "")


def test_a_url_to_a_model_that_is_not_here_shows_one_that_is(app: AppTest) -> None:
    app.query_params.update({"model": "../../etc/passwd"})
    app.run()
    assert not app.exception and "not an option. Showing tiny" in app.warning[0].value.replace("\\", "")
    assert app.session_state[sidebar.MODEL] == "tiny"


@pytest.mark.parametrize(("name", "reason"), [("a" * 64, "not on this machine"), ("..", "not a SHA-256 hash")])
def test_what_a_url_lacks_is_called_by_its_name(app: AppTest, name: str, reason: str) -> None:
    app.query_params.update({"prompt-input": name})
    app.run()
    (warning,) = (str(warning.value).replace("\\", "") for warning in app.warning)
    assert "The URL refers to a long prompt" in warning and reason in warning and "upload" not in warning


def test_invalid_values_in_the_url_are_named(app: AppTest) -> None:
    app.query_params.update({"prompt-input": "a" * 64, "score": "zzz"})
    app.run()
    message = " ".join(str(warning.value).replace("\\", "") for warning in app.warning)
    assert not app.exception and "not on this machine" in message and "score=zzz, which is not an option" in message
    assert app.session_state[sidebar.PROMPT] == sidebar.DEFAULT_PROMPT and not app.run().warning


def test_a_too_long_text_is_refused_and_not_stored(app: AppTest, tmp_path: Path) -> None:
    app.run()
    app.text_area(key=sidebar.PROMPT).set_value("Mary " * 5_000).run()
    assert not app.exception and "25,000 characters" in app.error[0].value.replace("\\", "")
    assert not {"prompt", "prompt-input"} & set(app.query_params) and not list(tmp_path.glob("inputs/*"))


def test_jobs_of_other_pages_are_shown_and_can_be_stopped(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[int] = []
    running = [Job(3, "key", "running", 2, 6, "sweep", label="sweep of z"), Job(4, "other", label="scores")]

    class Queue:
        def unfinished(self, before: int | None = None) -> list[Job]:
            return [job for job in running if before is None or job.id < before]

        def get(self, number: int) -> Job:
            return next(job for job in running if job.id == number)

        def stop(self, number: int) -> None:
            stopped.append(number)

        def warm(self, model: str) -> None:
            pass

    for module in (background, Home):
        monkeypatch.setattr(module, "job_queue", Queue)
    app.run()
    assert not app.exception
    progress = [element.proto.text.replace("\\", "") for element in app.sidebar.get("progress")]
    assert progress == ["sweep of z: sweep 2 of 6", "scores: waiting for sweep of z (2 of 6)"]
    app.sidebar.button(key="stop-4").click().run()
    assert stopped == [4]


def test_a_long_prompt_goes_into_the_url_by_its_hash(app: AppTest) -> None:
    text = "Mary and John " * 160
    app.run()
    app.text_area(key=sidebar.PROMPT).set_value(text).run()
    assert not app.exception
    name = app.query_params["prompt-input"]
    assert "prompt" not in app.query_params and upload_store.load(name).decode() == text


def test_an_error_is_one_line_and_the_page_goes_on(app: AppTest) -> None:
    app.run()
    app.text_area(key=sidebar.PROMPT).set_value("").run()
    assert not app.exception and "Prompt: it is empty" in app.error[0].value.replace("\\", "")
    app.text_area(key=sidebar.PROMPT).set_value("Paul and Anna").run()
    assert not app.error and not app.exception


def test_what_is_no_head_gives_way_to_the_first_one(app: AppTest) -> None:
    app.query_params.update({"head": "nonsense"})
    app.run()
    (warning,) = app.warning
    assert "expected a head" in warning.value and warning.value.replace("\\", "").endswith("Showing 0.0.")
    assert app.text_input(key=sidebar.HEAD).value == app.query_params["head"] == "0.0"
    assert not app.error and not app.exception and any(title.value == "Head 0.0" for title in app.subheader)
    assert not app.run().warning


def test_a_hostile_prompt_is_text(app: AppTest) -> None:
    app.query_params.update({"prompt": HOSTILE})
    app.run()
    assert not app.exception
    bodies = " ".join(html.proto.body for html in app.get("html"))
    assert not any(tag in bodies for tag in ("<unk", "<script", "<img"))
    components = [element.proto.json for element in app.get("bidi_component")]  # they take text as text
    assert any("<unk>" in data for data in components)  # what the tiny model makes of it looks like a tag, too


def test_only_models_that_are_offered_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "available", lambda: ["tiny"])
    with pytest.raises(UnknownName):
        models.load("/etc")


@pytest.mark.parametrize("name", ["..", "a" * 64, "A" * 64, "../" + "a" * 61])
def test_a_url_cannot_name_a_file(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(upload_store, "folder", lambda: tmp_path)
    with pytest.raises(BadInput):
        upload_store.load(name)


def test_an_upload_that_was_changed_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(upload_store, "folder", lambda: tmp_path)
    name = upload_store.save(b"text")
    assert upload_store.load(name) == b"text"
    (tmp_path / name).write_bytes(b"other")
    with pytest.raises(BadInput, match="was changed"):
        upload_store.load(name)


def test_a_bug_is_named_and_the_page_stays_usable(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise KeyError("score")

    with monkeypatch.context() as patch:
        patch.setattr(score_grid, "score_widget", broken)
        app.run()
    message = app.error[0].value.replace("\\", "")
    assert message == "Internal error (KeyError). The traceback is in the terminal."
    assert not app.exception and not app.run().error


def test_a_page_for_other_models_says_so(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "modality_of", lambda name: "vision")
    app.session_state[Home._OPENED] = True  # else the page for vision models opens
    app.run()
    assert not app.exception and not app.subheader
    assert any("This page is for language models, and tiny is a vision model" in info.value for info in app.info)


@pytest.mark.parametrize(
    ("model", "heading", "first_steps"),
    [("digits-vit", "Patch and ablate", "Choose an image"), ("digits-dit", "Edit and sample again", "Choose a class")],
)
def test_the_first_page_is_one_for_the_model(
    model: str, heading: str, first_steps: str, app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "available", lambda: [model, "tiny"])
    app.run()
    assert not app.exception and not app.error and not app.sidebar.text_area
    assert heading in [str(x.value) for x in app.subheader]
    assert any(first_steps in info.value and "Type a prompt" not in info.value for info in app.info)


def test_a_page_for_other_models_has_a_button_to_one_for_the_model(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "available", lambda: ["digits-vit", "tiny"])
    app.session_state[Home._OPENED] = True
    app.run()
    assert not app.exception and not app.subheader and not app.sidebar.text_area and not app.sidebar.text_input
    assert not any("Type a prompt" in info.value for info in app.info)
    app.button(key="open-vision").click().run()
    assert not app.exception and not app.error and "Patch and ablate" in [str(x.value) for x in app.subheader]


def test_a_first_visit_is_welcomed_until_that_is_hidden(app: AppTest) -> None:
    app.run()
    assert any("click a cell of the grid" in info.value for info in app.info)
    app.button(key="hide-welcome").click().run()
    assert not app.info


def test_a_link_is_no_first_visit(app: AppTest) -> None:
    app.query_params.update({"head": "1.2"})
    app.run()
    assert not app.info


def test_the_side_bar_shows_what_the_page_uses_and_the_rest_survives(app: AppTest) -> None:
    app.query_params.update({"model": "tiny", "head": "1.2", "prompt": "Paul and Anna"})
    app.run()
    assert {area.key for area in app.sidebar.text_area} == {sidebar.PROMPT}
    (expander,) = [box for box in app.sidebar.expander if box.label.startswith("Help")]
    assert "Colour heads by" in expander.markdown[0].value and "Pattern" in expander.markdown[0].value


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"compare": "maybe"}, "compare=maybe, which is not an option"),
        ({"scored": "a task", "n": "100000"}, "n=100000, which is out of range (1 to 200)"),
    ],
)
def test_a_value_out_of_range_is_named(app: AppTest, query: dict[str, str], message: str) -> None:
    app.query_params.update(query)
    app.run()
    assert any(message in str(warning.value).replace("\\", "") for warning in app.warning)
