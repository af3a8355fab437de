"""A sweep saved as a run, which the pages Runs and Circuits open."""

from __future__ import annotations

import hashlib
from pathlib import Path

import streamlit as st

import workbench as wb
from app import url_widgets
from app.messages import escape_markdown, show_errors
from app.page import views
from app.patching.circuit_builder import Roles, to_circuit
from workbench.runs.sweep_run import write_sweep_run

HELP = (
    "Writes the sweep into the folder runs, as `workbench patch --out runs` does: it is then on the page Runs, and, "
    "with heads in the set, on the page Circuits."
)
_SAVED = "saved-sweep-run"


def save_run_button(sweep: wb.Sweep, heads: Roles, model_name: str, task: str) -> None:
    """The button, and where the run is once it is saved.

    Args:
        heads: of the set, which become the run's circuit.
        task: what the circuit is called.
    """
    what = hashlib.sha256(sweep.values.tobytes() + repr((sweep.info, heads)).encode()).hexdigest()
    saved: dict[str, tuple[str, bool]] = st.session_state.setdefault(_SAVED, {})
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Save as a run", key="save-run", icon=":material/save:", help=HELP):
            with show_errors():
                circuit = to_circuit(heads, model_name, task) if heads else None
                saved[what] = (write_sweep_run(sweep, Path("runs"), circuit).name, circuit is not None)
        run = saved.get(what)
        pressed = [page for page in _pages(run) if st.button(f"Open on {page.title()}", key=f"run-{page}")]
    if run is not None:
        st.caption(escape_markdown(f"Saved as {run[0]}."))
        for page in pressed:
            url_widgets.set_for_next_page(_pages(run)[page], run[0])
            st.switch_page(views()[page])


def _pages(saved: tuple[str, bool] | None) -> dict[str, str]:
    """Page → its parameter that says which run it shows."""
    if saved is None:
        return {}
    return {"runs": "run", **({"circuits": "circuit-run"} if saved[1] else {})}
