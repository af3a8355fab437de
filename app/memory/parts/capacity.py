"""Capacity curves: how the error of associative memories grows with the number of stored pairs, beside their laws."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import streamlit as st

import workbench as wb
from app import url_widgets
from app.downloadable import DPI, PLOTLY_CONFIG, download_buttons
from app.memory.view import View
from app.messages import escape_markdown
from app.part import ABOVE, Part
from app.small_table import show_table
from probes.memory.criteria import CRITERIA
from probes.memory.memory import Memory
from workbench.io.files import jsonable
from workbench.plotting import matplotlib_charts
from workbench.registry import MEMORY_RULES
from workbench.results.memory_curves import MemoryCurves

RULE, BESIDE, CRITERION, KEYS = "memory-rule", "memory-beside", "memory-criterion", "memory-keys"
WIDTH, LARGEST, STORED = "memory-d", "memory-n", "memory-stored"
NO_OTHER = "none"
WIDTHS = ("16", "32", "64", "128", "256")
KINDS_OF_KEYS = ("random", "spectrum(exponent=1)", "shared-mean(share=0.25)")
#: Trials of each load, and loads of a curve, besides the one that is read off.
TRIALS, LOADS = 50, 8
#: Curves that stay in memory.
MAX_CURVES = 32


def render(view: View) -> None:
    """The part."""
    rules = MEMORY_RULES.names()
    columns = st.columns(4)
    with columns[0]:
        rule = url_widgets.select("Rule", rules, RULE, default="delta", format_func=_title)
    with columns[1]:
        others = (NO_OTHER, *(name for name in rules if name != rule))
        beside = url_widgets.select("Beside it", others, BESIDE, format_func=_title)
    with columns[2]:
        criterion = url_widgets.select("Criterion", tuple(CRITERIA), CRITERION)
    with columns[3]:
        keys = url_widgets.select("Keys", KINDS_OF_KEYS, KEYS)
    columns = st.columns([2, 3, 3])
    with columns[0]:
        d = int(url_widgets.select("Dimensions d", WIDTHS, WIDTH, default="64"))
    with columns[1]:
        largest = url_widgets.slider("Pairs n, at most", 8, 512, LARGEST, 256)
    with columns[2]:
        stored = url_widgets.slider("Pairs n, in the table", 2, largest, STORED, min(64, largest))
    loads = curve_loads(largest, stored)
    chosen = [rule] if beside == NO_OTHER else [rule, beside]
    curves = _curves(tuple(chosen), d, loads, criterion, keys)
    figure = replace(curves.chart, note="", source=None).figure()  # the notes are below
    figure.add_vline(x=stored, line={"width": 1, "dash": "dot", "color": "#888"})
    st.plotly_chart(figure, key="memory-capacity", config=PLOTLY_CONFIG)
    _read_off(curves, stored, d)
    download_buttons(CurvesFigure(curves), "memory-capacity", f"memory-{'-'.join(chosen)}-{criterion}")


def curve_loads(largest: int, stored: int) -> tuple[int, ...]:
    """Numbers of pairs in even ratios from 2 to the largest, and the one that is read off."""
    spaced = np.unique(np.geomspace(2, largest, LOADS).round().astype(int)).tolist()
    return tuple(sorted({*spaced, stored}))


def _title(rule: str) -> str:
    return rule if rule == NO_OTHER else f"{rule}: {MEMORY_RULES[rule].title}"


@st.cache_resource(max_entries=MAX_CURVES, show_spinner="Storing pairs and reading them …")
def _curves(rules: tuple[str, ...], d: int, loads: tuple[int, ...], criterion: str, keys: str) -> MemoryCurves:
    first, *others = (wb.memory(rule, d=d, n=loads, trials=TRIALS, criterion=criterion, keys=keys) for rule in rules)
    return first.beside(*others)


def _read_off(curves: MemoryCurves, stored: int, d: int) -> None:
    """The numbers at one load, and what a reader has to know."""
    table = curves.table()
    rows = table[table["n"] == stored].drop(columns=["n", "standard_error"])
    source = {rule: MEMORY_RULES[rule.partition("(")[0]].source for rule in curves.curves}
    st.markdown(f"**{stored} pairs in {d} dimensions: a load of {stored / d:.3g}**")
    show_table(pd.DataFrame(rows))
    for note in curves.notes:
        st.caption(escape_markdown(note))
    for rule, text in source.items():
        settings = ", ".join(f"{name} = {value}" for name, value in Memory(rule).settings.items())
        st.caption(escape_markdown(": ".join(filter(None, [rule, settings, text]))))


@dataclass(frozen=True, eq=False)
class CurvesFigure:
    """The figure's downloads."""

    curves: MemoryCurves

    def image(self, ending: str) -> bytes:
        """As ``png`` or ``svg``."""
        return matplotlib_charts.image(self.curves.picture(), ending, DPI)

    def csv(self) -> bytes:
        """The table of all rules, and of what they are in the last columns."""
        info = next(iter(self.curves.curves.values())).info
        facts = {name: info[name] for name in ("criterion", "d", "d_value", "keys", "passes", "trials", "seed")}
        return self.curves.source.csv(self.curves.table().assign(**facts))

    def json(self) -> bytes:
        """The same, with the notes and the laws' formulas."""
        return json.dumps(jsonable({**self.curves.json(), **self.curves.source.fields()}), ensure_ascii=False).encode()


HELP = (
    "**Capacity curves**: random pairs of a key and a value are written into an associative memory and read with the "
    "stored keys; no model is needed. Points are means over trials with 95 % intervals, the line is the law: exact in "
    "expectation or an approximation, as the notes say. *Criterion*: what is measured of what is read. *Keys*: "
    "uniformly random, or alike in one of two ways."
)
part = Part("capacity", 10, ABOVE, render, ("language", "vision", "diffusion"), HELP)
