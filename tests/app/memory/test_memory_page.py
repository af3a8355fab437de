"""The page Memory: capacity curves, a protocol trial by trial, the keys of recorded heads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import workbench as wb
from app.memory.parts import capacity, conditioning, heads
from probes.conditioning.protocols import PROTOCOLS
from probes.memory import laws
from tests.app.pages.driving import NewPage, opening
from workbench.errors import UsageError
from workbench.results.memory_curves import MemoryCurves

MODELS = ["tiny", "digits-vit"]


@pytest.fixture
def new_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[NewPage]:
    yield from opening("memory", MODELS, monkeypatch, tmp_path)


def traces(app: AppTest) -> list[dict[str, Any]]:
    assert not app.exception and not app.error and not app.warning
    (chart,) = app.get("plotly_chart")
    return json.loads(chart.proto.spec)["data"]


def texts(app: AppTest) -> str:
    return " ".join(element.value.replace("\\", "") for element in [*app.caption, *app.markdown, *app.info])


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("blocking", "20 × (A → 1), 20 × (AB → 1)"),
        ("overexpectation", "10 × (A → 1, B → 1), 10 × (AB → 1)"),
        ("conditioned inhibition", "20 × (A → 1, AB → 0)"),
    ],
)
def test_a_protocol_is_written_as_it_is_run(protocol: str, expected: str) -> None:
    assert conditioning.written(PROTOCOLS[protocol]) == expected


def test_cues_that_overlap_are_said_to_move_each_other(new_page: NewPage) -> None:
    app = new_page(memory_part="conditioning", protocol_cosine="0.5")
    assert "also moves the answer to the other" in texts(app)
    assert "cosine of A and B 0.5" in app.get("plotly_chart")[0].proto.spec


def test_the_prompt_whose_keys_are_recorded_is_on_the_page_and_in_the_link(new_page: NewPage) -> None:
    app = new_page(
        memory_part="heads", memory_texts="the prompt", prompt="Hello world, hello world and all", head="1.kv2"
    )
    assert not app.exception and not app.error and not app.warning
    assert app.text_area(key="prompt").value == "Hello world, hello world and all"
    assert app.query_params["prompt"] in ("Hello world, hello world and all", ["Hello world, hello world and all"])
    assert any("Key/value head 1.kv2" in heading.value for heading in app.subheader)
    files = {button.proto.id for button in app.get("download_button")}
    assert any("memory-heads-grid-csv" in name for name in files)


# --- capacity


def test_curves_of_two_rules_stand_beside_their_laws(new_page: NewPage) -> None:
    app = new_page(
        memory_rule="hebbian", memory_beside="pseudo-inverse", memory_d="32", memory_n="64", memory_stored="9"
    )
    plotted = {(trace["name"], trace["mode"]): trace for trace in traces(app) if "name" in trace}
    loads = np.array(plotted["hebbian", "markers"]["x"], float)
    assert {2, 9, 64} <= set(loads) and list(loads) == sorted(loads)
    by_law = [laws.hebbian_mse(int(n), 32) for n in loads]
    np.testing.assert_allclose(np.array(plotted["hebbian", "markers"]["y"], float), by_law, rtol=0.2, atol=0.02)
    assert "9 pairs in 32 dimensions: a load of 0.281" in texts(app)
    assert "hebbian: Law: (n − 1) / d, exact in expectation." in texts(app)


def test_a_criterion_that_a_rule_does_not_have_is_one_line(new_page: NewPage) -> None:
    app = new_page(memory_rule="softmax", memory_beside="yaad", memory_criterion="worst case")
    assert not app.exception and len(app.error) == 1 and "linear in the values" in app.error[0].value


def test_what_a_figure_of_curves_downloads_says_what_it_is_of() -> None:
    settings: dict[str, Any] = {"d": 16, "n": [4, 8], "trials": 20}
    curves = wb.memory("hebbian", **settings).beside(wb.memory("delta", **settings))
    figure = capacity.CurvesFigure(curves)
    header, *rows = figure.csv().decode().splitlines()
    assert header.startswith("rule,n,mean,") and len(rows) == 4 and ",mse,16,16,random," in rows[0]
    assert [curve["info"]["rule"] for curve in json.loads(figure.json())["curves"]] == ["hebbian", "delta"]
    assert figure.image("svg").startswith(b"<?xml")


def test_loads_include_the_one_that_is_read_off() -> None:
    loads = capacity.curve_loads(256, 100)
    assert loads[0] == 2 and loads[-1] == 256 and 100 in loads and list(loads) == sorted(set(loads))


# --- curves of several rules in the library


def test_curves_of_other_pairs_do_not_stand_beside_each_other() -> None:
    curve = wb.memory("hebbian", d=16, n=[4, 8], trials=10)
    others = {"n": {"n": [4]}, "d": {"d": 32}, "criterion": {"criterion": "cosine"}, "seed": {"seed": 1}}
    for name, change in others.items():
        other = wb.memory("delta", **{"d": 16, "n": [4, 8], "trials": 10, **change})
        with pytest.raises(UsageError, match=f"delta has {name}="):
            curve.beside(other)
    with pytest.raises(UsageError, match="Give each rule once"):
        curve.beside(curve)
    name: Any = "delta"
    with pytest.raises(UsageError, match="others="):
        curve.beside(name)


def test_a_table_of_several_curves_is_their_tables() -> None:
    settings: dict[str, Any] = {"d": 16, "n": [4, 8], "trials": 10}
    first, second = (wb.memory(rule, **settings) for rule in ("hebbian", "softmax"))
    both = first.beside(second)
    assert isinstance(both, MemoryCurves)
    of_second = both.table().query("rule == 'softmax'").drop(columns="rule").reset_index(drop=True)
    np.testing.assert_array_equal(of_second.to_numpy(), second.table().to_numpy())
    assert len(both.picture().axes) == 1 and len(both.figure().to_dict()["data"]) >= 4


# --- conditioning


def worth(protocol: str, step: float) -> dict[str, list[float]]:
    """Rescorla and Wagner's own bookkeeping, cue by cue."""
    values = dict.fromkeys("ABC", 0.0)
    seen: dict[str, list[float]] = {cue: [0.0] for cue in values}
    for letters, outcome in PROTOCOLS[protocol].trials:
        error = outcome - sum(values[cue] for cue in letters)
        for cue in values:
            values[cue] += step * error * (cue in letters)
            seen[cue].append(values[cue])
    return seen


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_delta_rule_is_rescorla_and_wagners_at_every_trial(new_page: NewPage, protocol: str) -> None:
    app = new_page(memory_part="conditioning", protocol=protocol, protocol_step="0.2", protocol_trial="3")
    expected = worth(protocol, 0.2)
    curves = {trace["name"].removeprefix("cue "): np.array(trace["y"], float) for trace in traces(app)}
    assert list(curves) == conditioning.cues_of(PROTOCOLS[protocol])
    for cue, values in curves.items():
        np.testing.assert_allclose(values, expected[cue], atol=1e-12)
    assert "Trial 3: " in texts(app) and "Rescorla and Wagner 1972" in texts(app)


def test_trained_attention_has_intervals_and_no_law(new_page: NewPage) -> None:
    app = new_page(memory_part="conditioning", protocol="blocking", protocol_learner="trained")
    names = [trace.get("name") for trace in traces(app)]
    assert names.count("cue A") == names.count("cue B") == 1 and len(names) == 6  # two bands
    assert "There is no law." in texts(app)


def test_protocols_are_written_in_short() -> None:
    assert conditioning.written(PROTOCOLS["blocking"]) == "20 × (A → 1), 20 × (AB → 1)"
    assert conditioning.written(PROTOCOLS["conditioned inhibition"]) == "20 × (A → 1, AB → 0)"


# --- recorded heads


def test_the_open_heads_spectrum_is_that_of_its_recorded_keys(new_page: NewPage) -> None:
    prompt = "When Mary and John went to the store, John gave a drink to"
    app = new_page(memory_part="heads", memory_texts=heads.PROMPT, head="1.2", prompt=prompt)
    bars = next(trace for trace in traces(app) if trace["type"] == "bar")
    model = wb.load("tiny")
    assert model.n_heads == 2 * model.n_kv_heads  # so that head 1.2 reads 1.kv1
    keys = wb.record(model, [prompt], ["k"], cache=False).clean["k"][0][1, 1:, 1].double()  # without the first position
    centred = keys - keys.mean(0)
    centred /= centred.norm(dim=-1, keepdim=True)
    shares = np.linalg.svd(centred.numpy(), compute_uv=False) ** 2
    np.testing.assert_allclose(np.array(bars["y"], float), (shares / shares.sum())[: len(bars["y"])], atol=1e-6)
    assert "Key/value head 1.kv1" in " ".join(element.value for element in app.subheader)


def test_heads_of_images_are_refused_in_one_line(new_page: NewPage) -> None:
    app = new_page(memory_part="heads", model="digits-vit")
    assert not app.exception and "digits-vit is a vision model" in texts(app)
