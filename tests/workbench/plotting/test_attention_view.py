"""One head's attention to look at: the model's own pattern, with its tokens, and nothing in them is run by a page."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from tests.families import hooked
from workbench.errors import UsageError
from workbench.plotting.attention_view import visible

TEXT = "When Anna and Paul went out, Paul gave a rose to"


class Cells(HTMLParser):
    """The titles of a page's cells and spans, and every tag there is."""

    def __init__(self) -> None:
        super().__init__()
        self.titles: dict[str, list[str]] = {"td": [], "span": []}
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        title = dict(attrs).get("title")
        if tag in self.titles and title is not None:
            self.titles[tag].append(title)


def read(view: wb.Attention) -> Cells:
    cells = Cells()
    cells.feed(view._repr_html_())
    return cells


def test_the_pattern_is_hugging_faces() -> None:
    model = wb.load("tiny")
    view = wb.attention_view(model, TEXT, 1, 2)
    ids = model.to_tokens(TEXT)
    model.hf.set_attn_implementation("eager")
    expected = model.hf(ids, output_attentions=True).attentions[1][0, 2]
    np.testing.assert_allclose(view.pattern, expected.detach().numpy(), atol=1e-5)
    assert view.tokens == tuple(model.to_str_tokens(TEXT)) and view.head == wb.Head(1, 2)


def test_a_notebook_shows_every_weight_beside_its_tokens() -> None:
    view = wb.attention_view(wb.load("tiny"), TEXT, 0, 1)
    cells, n = read(view), len(view.tokens)
    assert len(cells.titles["td"]) == n * (n + 1) // 2
    assert len(cells.titles["span"]) == n
    dest, src = n - 1, 3
    title = f"{dest} {view.tokens[dest]!r} to {src} {view.tokens[src]!r}: {view.pattern[dest, src]:.3f}"
    assert title in cells.titles["td"]
    assert f"{src} {view.tokens[src]!r}: {view.pattern[-1, src]:.3f}" in cells.titles["span"]


def test_a_long_prompt_shows_a_picture() -> None:
    pattern = np.tril(np.ones((80, 80))) / np.arange(1, 81)[:, None]
    cells = read(wb.Attention(tuple("x" * 80), pattern, wb.Head(0, 0)))
    assert "img" in cells.tags and not cells.titles["td"] and len(cells.titles["span"]) == 80


def test_tokens_are_text_and_nothing_else() -> None:
    hostile = ("<script>alert(1)</script>", '" onmouseover="x', "&amp;", "\n")
    pattern = np.full((4, 4), 0.25)
    html = wb.Attention(hostile, pattern, wb.Head(0, 0), "<b>")._repr_html_()
    cells = Cells()
    cells.feed(html)
    assert (
        "script" not in cells.tags and 'onmouseover="x"' not in html and "<b>" not in html.replace("<b>Attention", "")
    )
    assert len(cells.titles["td"]) == 16  # every position sees every other here


def test_the_table_of_a_destination() -> None:
    pattern = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.7, 0.1]])
    view = wb.Attention(("a", " b", "c"), pattern, wb.Head(3, 1))
    table = view.table(k=2)
    assert table["source"].tolist() == [1, 0] and table["token"].tolist() == [" b", "a"]
    assert view.table(0)["weight"].tolist() == [1, 0, 0]
    table = view.table(src=1)
    assert table["destination"].tolist() == [2, 1, 0] and table["weight"].tolist() == [0.7, 0.5, 0]
    with pytest.raises(UsageError, match="src=1: expected None, because dest is given"):
        view.table(0, src=1)
    assert repr(view) == "Attention(head 3.1, 3 tokens; the last attends to ' b' 0.70, 'a' 0.20, 'c' 0.10)"
    with pytest.raises(UsageError, match="dest=3: expected a whole number from -3 to 2"):
        view.table(3)


@pytest.mark.parametrize(("position", "role"), [(2, "destination"), (-2, "source"), (0, "source")])
def test_the_text_is_shaded_by_what_a_position_attends_to_or_by_who_attends_to_it(position: int, role: str) -> None:
    pattern = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.7, 0.1]])
    view = wb.Attention(("a", " b", "c"), pattern, wb.Head(3, 1))
    html = view.html(position, role)
    cells = Cells()
    cells.feed(html)
    weights = pattern[position] if role == "destination" else pattern[:, position]
    expected = [f"{i} {view.tokens[i]!r}: {weight:.3f}" for i, weight in enumerate(weights)]
    assert cells.titles["span"] == expected
    name = ["0 a", "1 ·b", "2 c"][position]
    assert (f"What does {name} attend to?" if role == "destination" else f"Who attends to {name}?") in html
    with pytest.raises(UsageError, match="role='key': expected"):
        view.html(0, "key")


def test_long_patterns_are_pooled_to_what_can_be_seen() -> None:
    n = 1000
    pattern = np.zeros((n, n))
    pattern[777, 123], pattern[999, 998] = 0.4, 0.9
    view = wb.Attention(tuple("x" * n), pattern, wb.Head(0, 0))
    trace = view.figure(colours="square root").to_dict()["data"][0]
    assert trace["xgap"] == trace["ygap"] == 0 and np.shape(trace["z"]) == (334, 334)
    assert trace["customdata"][777 // 3][123 // 3] == 0.4 and trace["z"][333][332] == pytest.approx(0.9**0.5)
    assert trace["x"][1] == "3–5 x" and len(trace["x"]) == 334


def test_ids_in_place_of_a_text_and_heads_that_are_none() -> None:
    model = hooked("llama")
    view = wb.attention_view(model, torch.arange(6), 2, 5)
    assert view.tokens == tuple("012345") and view.pattern.shape == (6, 6)
    cases: list[tuple[int, Any, str]] = [
        (0, 6, "head=6: expected a head from 0 to 5"),
        (0, -1, "head=-1: expected a head from 0 to 5"),
        (3, 0, "expected a layer from 0 to 2"),
        (0, "1", "number"),
    ]
    for layer, head, message in cases:
        with pytest.raises(UsageError, match=message):
            wb.attention_view(model, [1, 2], layer, head)
    assert view.picture().axes and view.figure().to_dict()["data"][0]["type"] == "heatmap"


@pytest.mark.parametrize(
    ("token", "label"),
    [
        (" the", "·the"),
        ("  the", "··the"),
        (" ", "·"),
        ("    ", "····"),
        ("        ", "·×8"),
        ("         return", "·×9return"),
        ("the ", "the·"),
        (" \n  ", "·⏎··"),
        ("\t\r\n", "⇥␍⏎"),
        ("a b", "a b"),
        ("", ""),
    ],
)
def test_spaces_of_labels_can_be_counted(token: str, label: str) -> None:
    assert visible(token) == label


def test_no_two_tokens_of_spaces_have_one_label() -> None:
    tokens = [" " * n for n in range(40)]
    assert len({visible(token) for token in tokens}) == len(tokens)
