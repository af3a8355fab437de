"""Every download of every figure that the explorer shows names what it is of, in all four formats: model, prompt, head,
edits and version; and every table is read by pandas as it was written."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest

import workbench as wb
from app.heads import asking
from tests.app.circuits import made_runs
from tests.app.heads import rendered
from tests.app.patching import driving
from workbench.cli import main
from workbench.core import Head
from workbench.io.tables import HEAD_COLUMNS

FORMATS = {"png", "svg", "csv", "json"}
#: What figures and pages show instead of a hyphen, a leading space, a line break and a tab.
MINUS = "\N{MINUS SIGN}"
MARKS = f"{MINUS}·⏎⇥"
PROMPT, OTHER = rendered.REPEATING, "Then, Mary and John went to the store"
Files = dict[str, bytes]


@pytest.fixture(autouse=True)
def queue(inline_queue: driving.InlineQueue) -> driving.InlineQueue:
    return inline_queue


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
                if name.endswith(".csv"):
                    check_table(name, data)
                if name.endswith(".json"):
                    check_fields(name, json.loads(data))
            offered.clear()
            return made

    monkeypatch.setattr(st, "download_button", download_button)
    yield Offered()


def check_table(name: str, data: bytes) -> None:
    """With no options pandas reads whole numbers as whole numbers and the names of heads as texts; no text has marks
    that are for people."""
    table, texts = pd.read_csv(io.BytesIO(data)), pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
    for column in texts:
        values = [value for value in texts[column] if value]
        if values and all(re.fullmatch(r"-?\d+", value) for value in values):
            assert pd.api.types.is_integer_dtype(table[column]), (name, column)
        if re.sub("^(first|second)_", "", column) in HEAD_COLUMNS:
            assert not pd.api.types.is_numeric_dtype(table[column]), (name, column)
            assert [str(value) for value in table[column].dropna()] == values, (name, column)
    assert "index" not in table, name
    if "head_index" in table and "head" in table:
        names = [re.sub(r"^L(\d+)H(\d+)$", r"\1.\2", str(head)).replace("kv", "") for head in table["head"]]
        assert names == [
            f"{layer}.{index}" for layer, index in zip(table["layer"], table["head_index"], strict=True)
        ], name
    marks = set(MARKS) & set(data.decode())
    assert not marks, (name, marks, [line for line in data.decode().splitlines() if set(MARKS) & set(line)][:2])


def check_fields(name: str, fields: Any) -> None:
    """No text has a minus sign that no program reads, and no label has marks for white space."""
    assert MINUS not in json.dumps(fields, ensure_ascii=False), name
    labels = json.dumps(fields.get("labels"), ensure_ascii=False) if isinstance(fields, dict) else ""
    assert not set(MARKS) & set(labels), (name, labels[:300])


def described(name: str, data: bytes) -> str:
    """What a file says that it is of, as text."""
    if name.endswith(".png"):
        return str(Image.open(io.BytesIO(data)).text["Description"])  # pyright: ignore[reportAttributeAccessIssue] - of PNG files
    if name.endswith(".csv"):
        table = pd.read_csv(io.BytesIO(data), dtype=str)
        facts = table.loc[:, table.nunique(dropna=False) == 1].iloc[0]  # one value in all rows
        return re.sub(r"\bL(\d+)H(\d+)\b", r"\1.\2", " · ".join(map(str, facts)))
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
    check(made, {"heads-previous_token": of[:2], "pattern-1.3": of, **operator})
    ranking = pd.read_csv(io.BytesIO(made["ranking-tiny-previous_token.csv"]), dtype={"head": str})
    assert set(ranking["model"].tolist()) == {"tiny"} and set(ranking["prompt"].tolist()) == {PROMPT}
    assert len(set(ranking["head"].tolist())) == 16


def test_the_patterns_of_all_heads(files: Any) -> None:
    app = AppTest.from_string(rendered.SCRIPT, default_timeout=rendered.TIMEOUT)
    rendered.opened(app, **{"prompt": PROMPT, "head": "1.3", "all-patterns": "yes"})
    of = ["tiny", PROMPT]
    check(files.made(), {"heads-previous_token": of, "pattern-1.3": [*of, "1.3"], "patterns": of})


def test_two_heads_side_by_side(files: Any) -> None:
    app = AppTest.from_string(rendered.SCRIPT, default_timeout=rendered.TIMEOUT)
    rendered.opened(app, prompt=PROMPT, head="1.3", compare="yes", differs="head", head2="0.7", score="similarity")
    one, two = ["tiny", PROMPT, "1.3"], ["tiny", PROMPT, "0.7"]
    grids = {f"heads-similarity-{side}": of for side, of in (("first", one), ("second", two))}
    grids |= {"heads-similarity-difference": [*one, *two]}
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


def test_an_effect_of_edits_names_them(files: Any) -> None:
    app = driving.new_page()
    app.query_params.update({"n": "6", "set": "1.3,0.2", "on": "2", "run-by-hand": "corrupt run", "force": "1.4@3>1+2"})
    app.query_params.update({"kind-by-hand": "patch", "at-by-hand": "the last position"})
    driving.rerun(app)
    clean, corrupt = wb.task("ioi", n=6).inputs(wb.load("tiny").tokenizer).texts[1]
    edits = [
        f"z of heads 1.3, 0.2 patched from the clean run “{clean}” at the last position",
        "attention of head 1.4 at position 3 forced onto 1, 2",
    ]
    made = files.made()
    check({name: data for name, data in made.items() if name != "circuit.json"}, {"next-token": ["tiny", corrupt]})
    table = pd.read_csv(io.BytesIO(made["next-token.csv"]))
    assert set(table["edited"]) == {"; ".join(edits)} == {json.loads(made["next-token.json"])["edited"]}
    assert set(table["task"]) == {"ioi, pair 2, corrupt run"} and {"name", "after", "before"} <= set(table)
    assert all(word in " ".join(described("next-token.png", made["next-token.png"]).split()) for word in edits)
    tokenizer = wb.load("tiny").tokenizer
    spaced = [name for name in table["name"] if str(name).startswith(" ")]
    assert spaced and all(len(tokenizer.encode(name, add_special_tokens=False)) == 1 for name in spaced)
    app = driving.new_page()
    app.query_params.update({"n": "6", "set": "1.3", "generating": "yes", "new-tokens": "3", "prompt": OTHER})
    driving.rerun(app)
    generated = pd.read_csv(io.BytesIO(files.made()["generated.csv"]))
    assert set(generated["edited"]) == {"z of head 1.3 set to zero at every position"} and len(generated) == 3


def test_a_score_of_all_heads_names_itself_and_not_the_open_head(files: Any) -> None:
    def opened(**query: str) -> tuple[pd.DataFrame, dict[str, Any], pd.DataFrame]:
        rendered.opened(AppTest.from_string(rendered.SCRIPT, default_timeout=rendered.TIMEOUT), head="1.3", **query)
        made, score = files.made(), query["score"]
        grid, ranking = (pd.read_csv(io.BytesIO(made[f"{name}-{score}.csv"])) for name in ("heads", "ranking-tiny"))
        assert set(grid["score"]) == set(ranking["score"]) and set(grid["units"]) == set(ranking["units"])
        assert len(grid) == 8 and len(ranking) == 16 - (score == "similarity")
        return grid, json.loads(made[f"heads-{score}.json"]), ranking

    for score, name in (("induction", "Induction"), ("sink", "Sink (first position)")):
        grid, fields, _ = opened(prompt=PROMPT, score=score)
        assert set(grid["score"]) == {name} and set(grid["prompt"]) == {PROMPT} and "head" not in {*grid, *fields}
    grid, fields, _ = opened(prompt=PROMPT, score="similarity")
    assert set(grid["score"]) == {"Similarity to head 1.3"} and fields["head"] == "1.3"
    grid, fields, ranking = opened(prompt=OTHER, score=asking.PAIR_SCORE, **{asking.POSITION: "4", asking.PAIR: "2"})
    for table in (grid, ranking):
        assert set(table["score"]) == {"Attention from 4 to 2"} and set(table["dest"]) == {4}
        assert set(table["src_token"]) == {" Mary"} and set(table["dest_token"]) == {" John"}


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
    app = AppTest.from_string(script, default_timeout=250)
    app.query_params["part"] = "Tables"
    app.run()
    tables = {name: data for name, data in files.made().items() if name not in made}
    assert tables and all(set(pd.read_csv(io.BytesIO(data))["model"]) == {"tiny"} for data in tables.values())
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
