"""``workbench reproduce``: what it prints and keeps, its exit codes and its settings; on a made-up finding."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pandas as pd
import pytest

from workbench.errors import NotAvailable
from workbench.findings import Finding, Report, Study
from workbench.models import catalog
from workbench.runs.run import Run

#: Settings that have no option of their own.
MORE = {"task": "ioi", "percent": 2.0, "points": 10, "names": ["a"]}


class Model:
    provenance: ClassVar = {"name": "stub", "sha256": "0"}
    device, dtype, attention_implementation = "cpu", "torch.float32", "sdpa"


class Findings(dict):
    """In place of the registry."""

    names = dict.keys


@pytest.fixture
def finding(monkeypatch):
    """A made-up finding ``stub`` in the registry; set `outcome` to a verdict, or to an exception that it raises."""
    state = SimpleNamespace(outcome="supported", settings=None, model=None)

    def conduct(study: Study) -> Report:
        state.settings, state.model = dict(study.settings), study.model
        print("a library speaks")
        table = pd.DataFrame({"head": ["1.2"], "effect": [float("nan")]})
        study.progress(1, 2, "stages")
        study.progress.publish("heads", table=table)
        if isinstance(state.outcome, BaseException):
            raise state.outcome
        return Report(state.outcome, "One head of two.\n", tables={"heads": table})

    made = Finding(
        name="stub",
        title="A stub",
        question="Does it run?",
        claim="It does.",
        thresholds={},
        run=conduct,
        defaults={"n": 8, "seed": 0, "tasks": ["ioi"], **MORE},
    )
    simulated = replace(made, name="simulated", needs_model=False)
    monkeypatch.setattr("workbench.cli.reproduce.FINDINGS", Findings(stub=made, simulated=simulated))
    monkeypatch.setattr("workbench.load", lambda name, operators=None, progress=None: Model())
    return state


@pytest.mark.parametrize(
    ("verdict", "code"), [("supported", 0), ("undecided", 0), ("not judged", 0), ("not supported", 1)]
)
def test_reproduce_answers_by_the_verdict(run, finding, tmp_path, verdict, code):
    finding.outcome = verdict
    exit_code, out, err = run("reproduce", "stub", "--out", str(tmp_path))
    assert exit_code == code and "stages: 1 of 2" in err and "heads is ready" in err
    question, claim, summary, message = (
        out.index(w) for w in ("Does it run?", "It does.", "One head", f"  {verdict}\n")
    )
    assert question < claim < summary < message
    (folder,) = tmp_path.iterdir()
    assert str(folder) in out
    saved = Run.read(folder)
    assert saved.facts["verdict"] == verdict and saved.facts["model"] == Model.provenance
    assert saved.facts["config"] == {"model": catalog.DEFAULT, "n": 8, "seed": 0, "tasks": ["ioi"], **MORE}


def test_reproduce_as_json_is_one_object(run, finding, tmp_path):
    arguments = ["--n", "9", "--seed", "7", "--tasks", "ioi, surname-recall", "--model", "tiny", "--out", str(tmp_path)]
    code, out, err = run("reproduce", "stub", *arguments, "--json")
    document = json.loads(out)
    assert code == 0 and "Does it run?" in err and "a library speaks" in err
    assert (document["finding"], document["model"], document["verdict"]) == ("stub", "tiny", "supported")
    assert document["tables"] == {"heads": [{"head": "1.2", "effect": None}]}
    assert Run.read(document["run_dir"]).facts["config"]["model"] == "tiny"
    assert finding.settings == {"n": 9, "seed": 7, "tasks": ["ioi", "surname-recall"], **MORE}


def test_a_finding_that_needs_no_model_loads_none(run, finding, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.load", None)
    code, out, _ = run("reproduce", "simulated", "--out", str(tmp_path), "--json")
    document = json.loads(out)
    assert code == 0 and (document["model"], document["verdict"], finding.model) == (None, "supported", None)
    facts = Run.read(document["run_dir"]).facts
    assert "model" not in facts and "model" not in facts["config"] and facts["seed"] == 0
    code, out, _ = run("reproduce", "--from", document["run_dir"], "--out", str(tmp_path), "--json")
    assert code == 0 and json.loads(out)["agree"]
    for option in (["--model", "tiny"], ["--operator", "all=lightning"]):
        code, out, err = run("reproduce", "simulated", *option, "--out", str(tmp_path))
        assert (code, out) == (2, "") and option[0] in err and "simulated needs no model. Leave it out." in err


def test_what_was_not_run_says_so(run, finding, tmp_path):
    finding.outcome = NotAvailable("no network")
    code, out, err = run("reproduce", "stub", "--out", str(tmp_path), "--json")
    document = json.loads(out)
    assert code == 4 and "not run: no network" in err
    assert (document["verdict"], document["tables"], document["run_dir"]) == ("not run", {}, None)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_leaves_nothing(run, finding, tmp_path):
    finding.outcome = KeyboardInterrupt()
    code, _, err = run("reproduce", "stub", "--out", str(tmp_path))
    assert code == 130 and "interrupted" in err
    assert not list(tmp_path.iterdir())


def test_other_settings_are_given_by_name(run, finding, tmp_path):
    chosen = ["--set", "task=greater-than", "--set", "percent=5", "--set", "points=3", "--set", "names=b, c"]
    code, _, _ = run("reproduce", "stub", "--full", *chosen, "--out", str(tmp_path))
    assert code == 0
    assert {key: finding.settings[key] for key in MORE} == {
        "task": "greater-than", "percent": 5.0, "points": 3, "names": ["b", "c"],
    }  # fmt: skip
    assert isinstance(finding.settings["percent"], float) and isinstance(finding.settings["points"], int)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("points", "give NAME=VALUE"),
        ("point=3", "Did you mean 'points'"),
        ("points=2.5", "points=2.5: expected a whole number"),
        ("points=0", "above 0"),
        ("percent=nan", "above 0"),
        ("task=io", "Did you mean 'ioi'?"),
        ("n=3", "its own option, --n"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(run, finding, tmp_path, arguments, message):
    code, out, err = run("reproduce", "stub", "--set", arguments, "--out", str(tmp_path))
    assert (code, out) == (2, "") and message in err and len(err.strip().splitlines()) == 1
    assert finding.settings is None and not list(tmp_path.iterdir())
