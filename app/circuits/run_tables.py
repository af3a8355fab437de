"""A run's tables of a circuit's heads, read as untrusted input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from app.circuits.graph import NAN
from workbench.core import Head
from workbench.errors import BadInput
from workbench.findings import Quantity
from workbench.io.tables import printed, true_minus
from workbench.results.circuit import HEAD_COLUMNS, Circuit

if TYPE_CHECKING:
    import pandas as pd

    from workbench.runs.run import Run

#: What the heads' strengths are: of path patching; of ``faithfulness``; of a sweep that was saved as a run.
EFFECT, LOSS = "effect", "loss without it"
LARGEST_EFFECT, LARGEST_CHANGE = "largest effect in the sweep", "largest mean change in the sweep"
#: Each of the latter, and the columns of the table ``sweep`` that have it with its interval.
_OF_SWEEP = {
    LARGEST_EFFECT: ("effect", "effect_low", "effect_high"),
    LARGEST_CHANGE: ("mean_delta", "delta_low", "delta_high"),
}


def heads_of(run: Run, circuit: Circuit) -> pd.DataFrame:
    """The circuit's heads with the run's numbers: ``head, role, effect, low, high, p, stage, n, layer, index``.

    `Circuit.all_from_run` has checked the columns that every such table has; effects are read where there are any. A
    run of ``faithfulness`` has none; its table ``minimality`` holds the loss without each head. A sweep's run has none
    either: of each head the cell of the table ``sweep`` with the largest magnitude stands for it.

    Raises:
        BadInput: effects that are not numbers.
    """
    import pandas as pd

    available = set(run.table("heads"))
    effect = next((name for name in ("mean_effect", "effect") if name in available), "")
    sources = {"effect": effect, "low": "effect_low", "high": "effect_high", "p": "p_value", "n": "n"}
    frame = read_columns(run, "heads", HEAD_COLUMNS, [name for name in sources.values() if name in available])
    quantity = quantity_of(run)
    losses = _minimality(run) if quantity == LOSS and "minimality" in run.table_names else {}
    largest = _largest_in_sweep(run, quantity) if quantity in _OF_SWEEP else {}
    rows = []
    for row in rows_where(frame, "task", circuit.name):
        if not row.get("in_circuit", True):
            continue
        head = Head(int(row["layer"]), int(row["index"]))
        entry = {"layer": head.layer, "index": head.index, "head": str(head), "role": str(row["role"])}
        entry |= {"stage": str(row["stage"])} | {name: row.get(column, NAN) for name, column in sources.items()}
        rows.append(entry | losses.get((str(head), str(row["role"])), {}) | largest.get(head, {}))
    names = ["head", "role", "effect", "low", "high", "p", "stage", "n", "layer", "index"]
    return pd.DataFrame(rows, columns=names)


def quantity_of(run: Run) -> str:
    """What the heads' strengths are: `EFFECT` where the run's heads have effects of path patching; else that of its
    sweep over heads, where it has one; else `LOSS`, also of a sweep over key/value heads.

    Raises:
        BadInput: the table ``sweep`` is not as `workbench.Sweep.table` has it.
    """
    if {"mean_effect", "effect"} & set(run.table("heads")):
        return EFFECT
    if "sweep" not in run.table_names or not {"layer", "head", "head_index"} <= set(run.table("sweep")):
        return LOSS
    sweep = read_columns(run, "sweep", [], ["effect"])
    if sweep["head"].astype(str).str.contains("kv").any():  # key/value heads, each of several heads
        return LOSS
    return LARGEST_EFFECT if np.isfinite(sweep["effect"]).any() else LARGEST_CHANGE


def _largest_in_sweep(run: Run, quantity: str) -> dict[Head, dict[str, float]]:
    """Of each head the cell of the sweep with the largest magnitude, over positions and steps."""
    columns = _OF_SWEEP[quantity]
    value = columns[0]
    frame = read_columns(run, "sweep", [], ["layer", "head_index", *columns, "p_value", "n"]).dropna(subset=[value])
    order = np.argsort(-np.abs(frame[value].to_numpy(dtype=float)), kind="stable")
    frame = frame.iloc[order].drop_duplicates(["layer", "head_index"])
    sources = {"effect": value, "low": columns[1], "high": columns[2], "p": "p_value", "n": "n"}
    return {
        Head(int(row["layer"]), int(row["head_index"])): {name: row[column] for name, column in sources.items()}
        for row in frame.to_dict("records")
    }


def read_columns(run: Run, name: str, required: Sequence[str], numbers: Sequence[str] = ()) -> pd.DataFrame:
    """A table of the run.

    Raises:
        BadInput: it lacks one of the columns, or one of `numbers` is not numeric.
    """
    frame = run.table(name)
    missing = [column for column in (*required, *numbers) if column not in frame]
    if missing:
        raise BadInput(f"{run.path.name}, table {name}: expected the columns {missing} besides {list(frame.columns)}.")
    try:
        return frame.assign(**{column: frame[column].to_numpy(dtype=float) for column in numbers})
    except (ValueError, TypeError):
        raise BadInput(f"{run.path.name}, table {name}: expected numbers in the columns {list(numbers)}.") from None


def rows_where(frame: pd.DataFrame, column: str, value: str) -> list[dict[Any, Any]]:
    """The rows of a table with that text in that column."""
    return [row for row in frame.to_dict("records") if str(row[column]) == value]


def _minimality(run: Run) -> dict[tuple[str, str], dict[str, float]]:
    """The loss without each head, by head and role."""
    frame = read_columns(run, "minimality", ["head", "role"], ["share", "low", "high"])
    if not all(isinstance(head, str) for head in frame["head"]):
        raise BadInput(
            f"{run.path.name}, table minimality: expected heads as text, because the number 0.1 is also 0.10."
        )
    return {
        (str(row["head"]), str(row["role"])): {"effect": row["share"], "low": row["low"], "high": row["high"]}
        for row in frame.to_dict("records")
    }


def summary_lines(run: Run, task: str) -> list[str]:
    """Sentences on the circuit of a task as a whole: the model's accuracy on the task, the circuit's stability, and the
    loss without it, compared with random heads; as far as the run has the tables.

    Raises:
        BadInput: a table is not as the finding writes it.
    """
    return [*_of_tasks(run, task), *_ablated(run, task), *_faithful(run)]


def _of_tasks(run: Run, task: str) -> list[str]:
    if "tasks" not in run.table_names:
        return []
    numbers = ["accuracy", "accuracy_low", "accuracy_high", "chance", "split_half", "bootstrap_jaccard", "n"]
    lines = []
    for row in rows_where(read_columns(run, "tasks", ["task"], numbers), "task", task):
        lines += [
            f"Accuracy {_interval(row, 'accuracy', 'accuracy_low', 'accuracy_high')}, chance {_two(row['chance'])}, "
            f"n = {row['n']:.0f}.",
            f"Jaccard index of the circuits from two split halves of the prompts {_two(row['split_half'])}, from "
            f"resampled prompts {_two(row['bootstrap_jaccard'])}.",
        ]
    return lines


def _ablated(run: Run, task: str) -> list[str]:
    if "cross_ablation" not in run.table_names:
        return []
    control = ["random", "random_low", "random_high"]
    has_control = set(control) <= set(run.table("cross_ablation"))
    numbers = ["damage", "low", "high", *(control if has_control else [])]
    frame = read_columns(run, "cross_ablation", ["ablated", "measured"], numbers)
    rows = [row for row in rows_where(frame, "ablated", task) if str(row["measured"]) == task]

    def of_random(row: dict[Any, Any]) -> str:
        if not has_control or not np.isfinite(row["random"]):
            return "no control"
        mean, low, high = (_two(row[name]) for name in control)
        return f"ablating random heads of the same layers removes {mean} ({low} to {high})"

    return [
        f"Ablating it removes {_interval(row, 'damage')} of the logit difference; {of_random(row)}." for row in rows
    ]


def _faithful(run: Run) -> list[str]:
    if "faithfulness" not in run.table_names:
        return []
    rows = read_columns(run, "faithfulness", ["set"], ["share", "low", "high"]).to_dict("records")
    random = [row["share"] for row in rows if str(row["set"]).startswith("random circuit")]
    control = (
        f"{len(random)} random circuits keep {_two(min(random))} to {_two(max(random))}" if random else "no control"
    )
    return [
        f"Alone it keeps {_interval(row, 'share')} of the logit difference (faithfulness); {control}."
        for row in rows
        if row["set"] == "circuit"
    ]


def _interval(row: dict[Any, Any], value: str, low: str = "low", high: str = "high") -> str:
    return true_minus(Quantity(row[value], row[low], row[high]))


def _two(value: float) -> str:
    """With two decimals."""
    return printed(value, ".2f")
