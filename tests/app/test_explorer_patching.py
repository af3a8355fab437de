"""The page Patching: its sweeps, edits by hand and circuits, with the worker's jobs done at once in this process."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import chosen, inputs, models
from app.circuits import circuit_read
from app.pages import patching
from app.patching import asked, by_hand, forced, head_set, sweep_shown, sweeping
from app.patching.as_code import code
from app.work import background, sweeps
from app.work.jobs import Job
from app.work.worker import Worker
from tests.oracle import plain_hooks
from workbench.core import Edit, Head

PAGE = """
import streamlit as st
from app import chosen, link
from app.pages import patching
with link.written():
    chosen.widgets(["tiny"])
    patching.page.render()
"""
TEXT = chosen.FIRST


class AtOnce:
    """A queue whose jobs are done when they are submitted, by the worker's own code."""

    def __init__(self) -> None:
        self.done: dict[str, Job] = {}
        self.asked: list[Mapping[str, Any]] = []

    def with_key(self, key: str) -> Job | None:
        return self.done.get(key)

    def submit(self, key: str, job: Mapping[str, Any]) -> Job:
        out = io.StringIO()
        Worker(out).do({**job, "id": 1, "key": key})
        self.asked.append(job)
        last = json.loads(out.getvalue().splitlines()[-1])
        self.done[key] = Job(1, key, last["state"], file=last.get("file", ""), why=last.get("why", ""))
        return self.done[key]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> AtOnce:
    made = AtOnce()
    for module in (sweeping, patching, background):
        monkeypatch.setattr(module, "jobs", lambda: made)
    return made


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, queue: AtOnce) -> AppTest:
    monkeypatch.setattr(models, "available", lambda: ["tiny"])
    monkeypatch.setattr(inputs, "folder", lambda: tmp_path / "explorer" / "inputs")
    monkeypatch.chdir(tmp_path)
    started = AppTest.from_string(PAGE, default_timeout=120)
    started.query_params["n"] = "6"
    return started


def ran(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception, app.exception
    return app


def swept(app: AppTest) -> AppTest:
    ran(app).button(key="run-sweep").click()
    return ran(ran(app))


def strongest(app: AppTest) -> pd.DataFrame:
    return next(frame.value for frame in app.dataframe if "cell" in frame.value)


def test_the_page_sweeps_and_shows_the_strongest_with_their_intervals(app: AppTest) -> None:
    shown = strongest(swept(app))
    wanted = wb.sweep(wb.load("tiny"), wb.task("ioi", n=6, seed=0), direction="denoise", cache=False)
    best = wanted.top(8)
    assert shown["cell"].tolist() == [str(head) for head in best]
    assert wanted.effect is not None and wanted.effect_low is not None
    np.testing.assert_allclose(shown["effect"], [wanted.effect[h.layer, h.index] for h in best], atol=1e-5)
    np.testing.assert_allclose(shown["low"], [wanted.effect_low[h.layer, h.index] for h in best], atol=1e-5)


def test_a_link_shows_the_finished_sweep_at_once(app: AppTest, queue: AtOnce) -> None:
    swept(app)
    again = AppTest.from_string(PAGE, default_timeout=120)
    again.query_params.update(app.query_params)
    assert strongest(ran(again)).equals(strongest(app)) and len(queue.asked) == 1


def test_positions_and_residual_sites_are_swept(app: AppTest) -> None:
    app.query_params.update({"by": "head × position", "n": "4"})
    cells = strongest(swept(app))["cell"]
    assert (
        cells.str.fullmatch(r"\d\.\d at \w+").all() and app.selectbox(key="at").options[0] == "largest over positions"
    )
    app.selectbox(key="site").set_value("resid_pre")
    assert strongest(swept(app))["cell"].str.fullmatch(r"layer \d").all()


def test_a_key_value_head_is_named_as_one_and_a_click_chooses_a_head_that_reads_it(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[dict[str, Any]] = []
    monkeypatch.setattr(sweep_shown, "head_grid", lambda values, **given: drawn.append({"values": values, **given}))
    picked: list[Head] = []
    monkeypatch.setattr(chosen, "choose", picked.append)
    app.query_params.update({"site": "v", "head": "1.3", "n": "3"})
    swept(app)
    model, last = wb.load("tiny"), drawn[-1]
    share = model.n_heads // model.n_kv_heads
    assert share > 1 and last["values"].shape == (model.n_layers, model.n_kv_heads) and last["shared"]
    assert last["selected"] == Head(1, 3 // share)
    last["on_pick"](Head(1, 1))
    assert picked == [Head(1, share)]
    assert f"read by heads 1.{share} to 1.{2 * share - 1}" in last["texts"][1, 1]


def test_a_circuit_of_another_model_says_what_is_left_out(app: AppTest) -> None:
    other = head_set.circuit({Head(0, 1): "mover", Head(99, 0): "mover"}, "large", "ioi")
    data = json.dumps(other.json()).encode()
    ran(app).file_uploader(key="circuit-file").set_value(("c.json", data, "application/json"))
    ran(app)
    assert app.query_params["set"] == "0.1:mover" and not app.error
    said = app.warning[0].value.replace("\\", "")
    assert "found in large" in said and "no heads 99.0" in said


def test_a_sweep_that_fails_says_why_and_the_page_goes_on(app: AppTest) -> None:
    app.query_params.update({"n": "1", "edit": "resample"})  # from which other prompt?
    ran(app).button(key="run-sweep").click()
    ran(ran(app))
    assert len(app.error) == 1 and "needs two prompts" in app.error[0].value and "\n" not in app.error[0].value
    app.selectbox(key="edit").set_value("zero")
    assert len(strongest(swept(app))) == 8 and not app.error


def test_heads_in_the_link_are_ablated_as_plain_hooks_ablate_them(app: AppTest) -> None:
    app.query_params.update({"set": "0.1:mover,1.2"})
    ran(app)
    assert app.multiselect(key="heads-picked").value == ["0.1", "1.2"]
    model = wb.load("tiny")
    where = by_hand.Place(tuple(model.to_tokens(TEXT)[0].tolist()))
    found = by_hand.change("tiny", where, by_hand.edits([Head(0, 1), Head(1, 2)], "zero", False, []))

    def without(index: int) -> Any:
        def change(z: torch.Tensor) -> torch.Tensor:
            z = z.clone()
            z.unflatten(-1, (model.n_heads, -1))[..., index, :] = 0
            return z

        return change

    hooks = [(plain_hooks.output_projection(model.hf, "llama", i), "input", without(j)) for i, j in ((0, 1), (1, 2))]
    ids = torch.tensor([where.ids])
    with torch.no_grad(), plain_hooks.edited(*hooks):  # pyright: ignore[reportArgumentType]
        wanted = model.hf(ids).logits[0, -1]
    with torch.no_grad():
        before = model.hf(ids).logits[0, -1]
    torch.testing.assert_close(found.after, wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.before, before, atol=1e-5, rtol=0)
    p, q = before.softmax(-1), wanted.softmax(-1)
    assert found.kl == pytest.approx(float((p * (p / q).log()).sum()), abs=1e-4)
    caption = next(text.value for text in app.caption if "KL" in text.value)
    assert f"{found.kl:.3g} nats" in caption


def test_a_pair_is_patched_from_its_other_run_and_its_logit_difference_told(app: AppTest) -> None:
    app.query_params.update({"on": "2", "kind-by-hand": "patch", "set": "1.0,1.1,1.2,1.3"})
    caption = next(text.value for text in ran(app).caption if "KL" in text.value)
    prompts = wb.task("ioi", n=6, seed=0)
    heads = [Head(1, j) for j in range(4)]
    wanted = wb.sweep_sets(wb.load("tiny"), prompts, {"set": heads}, edit="patch", base="corrupt", cache=False)
    assert f"{wanted.base[1]:.3f} before, {wanted.values[0, 1]:.3f} after" in caption


def test_a_row_is_forced_onto_tokens(app: AppTest) -> None:
    app.query_params["head"] = "1.2"
    ran(app).multiselect(key="force-to").set_value([1, 3])
    ran(app).button(key="force-it").click()
    last = len(wb.load("tiny").to_tokens(TEXT)[0]) - 1
    assert ran(app).query_params["force"] == f"1.2@{last}>1+3"
    rows = forced.read(app.query_params["force"])
    assert [row.edit() for row in rows] == [
        Edit("pattern", 1, 2, position=last, kind="pattern", attend_to=(1, 3)),
    ]
    assert any("KL" in text.value for text in app.caption)
    app.multiselect(key="forced-rows").set_value([])
    assert "force" not in ran(app).query_params


@pytest.mark.parametrize("text", ["9", "1.2@3>9>1", "<script>", "1.2@1>3"])
def test_a_forced_row_that_is_none_is_left_out(app: AppTest, text: str) -> None:
    app.query_params["force"] = f"{text},1.0@5>1"
    assert ran(app).query_params["force"] == "1.0@5>1"


def test_the_code_gives_what_the_page_shows(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    app.query_params.update({"set": "0.1,1.2", "force": "1.0@5>1", "on": "1", "kind-by-hand": "mean"})
    swept(app)
    text = app.code[0].value
    names: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()):
        exec(text, names)  # noqa: S102
    assert strongest(app)["cell"].tolist() == [str(head) for head in names["sweep"].top(8)]
    shown = next(caption.value for caption in app.caption if "KL" in caption.value)
    told = re.search(r"pair: (-?[\d.]+) before, (-?[\d.]+) after", shown)
    assert told is not None
    assert float(told[2]) == pytest.approx(float(names["out"].scores()[0]), abs=1e-3)


def test_the_code_of_own_pairs_and_of_a_prompt(app: AppTest) -> None:
    name = inputs.keep(b'{"clean": "Mary and John", "corrupt": "Mary and Paul", "answer": " Mary", "wrong": " John"}\n')
    text = code(
        "tiny", {"pairs": name}, {"site": "z"}, by_hand.Place((1, 2)), 'Mary\'s "x"', [Edit("z", 0, kind="zero")]
    )
    assert "clean=['Mary and John']" in text and "options" not in text
    assert "wb.run(model, 'Mary\\'s \"x\"', edits, mean_over='positions')" in text


def test_own_pairs_are_kept_by_their_hash_and_swept(app: AppTest) -> None:
    app.query_params.update({"source": asked.OWN, "set": "1.2"})
    swept(app)
    name = app.query_params["pairs"]
    assert inputs.kept(name).decode().count("\n") == 2 and len(strongest(app)) == 8
    assert "drawn anew" in " ".join(text.value for text in app.caption)  # there is no faithfulness on own pairs
    assert "faithfulness" not in [button.key for button in app.button]


@pytest.mark.parametrize(
    ("file", "data", "said"),
    [
        ("my.jsonl", b'{"clean": "a"}\n', "line 1"),
        ("my.jsonl", b"\xff\xfe", "UTF-8"),
        ("my.csv", b"clean,corrupt\n", "my.csv"),
    ],
)
def test_a_pair_file_that_is_none_is_refused_in_one_line(app: AppTest, file: str, data: bytes, said: str) -> None:
    app.query_params["source"] = asked.OWN
    ran(app).file_uploader(key="pairs-file").set_value((file, data, "text/plain"))
    ran(app)
    assert len(app.error) == 1 and "\n" not in app.error[0].value
    assert said in app.error[0].value.replace("\\", "")


def test_a_pair_files_pairs_are_taken_with_their_positions(app: AppTest) -> None:
    rows = {"clean": "Mary and John", "corrupt": "Mary and Paul", "answer": " Mary", "wrong": " John"}
    rows["positions"] = {"S": [9, 13]}  # type: ignore[assignment]
    app.query_params["source"] = asked.OWN
    ran(app).file_uploader(key="pairs-file").set_value(("my.jsonl", json.dumps(rows).encode(), "text/plain"))
    name = ran(ran(app)).query_params["pairs"]
    assert sweeps.prompts({"pairs": name}).positions == ("S", "end")


def test_a_circuit_is_saved_and_loaded(app: AppTest) -> None:
    app.query_params.update({"set": "0.1:mover,1.2", "head": "1.2"})
    ran(app).selectbox(key="head-role").set_value("inhibition")
    ran(app)
    assert app.query_params["set"] == "0.1:mover,1.2:inhibition"
    saved = head_set.circuit({Head(0, 1): "mover", Head(1, 2): "inhibition,:"}, "tiny", "ioi")  # the link has its own
    fresh = AppTest.from_string(PAGE, default_timeout=120)
    data = json.dumps(saved.json()).encode()
    ran(fresh).file_uploader(key="circuit-file").set_value(("c.json", data, "application/json"))
    assert ran(ran(fresh)).query_params["set"] == "0.1:mover,1.2:inhibition" and not fresh.error
    fresh.file_uploader(key="circuit-file").set_value(("c.json", b"[1]", "application/json"))
    assert "format" in ran(fresh).error[0].value


def test_a_link_to_a_set_that_is_none_says_so(app: AppTest) -> None:
    app.query_params["set"] = "<b>nonsense</b>"
    assert "names a set of heads that is none" in ran(app).error[0].value


def test_a_large_set_goes_into_the_link_by_its_hash() -> None:
    long = ",".join(f"0.{i}:a role with a rather long name" for i in range(80))
    source = """
from app import link
from app.patching import head_set
from workbench.core import Head
class Model: n_layers, n_heads = 1, 80
with link.written():
    head_set.widgets(Model, Head(0, 0), [])
"""
    app = AppTest.from_string(source, default_timeout=60)
    app.query_params["set"] = long
    ran(app)
    assert "set" not in app.query_params and inputs.kept(app.query_params["set-input"]).decode() == long


def test_the_next_tokens_data_say_of_what_they_are(app: AppTest) -> None:
    model, edits = wb.load("tiny"), (Edit("z", 0, 1, kind="zero"), Edit("z", 1, 2, kind="zero"))
    where = by_hand.Place(tuple(model.to_tokens(TEXT)[0].tolist()))
    said = json.loads(by_hand.shown(by_hand.change("tiny", where, edits), model, where, edits, "2 heads").json())
    assert said["model"] == "tiny" and said["prompt"] == TEXT
    assert [(edit["layer"], edit["head"], edit["kind"]) for edit in said["edits"]] == [(0, 1, "zero"), (1, 2, "zero")]


def test_a_forced_row_of_an_ablated_head_is_without_effect() -> None:
    rows = forced.read("1.2@5>1,0.1@3>0")
    heads = [Head(1, 2), Head(0, 1)]
    assert forced.without_effect(rows, heads, True, 5) == ["0.1", "1.2"]
    assert forced.without_effect(rows, heads, False, 5) == ["1.2"] and forced.without_effect(rows, [], True, 5) == []


def test_a_circuit_of_another_models_heads_leaves_the_set(app: AppTest) -> None:
    app.query_params.update({"set": "0.1"})
    data = wb.Circuit("ioi", "", ((Head(99, 4), "mover"),)).to_bytes()
    ran(app).file_uploader(key="circuit-file").set_value(("c.json", data, "application/json"))
    assert "none of this circuit" in ran(app).error[0].value and app.query_params["set"] == "0.1"


def test_a_circuits_faithfulness_is_a_run_of_the_finding(app: AppTest, queue: AtOnce) -> None:
    app.query_params.update({"set": "0.1,1.2"})
    ran(app).button(key="faithfulness").click()
    ran(ran(app))
    job = queue.asked[-1]
    assert job["finding"] == "faithfulness" and job["settings"]["n_circuit"] >= 6
    done = queue.done[next(iter(queue.done))]
    assert done.state == "done", done.why
    run = wb.Run.read(done.file)
    assert Path(done.file).parent == Path("runs").resolve()
    assert any(run.summary == block.value for block in app.code)
    circuit = wb.Circuit.from_run(run.path, "ioi")
    assert "a given circuit" in circuit_read.of_run(run, circuit).subtitle
    queue.done = {key: replace(job, state="stopped") for key, job in queue.done.items()}
    assert any("Stopped before it ended" in said.value for said in ran(app).info)
