"""How long a page took to draw: said below it, and in the server's log, where a benchmark reads it."""

from __future__ import annotations

import logging
import time

import streamlit as st

LOG = logging.getLogger("workbench.explorer")
if not LOG.handlers:  # the server sets up its own loggers alone, and the root's leave out what is no warning
    LOG.addHandler(logging.StreamHandler())
    LOG.setLevel(logging.INFO)


def drawn(page: str, began: float) -> None:
    """Say how long this run of the script took since `began` (of `time.perf_counter`); called at its end."""
    ms = 1000 * (time.perf_counter() - began)
    st.caption(f"Drawn in {ms:.0f} ms.")
    LOG.info("%s drawn in %.1f ms", page, ms)
