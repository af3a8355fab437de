"""The tables of the page Heads that are plain HTML."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pandas as pd
from streamlit.testing.v1 import AppTest

#: Half of the last decimal that a table shows, and a little.
ROUNDED = 5.1e-4


class _Tables(HTMLParser):
    """The cells of every table, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_data(self, data: str) -> None:
        if self.tables and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += data


def small_tables(app: AppTest) -> list[pd.DataFrame]:
    """The tables that are plain HTML, as they can be read: numbers have three decimals."""
    parser = _Tables()
    for element in app.html:
        parser.feed(element.value)
    frames = [pd.DataFrame(rows, columns=names) for names, *rows in parser.tables]
    return [pd.DataFrame({name: _numbers(frame[name]) for name in frame}) for frame in frames]


def _numbers(column: Any) -> Any:
    try:
        return column.replace({"–": "nan", "None": "nan"}).replace("\N{MINUS SIGN}", "-", regex=True).astype(float)
    except ValueError:
        return column
