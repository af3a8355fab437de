"""Stored figures of a run, in any page: the figure, its note, and its downloads."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from app import url_widgets
from app.downloadable import PLOTLY_CONFIG, download_button
from app.figure_table import table
from app.messages import escape_markdown
from app.plotly_text import fit_title
from workbench import arguments
from workbench.errors import WorkbenchError
from workbench.plotting.source import Source
from workbench.registry import FINDINGS
from workbench.runs.locate import finished_runs
from workbench.runs.run import Run

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

#: The chart's own camera button exports what is on the screen.
_CONFIG = PLOTLY_CONFIG | {"toImageButtonOptions": {"format": "svg"}}


def newest_run(finding: str) -> Run | None:
    """The newest run of a finding on this machine; where there is none, a line says how to make one.

    Raises:
        UnknownName: no finding of that name.
    """
    arguments.one_of("finding", finding, FINDINGS.names())
    for path in finished_runs():
        with suppress(WorkbenchError):
            run = Run.read_header(path)
            if run.facts.get("finding") == finding:
                return run
    st.info(
        f"There is no run of {escape_markdown(finding)} on this machine. Make one: `workbench reproduce {finding}`."
    )
    return None


def figure_names(run: Run) -> list[str]:
    """The figures that a run has, as Plotly or as PNG, the shortest names first."""
    return sorted({*run.figure_names, *run.picture_names}, key=lambda name: (len(name), name))


def show_run_figures(run: Run, key: str) -> None:
    """Let the user select one of the run's figures, and show it.

    Args:
        key: of the selection in the URL; no two pages use the same.
    """
    names = figure_names(run)
    if names:
        show_run_figure(run, url_widgets.select("Figure", names, key))
    else:
        st.info("This run has no figures.")


def show_run_figure(run: Run, name: str, key: str = "run-figure") -> None:
    """Show one of `figure_names` with its note and its downloads (PNG, CSV and JSON, as far as the run has them).

    Args:
        key: of the chart; a page that shows several figures gives each its own.

    Raises:
        BadInput: the run has no such figure, or its file is damaged.
    """
    figure = run.figure(name) if name in run.figure_names else None
    if figure is not None:
        note = fit_title(figure)
        st.plotly_chart(figure, key=key, config=_CONFIG)
        st.caption(escape_markdown(note))
    else:
        st.image(run.picture(name))
    with st.container(horizontal=True):
        if name in run.picture_names:
            download_button("PNG", run.picture(name), f"{name}.png", None, key=f"{key}-png")
        if figure is not None:
            source = Source.of_run(run.facts)
            download_button("CSV", partial(_csv, figure, source), f"{name}.csv", None, key=f"{key}-csv")
            download_button("JSON", partial(_json, run, name, source), f"{name}.json", None, key=f"{key}-json")
    if figure is not None:
        st.caption("SVG: the camera button in the chart’s corner.")


def _csv(figure: Figure, source: Source) -> bytes:
    return source.csv(table(figure))


def _json(run: Run, name: str, source: Source) -> str:
    """The stored figure; what it is of as its ``layout.meta``, which runs of earlier versions do not have."""
    figure = run.figure(name)
    figure.update_layout(meta=source.fields())
    return str(figure.to_json())
