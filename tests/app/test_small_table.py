"""Small tables as HTML: what is text stays text, and numbers have three decimals."""

from __future__ import annotations

import pandas as pd

from app.small_table import SmallTable, as_html


def test_tokens_are_no_markup_and_numbers_are_rounded() -> None:
    html = as_html(pd.DataFrame({"token": ["<b>", " a&b"], "p <": [0.12345, -0.00001]}))
    assert "&lt;b&gt;" in html and "<b>" not in html and " a&amp;b" in html and "p &lt;" in html
    assert ">0.123<" in html and ">0.000<" in html


def test_numbers_and_gaps_between_them_are_aligned_at_the_right() -> None:
    html = as_html(pd.DataFrame({"a": [0.5, None], "b": ["x", "1.5"]}, dtype=object))
    assert html.count('class="number"') == 3 and ">None<" in html
    assert ">–<" in as_html(pd.DataFrame({"a": [float("nan")]}))


def test_heading_and_note_are_no_markup_and_a_table_may_be_missing() -> None:
    html = SmallTable(None, "a < b", "<i>").html()
    assert html == "<h5>a &lt; b</h5><p>&lt;i&gt;</p>"
    assert "<table>" in SmallTable(pd.DataFrame({"a": ["x"]})).html()
