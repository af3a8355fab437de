"""The table of families (`make families`): a sample of it is measured again, and the committed table is complete.

The sample has the traps: windows, causality by configuration, sinks, norms behind the branches, scales of the logits
and of the branches, experts, scales that follow the position. Everything is compared with plain hooks.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.families import results_file
from tests.families.cell import Cell, Comparison, Stated, Wrong, workbench_call
from tests.families.columns import COLUMNS, family_cells
from tests.families.configurations import NAMED, automatic
from tests.families.not_yet import NOT_YET
from tests.families.subject import Subject, measured
from tests.oracle.plain_decoder import NoOracle
from workbench.errors import UsageError

SAMPLE = (
    "llama",
    "llama_bidir",
    "gemma2_w10",
    "gpt2",
    "gpt_oss",
    "cohere",
    "granitemoe",
    "olmo2",
    "llama4_floor10",
)
TABLE = results_file.read()["families"]


def wrong_columns(cells: dict[str, Any]) -> set[str]:
    states = {name: cell.state if isinstance(cell, Cell) else cell["state"] for name, cell in cells.items()}
    return {name for name, state in states.items() if state == "wrong"}


@pytest.mark.parametrize("family", SAMPLE)
def test_a_family_is_exact_or_refused(family: str) -> None:
    with torch.no_grad():
        cells = family_cells(NAMED[family])
    failures = {name: cells[name] for name in wrong_columns(cells)}
    assert failures.keys() == NOT_YET.get(family, {}).keys(), failures
    committed = TABLE[family]["cells"]
    assert cells["wraps"].state == committed["wraps"]["state"]
    assert cells["wraps"].state == "exact" or cells["wraps"].text == committed["wraps"]["text"]
    exact = [cell for cell in cells.values() if cell.state == "exact"]
    assert len(exact) > 10 or cells["wraps"].state != "exact"


def test_the_table_has_every_family_and_no_wrong_cell() -> None:
    configurations = {**NAMED, **automatic()}
    assert set(TABLE) == set(configurations), "make families"
    for name, row in TABLE.items():
        assert row["model_type"] == configurations[name].model_type
        assert wrong_columns(row.get("cells", {})) == NOT_YET.get(name, {}).keys(), name
    assert sum(len(row.get("cells", ())) == len(COLUMNS) for row in TABLE.values()) > 80
    assert set(NOT_YET) <= set(TABLE)


def test_a_difference_is_wrong_and_so_is_a_missing_number() -> None:
    for own, state in ((1.0, "exact"), (1.0 + 2e-4, "wrong"), (float("nan"), "wrong")):
        comparison = Comparison()
        comparison.add(own, 1.0)
        assert comparison.cell().state == state
    small = Comparison()
    small.add(0.001, 0.001)
    assert small.cell().state == "unchecked"
    with pytest.raises(Wrong, match="shape"):
        Comparison().add([1.0, 2.0], [1.0])


def test_refusals_failures_and_the_oracles_own_limits_are_told_apart() -> None:
    def raising(error: Exception, *, in_workbench: bool) -> Any:
        def column(_: Subject) -> Cell:
            if in_workbench:
                with workbench_call():
                    raise error
            raise error

        return column

    subject = Subject(NAMED["llama"])
    for error, in_workbench, state in (
        (UsageError("not here"), True, "stated"),
        (KeyError("x"), True, "wrong"),
        (KeyError("x"), False, "unchecked"),
        (NoOracle("no projection"), False, "unchecked"),
        (Stated("no"), True, "stated"),
    ):
        assert measured(raising(error, in_workbench=in_workbench), subject).state == state
