"""Models with swapped operators in the explorer: the side bar loads them, every result is theirs, and the worker
computes with them."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import models, sidebar
from app.heads import sweep_effect
from app.heads.prompt_record import PromptRecord
from app.patching.script import python_script
from app.swapped_names import job_model, parse_operators, split_name, swapped_name, write_operators
from app.work.result_files import SWEEPS, result_key, result_path
from app.work.worker import Worker
from tests.app.heads.rendered import Queue, grids, patterns, values
from workbench.core import full_name
from workbench.errors import UnknownName, UsageError
from workbench.findings.study import Study
from workbench.plotting import style
from workbench.runs.directory import RunDirectory

TEXT = "0=lightning; 1=sliding-window(window=3)"
NAME = f"tiny with {TEXT}"
PROMPTS = {"task": "ioi", "n": 3, "seed": 0}


def swapped() -> Any:
    return wb.swap(wb.load("tiny"), {0: "lightning", 1: "sliding-window(window=3)"}, cache=False)


def executed(job: dict[str, Any]) -> Path:
    """What the worker's own code leaves for a job."""
    out = io.StringIO()
    Worker(out).execute({"id": 1, **job})
    last = json.loads(out.getvalue().splitlines()[-1])
    assert last["state"] == "done", last
    return Path(last["path"])


def test_names_hold_operators_and_are_split_again() -> None:
    assert swapped_name("tiny", " 0 = lightning ;1=sliding-window( window=3 );") == NAME
    assert split_name(NAME) == ("tiny", TEXT) and split_name("a with b") == ("a with b", "")
    assert swapped_name("tiny", "") == "tiny" and job_model("tiny") == {"model": "tiny"}
    assert parse_operators("0-1, 3=lightning(norm=False)") == {"0-1,3": "lightning(norm=False)"}
    assert write_operators(parse_operators(TEXT)) == TEXT
    assert full_name("tiny", swapped().operators) == NAME
    assert full_name("a", {i: "softmax" for i in (0, 1, 2, 5)}) == "a with 0-2,5=softmax" and full_name("a", {}) == "a"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("lightning", UsageError, "expected LAYERS=OPERATOR"),
        ("x=lightning", UsageError, "expected LAYERS=OPERATOR"),
        ("0=lightning; 0=softmax", UsageError, "two operators"),
        ("0=lightnin", UnknownName, "Did you mean 'lightning'"),
        ("0=sliding-window(window=0)", UsageError, "at least 1"),
    ],
)
def test_operators_that_cannot_be_read_are_refused(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as refusal:
        parse_operators(text)
    assert "\n" not in str(refusal.value)


def test_the_heads_page_shows_the_swapped_model(app: AppTest) -> None:
    app.query_params.update({"operators": TEXT, "head": "1.3", "score": "direct_logit_attribution"})
    app.run()
    assert not app.exception and not app.error
    model = swapped()
    record = PromptRecord(model, model.to_tokens(sidebar.DEFAULT_PROMPT)[0].tolist(), cache=False)
    np.testing.assert_allclose(values(grids(app)["grid"]), record.scores["direct_logit_attribution"], atol=1e-4)
    assert models.load(NAME).operators == model.operators and models.load("tiny").operators == {}
    shared = {x.data_ptr() for x in models.load("tiny").parameters()}
    assert {x.data_ptr() for x in models.load(NAME).parameters()} <= shared
    assert "pattern" in patterns(app) and app.query_params["operators"] == TEXT


def test_wrong_operators_are_one_line_and_the_side_bar_stays(app: AppTest) -> None:
    app.query_params.update({"operators": "9=lightning"})
    app.run()
    assert not app.exception and "layer" in app.error[0].value and "\n" not in app.error[0].value
    app.text_input(key=sidebar.OPERATORS).set_value("0=softmax").run()
    assert not app.error and app.query_params["operators"] == "0=softmax"


def test_a_head_without_a_pattern_says_so_and_the_rest_of_the_page_stays(app: AppTest) -> None:
    app.query_params.update({"operators": "0=mlp", "head": "0.3", "score": "direct_logit_attribution"})
    app.run()
    assert not app.exception and not app.error
    message = "Head 0.3 has no pattern: mlp has no matrix a head."
    assert message in [caption.value.replace("\\", "") for caption in app.caption]
    model = wb.swap(wb.load("tiny"), {0: "mlp"}, cache=False)
    record = PromptRecord(model, model.to_tokens(sidebar.DEFAULT_PROMPT)[0].tolist(), cache=False)
    np.testing.assert_allclose(values(grids(app)["grid"]), record.scores["direct_logit_attribution"], atol=1e-4)
    assert np.isnan(record.scores["locality"][0]).all() and np.isfinite(record.scores["locality"][1]).all()


def test_jobs_of_the_page_name_the_operators(app: AppTest, queue: Queue) -> None:
    app.query_params.update({"operators": TEXT, "score": "copy_score"})
    app.run()
    ((key, request),) = queue.requests
    assert (request["model"], request["operators"]) == ("tiny", TEXT)
    app.text_input(key=sidebar.OPERATORS).set_value("").run()
    (_, (own_key, own_request)) = queue.requests
    assert own_key != key and "operators" not in own_request


def test_a_job_on_a_swapped_model_gives_its_numbers_and_has_its_own_file() -> None:
    model, own = swapped(), wb.load("tiny")
    keys = [result_key(SWEEPS, name, m, PROMPTS, {}) for name, m in ((NAME, model), ("tiny", own), (NAME, own))]
    assert len(set(keys)) == 3
    requests = [{"kind": SWEEPS, "prompts": PROMPTS, "arguments": {}, "key": key} for key in keys]
    path = executed({**job_model(NAME), **requests[0]})
    assert path == result_path(SWEEPS, keys[0]) != executed({**job_model("tiny"), **requests[1]})
    sweep, task = wb.Sweep.load(path), wb.task("ioi", n=3, seed=0)
    np.testing.assert_allclose(sweep.values, wb.sweep(model, task, cache=False).values, rtol=1e-4, atol=1e-4)
    plain = wb.sweep(own, task, cache=False)
    assert np.abs(sweep.values - plain.values).max() > 0.1
    titles = [style.chart_text(each, "mean_delta").title for each in (sweep, plain)]
    assert titles == [f"{NAME} · ioi · n = 3", "tiny · ioi · n = 3"]


def test_scores_of_the_worker_are_the_swapped_models() -> None:
    job = {"kind": "task_scores", "prompts": PROMPTS, "key": "a" * 64, **job_model(NAME)}
    scores = type(wb.scores_on(wb.load("tiny"), wb.task("ioi", n=1), cache=False)).load(executed(job))
    expected = wb.scores_on(swapped(), wb.task("ioi", n=3, seed=0), cache=False)
    name = "direct_logit_attribution"
    np.testing.assert_allclose(scores[name], expected[name], atol=1e-4)


def test_one_worker_keeps_models_and_their_operators_apart() -> None:
    worker, operators = Worker(io.StringIO()), ("0=lightning", "0=softmax", "all=lightning")
    jobs: list[dict[str, Any]] = [{"model": "tiny", "operators": text, "id": 1} for text in operators]

    def silent(*_: Any) -> None:
        pass

    loaded = [worker.model(job, silent) for job in ({"model": "tiny", "id": 1}, *jobs)]
    assert [len(model.operators) for model in loaded] == [0, 1, 1, 2]
    assert worker.model(jobs[-1], silent) is loaded[-1] and worker.model({"model": "tiny"}, silent) is loaded[0]
    assert len(worker._models) == 1 and len(worker._swapped) == 2


def test_the_newest_sweep_is_that_of_the_same_operators() -> None:
    model, own = swapped(), wb.load("tiny")
    key = result_key(SWEEPS, NAME, model, PROMPTS, {})
    executed({"kind": SWEEPS, "prompts": PROMPTS, "arguments": {}, "key": key, **job_model(NAME)})
    assert sweep_effect._newest_on_disk(model) == key and sweep_effect._newest_on_disk(own) is None
    with pytest.raises(UsageError, match="another model"):
        sweep_effect.score(own, key)
    assert np.isfinite(sweep_effect.score(model, key).values).all()


def test_a_finding_on_a_swapped_model_is_named_with_its_operators(tmp_path: Path) -> None:
    settings = {"task": "ioi", "n": 4, "seed": 0}
    job = {"kind": "finding", "finding": "head-ablation", "settings": settings, "out": str(tmp_path / "runs")}
    run = wb.Run.read(executed({**job, **job_model(NAME), "key": "k"}))
    assert run.facts["config"]["model"] == "tiny"  # as the command line writes it, so that it can be repeated
    assert run.facts["config"]["operators"] == {"0": "lightning", "1": "sliding-window(window=3)"}
    assert run.facts["model"]["operators"] == {"0": "lightning", "1": "sliding-window(window=3)"}
    study: Any = Study
    assert study(None, swapped(), {}, None).model_name == NAME  # in its patterns


def test_a_circuit_of_a_run_names_the_operators(tmp_path: Path) -> None:
    row = {"task": "ioi", "stage": "logits", "layer": 0, "index": 1, "head": "0.1", "role": "mover"}
    with RunDirectory.create(tmp_path, "ioi-circuit", {"model": NAME}) as run:
        run.record(model=swapped().provenance)
        run.add_report(wb.Report("undecided", "n = 2", {"heads": pd.DataFrame([row])}, {}, {}))
    assert run.path is not None and wb.Circuit.from_run(run.path).model == NAME


def test_the_script_swaps_the_operators() -> None:
    from app.patching.manual_edits import EditedPrompt

    script = python_script(NAME, PROMPTS, {"site": "z"}, EditedPrompt(()), "", ())
    namespace: dict[str, Any] = {}
    exec(script, namespace)  # noqa: S102 - the script that the page shows
    assert namespace["model"].operators == swapped().operators


def test_what_a_swap_drops_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = swapped()

    def swap(_: Any, operators: Any) -> Any:
        warnings.warn("lightning drops the window of layer 0.", stacklevel=2)
        warnings.warn("something else", stacklevel=2)
        return model

    monkeypatch.setattr(wb, "swap", swap)
    models.load("tiny with 0=lightning")
    assert models.swap_notes("tiny with 0=lightning") == ["lightning drops the window of layer 0."]
    assert models.swap_notes("tiny") == []
