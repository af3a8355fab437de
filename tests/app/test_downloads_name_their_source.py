"""Every download of every figure that the explorer shows names model, prompt, head and version, in all four formats."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import Home, models
from app.work import background
from tests.app.circuits import made_runs
from tests.app.heads import rendered
from tests.app.patching import driving
from tests.app.work.scripted_queue import ScriptedQueue
from workbench.cli import main
from workbench.core import Head

FORMATS = {"png", "svg", "csv", "json"}
PROMPT, OTHER = rendered.REPEATING, "Then, Mary and John went to the store"
Files = dict[str, bytes]


@pytest.fixture(autouse=True)
def queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[driving.InlineQueue]:
    inline = driving.InlineQueue()
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "available", lambda: ["tiny"])
    monkeypatch.setattr(Home, "job_queue", lambda: ScriptedQueue())
    monkeypatch.setattr(background, "job_queue", lambda: inline)
    yield inline
    st.cache_resource.clear()


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Files]:
    """Whatever the last run of a page offers for download, by file name; no file says where it was made."""
    offered: dict[str, Any] = {}
    original = st.download_button

    def download_button(label: str, data: Any, file_name: str, *args: Any, **kwargs: Any) -> Any:
        offered[file_name] = data
        return original(label, data, file_name, *args, **kwargs)

    class Offered(dict):
        def made(self) -> Files:
            made: Files = {}
            for name, source in offered.items():
                data: Any = source() if callable(source) else source
                made[name] = data.encode() if isinstance(data, str) else data
            for name, data in made.items():
                assert str(tmp_path).encode() not in data and str(Path.home()).encode() not in data, name
            offered.clear()
            return made

    monkeypatch.setattr(st, "download_button", download_button)
    yield Offered()


def described(name: str, data: bytes) -> str:
    """What a file says that it is of, as text."""
    if name.endswith(".png"):
        return str(Image.open(io.BytesIO(data)).text["Description"])  # pyright: ignore[reportAttributeAccessIssue] - of PNG files
    if name.endswith(".csv"):
        table = pd.read_csv(io.BytesIO(data), dtype=str)
        facts = table.loc[:, table.nunique(dropna=False) == 1].iloc[0]  # one value in all rows
        return " · ".join(map(str, facts))
    return data.decode()


def check(made: Files, charts: dict[str, list[str]]) -> None:
    """Of each chart the four formats name those words, and the version; every table names a model and the version."""
    assert {name.rpartition(".")[0] for name in made if name.endswith(".png")} == set(charts)
    for name in made:
        if name.endswith(".csv"):
            assert {"model", "workbench"} <= {
                column.removeprefix("first_") for column in pd.read_csv(io.BytesIO(made[name]))
            }
    for chart, words in charts.items():
        for ending in FORMATS:
            name = f"{chart}.{ending}"
            text = described(name, made[name])
            for word in (*words, wb.__version__):
                assert word in text, f"{name}: {word!r} is not in {text[:300]!r}"


def test_the_page_heads(files: Any) -> None:
    app = AppTest.from_string(rendered.SCRIPT, default_timeout=rendered.TIMEOUT)
    rendered.opened(app, prompt=PROMPT, head="1.3", operator="sliding-window")
    of = ["tiny", PROMPT, "1.3"]
    operator = {f"pattern-1.3-operator-{side}": of for side in ("own", "swapped")}
    made = files.made()
    check(made, {"heads-grid": of, "pattern-1.3": of, **operator})
    ranking = pd.read_csv(io.BytesIO(made["ranking-tiny-previous_token.csv"]), dtype={"head": str})
    assert set(ranking["model"].tolist()) == {"tiny"} and set(ranking["prompt"].tolist()) == {PROMPT}
    assert len(set(ranking["head"].tolist())) == 16


def test_the_patterns_of_all_heads(files: Any) -> None:
    app = AppTest.from_string(rendered.SCRIPT, default_timeout=rendered.TIMEOUT)
    rendered.opened(app, **{"prompt": PROMPT, "head": "1.3", "all-patterns": "yes"})
    of = ["tiny", PROMPT]
    check(files.made(), {"heads-grid": [*of, "1.3"], "pattern-1.3": [*of, "1.3"], "patterns": of})


def test_two_heads_side_by_side(files: Any) -> None:
    app = AppTest.from_string(rendered.SCRIPT, default_timeout=rendered.TIMEOUT)
    rendered.opened(app, prompt=PROMPT, head="1.3", compare="yes", differs="head", head2="0.7", score="similarity")
    one, two = ["tiny", PROMPT, "1.3"], ["tiny", PROMPT, "0.7"]
    grids = {"heads-grid": one, "heads-grid-second": two, "heads-grid-difference": [*one, *two]}
    patterns = {"pattern-first-1.3": one, "pattern-second-0.7": two, "pattern-difference": [*one, *two]}
    check(files.made(), {**grids, **patterns})


def test_the_page_patching(files: Any) -> None:
    app = driving.new_page()
    app.query_params.update({"prompt": OTHER, "n": "6", "set": "1.3"})
    driving.run_sweep(app)
    made = files.made()
    check(
        {name: data for name, data in made.items() if name != "circuit.json"},
        {"sweep": ["tiny", "ioi"], "next-token": ["tiny", OTHER]},
    )
    assert json.loads(made["circuit.json"])["model"] == "tiny"


@pytest.mark.parametrize("part", ["Circuit", "Overlap", "Cross-ablation", "Published"])
def test_the_page_circuits(part: str, files: Any) -> None:
    made_runs.make_run("circuit-reuse", made_runs.committed("circuit-reuse"))
    app = made_runs.page(**{"circuit-part": part}).run()
    assert not app.exception, app.exception
    made = files.made()
    circuits = {name: made.pop(name) for name in list(made) if name == "circuit-ioi.json"}
    assert len(circuits) == (part == "Circuit")
    charts = {name.rpartition(".")[0] for name in made}
    assert charts
    check(made, {chart: ["gpt2" if part == "Published" else made_runs.MODEL] for chart in charts})


def test_the_page_runs(files: Any) -> None:
    assert main(("reproduce", "head-ablation", "--model", "tiny", "--n", "6", "--no-cache")) in (0, 1)
    script = (
        "from app import url_state\nfrom app.pages import runs\nwith url_state.update_url():\n    runs.page.render()"
    )
    app = AppTest.from_string(script, default_timeout=250)
    app.query_params["part"] = "Figures"
    app.run()
    assert not app.exception, app.exception
    made = files.made()
    (name,) = [name for name in made if name.endswith(".png")]
    for ending in ("png", "csv", "json"):
        file = f"{name.removesuffix('.png')}.{ending}"
        text = described(file, made[file])
        assert "tiny" in text and wb.__version__ in text, (file, text[:300])


def test_pictures_and_figures_of_the_library() -> None:
    model = wb.load("tiny")
    view = wb.attention_view(model, OTHER, 1, 3)
    under = wb.operator_view(model, OTHER, 1, 3, "sliding-window(window=2)")
    sweep, scores = wb.sweep(model, wb.task("ioi", n=6)), wb.scores(model, random_baseline=False)
    of_head = f"tiny · head {Head(1, 3)} · “{OTHER}” · attention-workbench {wb.__version__}"
    of_task = f"tiny · ioi · attention-workbench {wb.__version__}"
    captions = [(view, of_head), *((chart, of_head) for chart in under.charts()), (sweep, of_task)]
    for each, caption in captions:
        assert each.picture().get_label() == caption and caption in texts(each.picture())
        assert each.figure().layout.meta["workbench"] == wb.__version__
        assert caption in {annotation.text for annotation in each.figure().layout.annotations}
    assert "tiny" in str(scores.picture("induction").get_label())
    swapped = wb.swap(model, {0: "lightning"})
    assert str(wb.attention_view(swapped, OTHER, 1, 3).picture().get_label()).startswith(
        "tiny with 0=lightning · head 1.3"
    )


def texts(picture: Any) -> str:
    """Everything that is written in a picture, on one line."""
    from matplotlib.text import Text

    return " ".join(" ".join(text.get_text().split()) for text in picture.findobj(Text))
