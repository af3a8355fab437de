"""How results show themselves in a notebook: plain HTML with the picture inside, so that it works without a network."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from workbench.plotting import matplotlib_charts, style
from workbench.plotting.quantity import Quantity

if TYPE_CHECKING:
    from workbench.patching.screen import Screen
    from workbench.results.sweep import Sweep

#: Cells in the table of a sweep.
ROWS = 8


def of_sweep(sweep: Sweep) -> str:
    """Title, baselines, the strongest cells with intervals and p-values, any note, and the picture."""
    quantity = sweep.quantity(None)
    words, ranking = style.chart_text(sweep, quantity), sweep.ranking()
    order = np.argsort(np.where(np.isfinite(ranking), -ranking, np.inf), axis=None, kind="stable")[:ROWS]
    low, high = style.interval(sweep, quantity)
    values, rows = getattr(sweep, quantity), []
    for index in zip(*np.unravel_index(order, ranking.shape), strict=True):
        if np.isfinite(ranking[index]):
            value, interval = f"{Quantity(*(float(x[index]) for x in (values, low, high))):.3f}".split(" ", 1)
            rows.append((sweep.name(index), value, interval, style.p_text(float(sweep.p_value[index]))))
    return "".join(
        [
            f"<div><b>{escape(words.title)}</b><br>{escape(words.subtitle)}<br>{escape(sweep.baseline_note)}<br>",
            f"<i>{escape(sweep.effect_note)}</i>" if sweep.effect_note else "",
            html_table(("cell", quantity.replace("_", " "), "95 %", "p"), rows),
            image(matplotlib_charts.image(sweep.picture(quantity), dpi=90), "picture of the sweep"),
            "</div>",
        ]
    )


def of_screen(screen: Screen) -> str:
    """What was run, and the exact half."""
    return f"<p>{escape(screen.words)}.</p>{of_sweep(screen.exact)}"


def html_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """An HTML table of texts, escaped."""

    def line(tag: str, cells: tuple[str, ...]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    return f"<table>{line('th', head)}{''.join(line('td', row) for row in rows)}</table>"


def image(png: bytes, alternative: str) -> str:
    """A PNG inside the page itself."""
    return f'<img alt="{escape(alternative)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
