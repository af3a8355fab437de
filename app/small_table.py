"""A small table as plain HTML: a page of many tables is rendered again at each click, and grids that scroll, sort and
are drawn on a canvas would take most of that time."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import pandas as pd
import streamlit as st

from workbench.io.tables import printed


@dataclass(frozen=True)
class SmallTable:
    """A table with a heading above and a line below, all of it one element of the page.

    Attributes:
        frame: numbers are shown with three decimals; None: there is only the line.
    """

    frame: pd.DataFrame | None
    title: str = ""
    note: str = ""

    def html(self) -> str:
        """With its texts as they are: nothing in them is markup."""
        title = f"<h5>{escape(self.title)}</h5>" if self.title else ""
        note = f"<p>{escape(self.note)}</p>" if self.note else ""
        return f"{title}{'' if self.frame is None else as_html(self.frame)}{note}"


def show_tables(*tables: SmallTable) -> None:
    """Tables side by side where there is room; Streamlit renders one element the faster, the fewer there are."""
    st.html(f'<div class="small-tables">{"".join(f"<section>{table.html()}</section>" for table in tables)}</div>')


def show_table(frame: pd.DataFrame) -> None:
    """A table alone."""
    st.html(as_html(frame))


def as_html(frame: pd.DataFrame) -> str:
    """The table; columns of numbers are aligned at the right."""
    ends = [' class="number"' if all(map(_is_number, frame[name])) else "" for name in frame]
    head = "".join(f"<th scope='col'{end}>{escape(str(name))}</th>" for name, end in zip(frame, ends, strict=True))
    columns = [[_text(value) for value in frame[name]] for name in frame]
    rows = (
        "".join(f"<td{end}>{text}</td>" for text, end in zip(row, ends, strict=True))
        for row in zip(*columns, strict=True)
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="small-table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, float)


def _text(value: object) -> str:
    if isinstance(value, float):
        return printed(value, ".3f")
    return "None" if value is None else escape(str(value))
