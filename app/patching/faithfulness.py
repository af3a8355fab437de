"""The faithfulness of the circuit that is built: the finding `faithfulness`, run in the background like any other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from app import upload_store
from app.messages import escape_markdown
from app.patching.circuit_builder import Roles, to_circuit
from app.swapped_names import job_model
from app.work.background import Background
from workbench.findings import Quantity
from workbench.io.tables import true_minus
from workbench.runs.run import Run

#: Prompts that are measured, and random circuits for comparison.
PROMPTS, RANDOM_CIRCUITS = 20, 20
HELP = (
    f"Runs the finding faithfulness on {PROMPTS} prompts that the sweep has not used: all heads are ablated except "
    "those of one set. The sets are the circuit, its parts, its complement and "
    f"{RANDOM_CIRCUITS} random circuits of the same layers."
)
BUTTON = {"icon": ":material/straighten:", "help": HELP}


def faithfulness(model_name: str, prompts: Mapping[str, Any], heads: Roles) -> None:
    """The circuit's faithfulness, where it is measured; else its button, or its progress.

    Args:
        prompts: of the sweep, as `load_prompts` takes them.
        heads: the circuit.
    """
    if not heads:
        return
    if "task" not in prompts:
        st.caption("Faithfulness needs a task: it is measured on prompts that were not used to choose the heads.")
        return
    run = _background(model_name, prompts, heads).result()
    if run is not None:
        _show_run(run)


def _background(model_name: str, prompts: Mapping[str, Any], heads: Roles) -> Background[Run]:
    task = str(prompts["task"])
    name = upload_store.save(to_circuit(heads, model_name, task).to_bytes())
    settings = {
        "task": task,
        "circuit": str(upload_store.folder() / name),
        "n": PROMPTS,
        "n_circuit": max(PROMPTS, int(prompts["n"])),  # left out of the measurement: the sweep has used them
        "random_circuits": RANDOM_CIRCUITS,
        "seed": int(prompts["seed"]),
    }
    out = str(Path("runs").resolve())
    request: dict[str, Any] = {"finding": "faithfulness", **job_model(model_name), "settings": settings, "out": out}
    request["label"] = f"faithfulness on {task}"
    key = f"faithfulness {model_name} {sorted(settings.items())}"
    return Background("finding", key, request, Run.read_header, "Measure its faithfulness", BUTTON)


def _show_run(run: Run) -> None:
    first = run.table("faithfulness").iloc[0] if "faithfulness" in run.table_names else None
    if first is not None:
        st.metric("Faithfulness", true_minus(Quantity(first["share"], first["low"], first["high"])))
    st.code(run.summary, language=None, wrap_lines=True)
    st.caption(escape_markdown(f"Stored as run {run.path.name}. See the Runs and Circuits pages."))
