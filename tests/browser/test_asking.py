"""Asking from a token, in a real browser: what a click, a key or a drag asks, against Hugging Face's patterns."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, Position, expect

from app import sidebar
from tests.browser.driving import acting, click_head, open_page, wait_rendered
from tests.browser.serving import Server
from tests.browser.test_heads_page import CLOSE, data_of, pattern_of, unmasked

PROMPT = sidebar.DEFAULT_PROMPT
MIXED = "the\n\tcat 安 \N{WOMAN}\u200d\N{WOMAN}\u200d\N{GIRL} مرحبا <b>e\u0301</b>"
LONG = " ".join(f"{word} and" for word in ["Mary", "John", "Paul", "Anna"] * 128)


def query(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query, keep_blank_values=True).items()}


def token(page: Page, piece: int) -> Locator:
    return page.locator(".prompt .text > span").nth(piece)


def marked(page: Page, name: str) -> str:
    return page.locator(f".prompt .text > span.{name}").inner_text()


def asks(page: Page, position: int, pair: int | None = None) -> None:
    page.wait_for_url(re.compile(rf"[?&]position={position}\b"))
    if pair is not None:
        page.wait_for_url(re.compile(rf"[?&]with={pair}\b"))
    wait_rendered(page)


@pytest.fixture(scope="module")
def opened(page: Page, server: Server) -> Page:
    return open_page(page, server.link(head="16.0", position="11", **{"with": "4"}))


def test_a_clicked_token_is_asked_about_and_its_number_is_hugging_faces(opened: Page) -> None:
    with acting(opened):
        token(opened, 15).click()
    asks(opened, 15)
    assert marked(opened, "asking").strip() == "drink"
    expect(opened.locator(".prompt .question")).to_have_text("What does 15 ·drink attend to?")
    token(opened, 14).hover()
    weight = pattern_of(PROMPT, 16, 0)[15, 14]
    expect(opened.locator(".prompt output")).to_have_text(f"14 ·a: {float(f'{weight:.3g}'):g}")
    with acting(opened):
        token(opened, 6).click(modifiers=["Shift"])
    asks(opened, 15, 6)
    assert marked(opened, "pair").strip() == "went"


def test_keys_move_along_the_tokens_and_ask(opened: Page) -> None:
    opened.locator(".prompt").focus()
    for key in ("Home", *4 * ["ArrowRight"]):
        opened.keyboard.press(key)
    assert marked(opened, "at").strip() == "John"
    with acting(opened):
        opened.keyboard.press("Enter")
    asks(opened, 4)
    opened.keyboard.press("End")
    with acting(opened):
        opened.keyboard.press("Shift+Enter")
    asks(opened, 4, 17)


def test_who_attends_to_it_in_all_heads_is_hugging_faces(opened: Page) -> None:
    for key, name in (("role", "Who attends to it?"), ("scope", "all heads")):
        with acting(opened):
            opened.locator(f".st-key-{key} button", has_text=name).click()
    assert query(opened)["score"] == "pair"
    expect(opened.locator(".grid figcaption")).to_have_text("Attention from 17 ·Mary to 4 ·John")
    for layer, head in ((17, 4), (23, 3)):
        click_head(opened, layer, head)
        weight = pattern_of(PROMPT, layer, head)[17, 4]
        number = float(opened.locator(".grid output").inner_text().split(": ")[1].split(" ")[0])
        assert number == pytest.approx(weight, rel=6e-3, abs=CLOSE)
    with acting(opened):
        opened.locator(".st-key-scope button", has_text="this head").click()
    assert query(opened)["score"] == "previous_token"
    with acting(opened):
        opened.locator(".st-key-role button", has_text="What does it attend to?").click()


def test_a_clicked_cell_of_the_pattern_chooses_the_pair(opened: Page) -> None:
    canvas = opened.locator(".pattern canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    place: Position = {"x": box["width"] * 0.6, "y": box["height"] * 0.3}
    canvas.hover(position=place)
    text = opened.locator(".pattern output").first.inner_text()
    dest, src = map(int, re.findall(r"(?:^|→ )(\d+) ", text))
    with acting(opened):
        canvas.click(position=place)
    asks(opened, dest, src)
    opened.locator(".pattern").first.focus()
    opened.keyboard.press("ArrowDown")
    with acting(opened):
        opened.keyboard.press("Enter")
    asks(opened, dest + 1, src)


def test_text_is_as_people_write_it(server: Server, new_page: Callable[..., Page]) -> None:
    page = open_page(new_page(), server.link(prompt=MIXED, head="16.0"))
    text = page.locator(".prompt .text").evaluate(
        "(box) => [...box.children].map((span) => [...span.childNodes].filter((n) => n.nodeName === '#text')"
        ".map((n) => n.data).join('')).join('')"
    )
    assert text == MIXED
    family = page.locator(".prompt .text > span", has_text="\N{GIRL}")
    expect(family).to_have_count(1)
    family.hover()
    assert page.locator(".prompt output").inner_text().count("\n") > 5  # a line for each of its tokens
    expect(page.locator(".prompt output")).to_contain_text("<0xF0><0x9F>")
    with acting(page):
        family.click()
    first = int(query(page)["position"])
    with acting(page):
        family.click()  # of several tokens the next
    assert int(query(page)["position"]) < first
    assert page.locator(".prompt .text").locator("b").count() == 0


def test_1024_tokens_are_zoomed_by_dragging(server: Server, new_page: Callable[..., Page]) -> None:
    page = open_page(new_page(), server.link(prompt=LONG, head="16.0", colours="square root"))
    canvas = page.locator(".pattern canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 200, steps=4)
    with acting(page):
        page.mouse.up()
    match = re.fullmatch(r"(\d+)-(\d+),(\d+)-(\d+)", query(page)["zoom"])
    assert match is not None
    top, bottom, left, right = map(int, match.groups())
    values, expected = data_of(page)["values"], unmasked(pattern_of(LONG, 16, 0))
    np.testing.assert_allclose(values, expected[top : bottom + 1, left : right + 1], atol=CLOSE)
    with acting(page):
        page.locator(".pattern button").click()
    assert query(page)["zoom"] == ""
    with acting(page):
        token(page, 20).click()
    asks(page, 20)
