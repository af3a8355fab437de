"""How long a page took to render: shown below it, and in the server's log, where a benchmark reads it."""

from __future__ import annotations

import logging
import time

import streamlit as st

LOG = logging.getLogger("workbench.explorer")
if not LOG.handlers:  # Streamlit's server sets up its own loggers only, and the root logger drops INFO
    LOG.addHandler(logging.StreamHandler())
    LOG.setLevel(logging.INFO)


def report(page: str, start: float) -> None:
    """Show and log how long this run of the script took since `start` (of `time.perf_counter`); called at its end."""
    ms = 1000 * (time.perf_counter() - start)
    st.caption(f"Rendered in {ms:.0f} ms.")
    LOG.info("%s rendered in %.1f ms", page, ms)
