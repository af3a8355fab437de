"""Circuits compared with published ones."""

from __future__ import annotations

import pandas as pd

from app.circuits import from_run, published_circuits
from tests.app.circuits.made_runs import committed, make_run, page
from workbench.results.circuit import Circuit


def test_nothing_that_was_not_checked_is_called_checked() -> None:
    table = published_circuits.value_table("gpt2")
    [row] = [row for row in table.to_dict("records") if row["quantity"] == "faithfulness: faithfulness"]
    assert row["value"] == 0.87 and row["checked"] == "not checked"
    assert set(published_circuits.head_table("gpt2-medium", "ioi")["checked"]) == {"readings agree", "in a repository"}
    unknown = published_circuits.with_certainty(pd.DataFrame({"sure": ["repository", "memory", "very", None]}))
    assert unknown["checked"].tolist() == ["in a repository", "not checked", "not checked", "not checked"]


def test_a_run_of_a_published_model_is_compared_with_it() -> None:
    heads = committed("circuit-reuse")["heads"].query("task == 'ioi'").head(1).assign(layer=15, index=14, head="15.14")
    published_heads = pd.DataFrame({"head": ["15.14"], "published_role": ["mover"], "sure": ["readings"], "rank": [3]})
    run = make_run("circuit-reuse", {"heads": heads, "published_heads": published_heads}, "gpt2-medium")
    app = page(**{"circuit-part": "Published"}).run()
    assert not app.exception and not app.error and not app.info
    assert app.dataframe[0].value["checked"].tolist() == ["readings agree"]
    assert app.selectbox(key="circuit-published").value == "gpt2-medium"
    assert any("The column checked says where the published heads" in caption.value for caption in app.caption)
    assert any("no effects, so all markers have the same size" in caption.value for caption in app.caption)
    assert any("2310\\.08744" in caption.value for caption in app.caption)
    graph = from_run.graph_of_run(
        run, Circuit.from_run(run.path), None, published_circuits.published_roles("gpt2-medium", "ioi")
    )
    assert graph.node("15.14/logits").hover[-1] == "published as mover"
    app = page(**{"circuit-part": "Circuit"}).run()
    assert app.dataframe[0].value["published as"].tolist() == ["mover"]


def test_a_model_without_a_published_circuit_is_named() -> None:
    make_run("circuit-repair", committed("circuit-repair"))
    app = page(
        **{"circuit-part": "Published", "circuit-published": "gpt2", "circuit-published-task": "greater-than"}
    ).run()
    assert not app.exception and "no published circuit of" in app.info[0].value
    assert app.dataframe[0].value["heads"].tolist() == ["0.1 0.3 0.5 5.5 6.1 6.9 7.10 8.11 9.1"]
    assert any("Hanna" in caption.value for caption in app.caption)
