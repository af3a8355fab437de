"""The text of a prompt as HTML: as people write it, with marks that are not part of it, legible in both themes."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from workbench.io.written_text import Piece, pieces_of_labels
from workbench.plotting import shaded_text as module
from workbench.plotting.colour_scale import ColourScale
from workbench.plotting.shaded_text import ASKING, BEGIN, shaded_text

#: Background and text colours of Streamlit's and Jupyter's themes.
THEMES = {
    "light": ((255, 255, 255), (49, 51, 63)),
    "dark": ((14, 17, 23), (250, 250, 250)),
    "jupyter": ((17,) * 3, (255,) * 3),
}


class Text(HTMLParser):
    """What is copied of a page: all text that is not an aside."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.spans, self._asides = "", [], 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        properties = dict(attrs)
        self._asides += 1 if self._asides or "aria-hidden" in properties else 0
        if "title" in properties:
            self.spans.append((properties["title"], properties["style"] or ""))

    def handle_endtag(self, tag: str) -> None:
        self._asides = max(0, self._asides - 1)

    def handle_data(self, data: str) -> None:
        self.text += "" if self._asides else data


def parsed(html: str) -> Text:
    text = Text()
    text.feed(html.split("</div>")[0])
    return text


def test_the_text_is_as_written_and_marks_are_not_copied() -> None:
    texts = ["When", " Mary", "\n\n", "\t", " 安", "", "<b>", "\r\n", "&amp;", "مرحبا"]
    text = parsed(shaded_text(pieces_of_labels(texts), texts, np.zeros(len(texts))))
    assert text.text == "".join(texts) and len(text.spans) == len(texts)
    html = shaded_text(pieces_of_labels(texts), texts, np.zeros(len(texts)))
    assert html.count("⏎") == 3 and html.count("∅") == 1 and "white-space:pre-wrap" in html


def test_a_token_begins_at_a_line_that_takes_no_room_on_the_side_where_it_is_read_first() -> None:
    spans = parsed(shaded_text(pieces_of_labels(["a", " مر"]), ["a", " مر"], np.zeros(2))).spans
    assert f"inset 1px 0 0 {BEGIN}" in spans[0][1] and f"inset -1px 0 0 {BEGIN}" in spans[1][1]
    assert not any(word in style for _, style in spans for word in ("border", "padding", "margin"))


def test_tokens_of_one_character_have_one_shade_and_all_their_numbers() -> None:
    pieces, labels = (Piece("a", (0,), (0,)), Piece("安", (1, 2), (0, 0))), ["a", "<0xE5>", "<0x89>"]
    (_, _), (title, style) = parsed(shaded_text(pieces, labels, np.array([0.1, 0.2, 0.6]), asking=2)).spans
    assert title == "1 '<0xE5>': 0.200\n2 '<0x89>': 0.600"
    assert f",{0.7 * 0.6:.3f})" in style and ASKING in style


def test_one_position_is_marked_and_the_legend_has_the_scale() -> None:
    labels = ["a", "b", "c"]
    html = shaded_text(pieces_of_labels(labels), labels, np.array([0, 1, np.nan]), asking=1, what="mean weight")
    assert [ASKING in style for _, style in parsed(html).spans] == [False, True, False]
    assert [re.search(r",([\d.]+)\)", style)[1] for _, style in parsed(html).spans] == ["0.000", "0.700", "0.000"]  # type: ignore[index] - it is found
    assert all(f">{tick}</span>" in html for tick in ("0", "0.25", "0.5", "0.75", "1")) and "mean weight" in html
    log = shaded_text(pieces_of_labels(labels), labels, np.zeros(3), scale=ColourScale("log"))
    assert "log colours down to 0.0001" in log and "≤ 0.0001" in log


@pytest.mark.parametrize("theme", THEMES)
def test_text_is_legible_on_every_shade(theme: str) -> None:
    """Contrast of at least 4.5 by the formula of WCAG 2."""
    background, text = THEMES[theme]
    for share in np.linspace(0, 1, 21):
        alpha = module.OPACITY * share
        shade = np.array([module.RED, module.GREEN, module.BLUE])
        mixed = alpha * shade + (1 - alpha) * np.array(background)
        low, high = sorted([luminance(mixed), luminance(text)])
        assert (high + 0.05) / (low + 0.05) >= 4.5


def luminance(colour: object) -> float:
    c = np.array(colour) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
