"""The circuit that is built on the page Patching: its URL, files, and faithfulness."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import upload_store
from app.circuits import from_run
from app.patching import circuit_builder
from tests.app.patching.driving import TIMEOUT, InlineQueue, new_page, rerun
from workbench.core import Head

SET_WIDGETS = """
from app import url_state
from app.patching import circuit_builder
from workbench.core import Head
class Model: n_layers, n_heads = 1, 80
with url_state.update_url():
    circuit_builder.set_widgets(Model, Head(0, 0), [])
"""


def upload(app: AppTest, data: bytes) -> AppTest:
    rerun(app).file_uploader(key="circuit-file").set_value(("c.json", data, "application/json"))
    return rerun(app)


def test_a_circuit_is_saved_and_loaded(app: AppTest) -> None:
    app.query_params.update({"set": "0.1:mover,1.2", "head": "1.2"})
    rerun(app).selectbox(key="head-role").set_value("inhibition")
    rerun(app)
    assert app.query_params["set"] == "0.1:mover,1.2:inhibition"
    roles = {Head(0, 1): "mover", Head(1, 2): "inhibition,:"}  # characters with a meaning in the URL are replaced
    saved = circuit_builder.to_circuit(roles, "tiny", "ioi")
    fresh = upload(new_page(), json.dumps(saved.json()).encode())
    assert rerun(fresh).query_params["set"] == "0.1:mover,1.2:inhibition" and not fresh.error
    assert "The set was loaded from c.json." in captions(fresh)
    fresh.button(key="flip").click()
    assert "The set was loaded from c.json and has been changed since." in captions(rerun(fresh))


@pytest.mark.parametrize(
    ("name", "visible"), [("bad.json", "bad.json"), ("../../<b>x</b>.json", "b>.json"), ("x" * 300, "x" * 40 + "…")]
)
def test_after_a_refused_circuit_the_set_does_not_pass_for_it(app: AppTest, name: str, visible: str) -> None:
    app.query_params.update({"set": "0.1"})
    rerun(app).file_uploader(key="circuit-file").set_value((name, b"[1]", "application/json"))
    rerun(app)
    for _ in range(2):  # as long as the file stands in the uploader
        (error,) = [error.value.replace("\\", "") for error in app.error]
        assert error.startswith(visible) and error.endswith("The set is as it was.") and "format" in error
        assert app.query_params["set"] == "0.1" and "was loaded from" not in captions(app)
        rerun(app)
    app.file_uploader(key="circuit-file").set_value(None)
    assert not rerun(app).error


def captions(app: AppTest) -> str:
    return " ".join(caption.value.replace("\\", "") for caption in app.caption)


def test_a_circuit_of_another_model_says_what_is_left_out(app: AppTest) -> None:
    other = circuit_builder.to_circuit({Head(0, 1): "mover", Head(99, 0): "mover"}, "large", "ioi")
    upload(app, json.dumps(other.json()).encode())
    assert app.query_params["set"] == "0.1:mover" and not app.error
    note = app.warning[0].value.replace("\\", "")
    assert "circuit of large" in note and "does not have 99.0" in note


def test_a_circuit_without_heads_of_this_model_leaves_the_set(app: AppTest) -> None:
    app.query_params.update({"set": "0.1"})
    upload(app, wb.Circuit("ioi", "", ((Head(99, 4), "mover"),)).to_bytes())
    assert "none of this circuit" in app.error[0].value and app.query_params["set"] == "0.1"


def test_a_url_with_an_invalid_set_is_named(app: AppTest) -> None:
    app.query_params["set"] = "0.1,<b>nonsense</b>"
    (warning,) = [warning.value.replace("\\", "") for warning in rerun(app).warning]
    assert "set=<b>nonsense</b>, which is not a set of heads" in warning and app.query_params["set"] == "0.1"
    assert not app.error and not rerun(app).warning


def test_heads_in_the_url_that_the_model_lacks_are_named(app: AppTest) -> None:
    app.query_params["set"] = "0.1,99.0"
    (warning,) = [warning.value.replace("\\", "") for warning in rerun(app).warning]
    assert "set=99.0, which this model does not have" in warning and app.query_params["set"] == "0.1"
    assert not rerun(app).warning


def test_heads_are_text_so_that_0_1_and_0_10_differ() -> None:
    app = AppTest.from_string(SET_WIDGETS, default_timeout=TIMEOUT)
    app.query_params["set"] = "0.1,0.10"
    assert rerun(app).query_params["set"] == "0.1,0.10"
    assert app.multiselect(key="heads-picked").value == ["0.1", "0.10"]


def test_a_large_set_goes_into_the_url_by_its_hash() -> None:
    long = ",".join(f"0.{i}:a role with a rather long name" for i in range(80))
    app = AppTest.from_string(SET_WIDGETS, default_timeout=TIMEOUT)
    app.query_params["set"] = long
    rerun(app)
    assert "set" not in app.query_params and upload_store.load(app.query_params["set-input"]).decode() == long


def test_a_circuits_faithfulness_is_a_run_of_the_finding(app: AppTest, queue: InlineQueue) -> None:
    app.query_params.update({"set": "0.1,1.2"})
    rerun(app).button(key="start-finding").click()
    rerun(rerun(app))
    request = queue.requests[-1]
    assert request["finding"] == "faithfulness" and request["settings"]["n_circuit"] >= 6
    job = queue.jobs[next(iter(queue.jobs))]
    assert job.state == "done", job.error
    run = wb.Run.read(job.path)
    assert Path(job.path).parent == Path("runs").resolve()
    assert any(run.summary == block.value for block in app.code)
    circuit = wb.Circuit.from_run(run.path, "ioi")
    assert "circuit from a file" in from_run.graph_of_run(run, circuit).subtitle
    queue.jobs = {key: replace(job, state="stopped") for key, job in queue.jobs.items()}
    assert any("Stopped before anything was computed" in info.value for info in rerun(app).info)
