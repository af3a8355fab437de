"""What ``workbench patch`` prints and stores of a sweep."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.answer import console, table
from workbench.cli.choices import left_out
from workbench.cli.few_examples import few_examples
from workbench.cli.latent_options import sampled_as
from workbench.core import at_positions, base_or_direction, full_name
from workbench.example_names import examples_of, task_of
from workbench.io.tables import number

if TYPE_CHECKING:
    from workbench.cli.patched import Patched


def write(result: Patched, target: Path, top: int) -> str:
    """Keep the sweep in one file, or in a run directory with its table and figure; returns where."""
    sweep = result.sweep
    if target.suffix:
        sweep.save(target)
        return str(target)
    from workbench.runs.sweep_run import write_sweep_run

    text = io.StringIO()
    show(console(text), result, top, None)
    return str(write_sweep_run(sweep, target, report=text.getvalue()))


def show(console: Any, result: Patched, top: int, path: str | None) -> None:
    sweep, document = result.sweep, result.document
    info = sweep.info
    name = full_name(info["model"], info.get("operators"))
    console.print(
        f"{name}, {task_of(info)}: {info['edit']} {info['site']}{at_positions(info, sweep.axes)}, "
        f"{base_or_direction(info, sweep.source is not None)}, n = {sweep.n}{left_out(info)}. "
        f"{sampled_as(info, sweep.axes)}{document['baseline_note']}\n"
    )
    names = [sweep.name(index) for index, _ in sweep.cells()]
    cells = [
        (name, cell) for name, cell in zip(names, document["cells"], strict=True) if cell["mean_delta"] is not None
    ]
    ranked = sorted(cells, key=lambda pair: -abs(pair[1]["mean_delta"]))[:top]
    rows = [
        (
            name,
            cell["mean_delta"],
            _interval(cell["delta_low"], cell["delta_high"]),
            _nan(cell["effect"]),
            _interval(cell["effect_low"], cell["effect_high"]),
            cell["p_value"],
        )
        for name, cell in ranked
    ]
    listed = "All" if len(rows) == len(cells) else f"The {len(rows)} strongest of"
    metric = str(info["metric"]).replace("_", " ")
    units = f" in {info['units']}" if info.get("units") and info["units"] != metric else ""
    console.print(f"{listed} {len(cells)} cells; change: that of the mean {metric}{units}.")
    columns = ("cell", "change", "95 %", "effect", "95 % ", "p")
    console.print(table(columns, rows, right=("change", "effect", "p")))
    if few := few_examples(sweep.n, examples_of(info)):  # of one prompt the note speaks
        console.print(few)
    smallest = f"{document['smallest_p_value']:.2g}"
    console.print(f"p is corrected for {len(cells)} cells; the smallest possible p is {smallest}.")
    if document["note"]:
        console.print(document["note"])
    if path:
        console.print(f"Saved to {path}")


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{number(low)} to {number(high)}"
