"""Pages write negative numbers as figures do, with the minus sign of print."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from app.number_table import in_print
from tests.app.circuits import made_runs
from tests.app.heads import rendered
from tests.app.patching import driving

MINUS = "\N{MINUS SIGN}"
#: A hyphen that stands for a minus: before a number and after nothing that belongs to a name, a range or a date.
HYPHEN = re.compile(r"(?<![\w.\-])-\d")


@pytest.fixture(autouse=True)
def queue(inline_queue: driving.InlineQueue) -> driving.InlineQueue:
    return inline_queue


def texts(app: AppTest) -> str:
    """Everything that a page writes; of its components and tables the texts that it is given to draw."""
    kinds = ("markdown", "caption", "warning", "html")
    elements: list[Any] = [element for kind in kinds for element in app.get(kind)]
    lines = [str(element.value).replace("\\", "") for element in elements]
    for data in rendered.grids(app).values():
        lines += strings(data)
    for table in app.dataframe:
        lines += styled(table.proto)
    return re.sub('style="[^"]*"', "", "\n".join(lines))


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from strings(entry)


def styled(proto: Any) -> list[str]:
    """The texts of a table's cells, which Streamlit sends as an Arrow table of their own."""
    if not proto.arrow_data.styler.display_values:
        return []
    frame = pa.ipc.open_stream(proto.arrow_data.styler.display_values).read_pandas()
    return [str(text) for text in frame.to_numpy().ravel()]


def check(app: AppTest) -> None:
    assert not app.exception, app.exception
    text = texts(app)
    assert f"{MINUS}0." in text
    assert not HYPHEN.findall(text), [line for line in text.splitlines() if HYPHEN.search(line)][:3]


def test_the_page_heads() -> None:
    app = AppTest.from_string(rendered.SCRIPT, default_timeout=rendered.TIMEOUT)
    check(rendered.opened(app, score="direct_logit_attribution", head="1.3", compare="", operator="sliding-window"))


def test_the_page_patching() -> None:
    app = driving.new_page()
    app.query_params.update({"n": "6", "set": "1.3", "on": "1"})
    check(driving.run_sweep(app))


def test_the_page_circuits() -> None:
    made_runs.make_run("circuit-reuse", made_runs.committed("circuit-reuse"))
    for part in ("Circuit", "Cross-ablation"):
        check(made_runs.page(**{"circuit-part": part}).run())


def test_a_table_stays_numbers_and_is_written_as_in_print() -> None:
    frame = pd.DataFrame({"token": ["-1", "b"], "n": [3, 120], "value": [-0.12345, float("nan")]})
    assert in_print(frame, ".3f").data.equals(frame)
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", in_print(frame, ".3f").to_html())
    assert cells == ["-1", "3", f"{MINUS}0.123", "b", "120", "None"]
