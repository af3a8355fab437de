"""How long a page took to render, in the server's log: a benchmark reads it there."""

from __future__ import annotations

import logging
import time

LOG = logging.getLogger("workbench.explorer")
if not LOG.handlers:  # Streamlit's server sets up its own loggers only, and the root logger drops INFO
    LOG.addHandler(logging.StreamHandler())
    LOG.setLevel(logging.INFO)


def report(page: str, start: float) -> None:
    """Log how long this run of the script took since `start` (of `time.perf_counter`); called at its end."""
    ms = 1000 * (time.perf_counter() - start)
    LOG.info("%s rendered in %.1f ms", page, ms)
