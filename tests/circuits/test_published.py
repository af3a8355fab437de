"""Published heads and values: well-formed, of their own model alone, and compared with measured ones as they say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from circuits import published
from circuits.circuit_source import circuit_of
from workbench.core import Head
from workbench.errors import UsageError
from workbench.findings import Quantity, Study
from workbench.findings.progress import Quiet
from workbench.registry import FINDINGS, TASKS


def test_published_heads_belong_to_their_model_alone() -> None:
    assert published.of_model("gpt2-medium") is published.of_model("openai-community/gpt2-medium") is not None
    assert published.of_model("smollm2-135m-instruct-q4") is None


def test_published_entries_are_well_formed() -> None:
    for model in published.models():
        entry = published.of_model(model)
        assert entry is not None and entry["source"] and entry.get("n_prompts", 1) > 0
        for item in (*entry["heads"], *entry.get("overlaps", ())):
            assert item["sure"] in ("repository", "readings", "abstract")
        for item in entry["values"]:
            assert item["sure"] in ("repository", "readings", "abstract", "memory") and 0 < item["tolerance"] < 1
            assert item["finding"] in FINDINGS.names()
        for task in {task for item in entry["heads"] for task in item["tasks"]}:
            assert task in TASKS.names()
        assert all(Head.parse(text) for item in entry["heads"] for text in item["heads"])
        for item in entry.get("overlaps", ()):
            assert "union" not in item or item["shared"] / item["union"] == pytest.approx(item["share"], abs=5e-3)


def test_the_published_circuit_of_a_task() -> None:
    circuit = published.circuit("gpt2", "ioi")
    assert circuit["negative mover"] == [Head(10, 7), Head(11, 10)]
    assert sum(map(len, circuit.values())) == 26
    with pytest.raises(UsageError, match="No circuit of ioi is published for tiny"):
        published.circuit("tiny", "ioi")


@pytest.mark.parametrize(
    ("low", "high", "relation"),
    [(0.60, 0.75, "within"), (0.5, 0.7, "outside"), (1.01, 1.1, "within"), (1.03, 1.1, "outside")],
)
def test_a_published_value_stands_beside_measured_with_its_tolerance(low: float, high: float, relation: str) -> None:
    measured = {"faithfulness": Quantity((low + high) / 2, low, high), "nobody's": Quantity(0.0)}
    table = published.values_beside("openai-community/gpt2", "faithfulness", "ioi", measured)
    assert table["within"].tolist() == [relation == "within"] and table["value"].tolist() == [0.87]
    (line,) = published.values_in_words(table)
    assert line.endswith(relation) and "not checked" in line
    for other in (("tiny", "faithfulness", "ioi"), ("gpt2", "faithfulness", "greater-than"), ("gpt2", "x", "ioi")):
        assert not len(published.values_beside(*other, measured))


def test_ranks_count_senders_only() -> None:
    ranking = np.array([[0.1, 0.5], [0.3, np.nan]])
    assert published.rank_of(Head(0, 1), ranking) == (1, 3) and published.rank_of(Head(0, 0), ranking) == (3, 3)
    assert published.rank_of(Head(1, 1), ranking) == published.rank_of(Head(9, 9), ranking) == (None, 3)


def test_a_published_circuit_can_be_tried_under_other_operators_but_no_published_value_is_beside_it() -> None:
    operators = {"0": "lightning", "1": "lightning"}
    model = SimpleNamespace(provenance={"name": "gpt2-medium", "operators": operators})
    study = Study(FINDINGS["faithfulness"], model, {"n": 6, "seed": 0}, Quiet())
    assert study.model_name == "gpt2-medium with 0-1=lightning"
    assert published.of_model(study.model_name) is None
    assert circuit_of(study, "published", "ioi", cast(Any, None), 2.0) == published.circuit("gpt2-medium", "ioi")
