"""A sweep as a run directory, which ``workbench runs`` lists and the explorer opens; with a circuit, if any."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.core import at_positions, base_or_direction, full_name
from workbench.example_names import task_of
from workbench.io.tables import number
from workbench.runs.directory import RunDirectory

if TYPE_CHECKING:
    import pandas as pd

    from workbench.results.circuit import Circuit
    from workbench.results.sweep import Sweep

#: What such a run is called.
NAME = "patch"
#: Cells that the report names.
TOP = 10


def write_sweep_run(
    sweep: Sweep, root: str | os.PathLike[str] = "runs", circuit: Circuit | None = None, report: str = ""
) -> Path:
    """Write a run of a sweep: its file (``sweep.safetensors``), its table and figure, and a report; returns its
    directory.

    Args:
        root: the folder in which it is made.
        circuit: heads with roles, for the table ``heads``, from which `Circuit.from_run` reads them. It has no effects:
            those of the sweep are not of paths, and stand in the table ``sweep``.
        report: by default `summary`.

    Raises:
        BadInput: the folder cannot be written.
    """
    info = sweep.info
    with RunDirectory.create(root, NAME, info) as run:
        model = {"name": info.get("model"), "sha256": info.get("model_sha256"), "operators": info.get("operators")}
        run.record(model={name: value for name, value in model.items() if value})
        sweep.save(run.partial / "sweep.safetensors")
        run.add_table("sweep", sweep.table())
        run.add_figure("sweep", sweep.figure(), sweep.picture())
        if circuit is not None and circuit.heads:
            run.add_table("heads", _heads(circuit))
        run.summary = report or summary(sweep)
    assert run.path is not None
    return run.path


def summary(sweep: Sweep) -> str:
    """What was done, and the strongest cells, in words."""
    info = sweep.info
    lines = [
        f"{full_name(info.get('model') or '', info.get('operators'))}, {task_of(info)}: {info.get('edit')} "
        f"{info.get('site')}{at_positions(info, sweep.axes)}, {base_or_direction(info, sweep.source is not None)}, "
        f"n = {sweep.n}. {sweep.baseline_note}",
        "",
    ]
    cells = [(sweep.name(index), float(sweep.mean_delta[index])) for index, _ in sweep.cells()]
    strongest = sorted((cell for cell in cells if cell[1] == cell[1]), key=lambda cell: -abs(cell[1]))[:TOP]
    width = max((len(name) for name, _ in strongest), default=0)
    units = str(info.get("metric", "the metric")).replace("_", " ")
    lines += [f"The largest mean changes of {units}:", *(f"{name:{width}}  {number(x)}" for name, x in strongest)]
    return "\n".join([*lines, *filter(None, ["", sweep.effect_note])])


def _heads(circuit: Circuit) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {
            "task": circuit.name,
            "stage": role,
            "layer": head.layer,
            "index": head.index,
            "head": str(head),
            "role": role,
        }
        for head, role in circuit.heads
    ]
    return pd.DataFrame(rows)
