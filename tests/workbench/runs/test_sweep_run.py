"""A sweep as a run: what it holds is the sweep's, and its circuit the one that was given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.errors import BadInput
from workbench.results.circuit import Circuit
from workbench.runs.run import Run
from workbench.runs.sweep_run import write_sweep_run

CIRCUIT = Circuit("ioi", "tiny", ((wb.Head(0, 7), "inhibition"), (wb.Head(1, 3), "mover")))


@pytest.fixture(scope="module")
def sweep() -> wb.Sweep:
    return wb.sweep(wb.load("tiny"), wb.task("ioi", n=6), cache=False)


def test_the_run_has_the_sweep_its_strongest_cells_and_the_circuit(sweep: wb.Sweep, tmp_path: Path) -> None:
    path = write_sweep_run(sweep, tmp_path, CIRCUIT)
    run = Run.read(path)
    np.testing.assert_array_equal(wb.Sweep.load(path / "sweep.safetensors").values, sweep.values)
    np.testing.assert_allclose(run.table("sweep")["mean_delta"], sweep.mean_delta.ravel())
    assert run.facts["model"]["name"] == "tiny" and run.facts["config"]["task"] == "ioi"
    first = next(line for line in run.summary.splitlines() if line[:1].isdigit())
    assert first.split()[0] == str(sweep.top(1)[0])
    assert Circuit.from_run(path).heads == CIRCUIT.heads and "mean_effect" not in run.table("heads")


def test_without_a_circuit_there_is_no_table_of_heads(sweep: wb.Sweep, tmp_path: Path) -> None:
    run = Run.read(write_sweep_run(sweep, tmp_path))
    assert list(run.table_names) == ["sweep"]
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="Choose another"):
        write_sweep_run(sweep, tmp_path / "file")
