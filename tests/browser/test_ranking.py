"""Heads ranked, in the browser: a click, the keyboard, the grid and the back button agree on the open head."""

from __future__ import annotations

import io
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from playwright.sync_api import Locator, Page, expect

import workbench as wb
from app import sidebar
from tests.browser.driving import acting, click_head, downloaded, open_page, wait_head
from tests.browser.serving import Server


def rows(page: Page) -> Locator:
    return page.locator(".ranking tbody tr")


def names(page: Page) -> list[str]:
    return [text.split("\t")[1] for text in rows(page).all_inner_texts()]


def selected(page: Page) -> list[str]:
    return [text.split("\t")[1] for text in page.locator(".ranking tr[aria-selected=true]").all_inner_texts()]


def head_in_url(page: Page) -> str:
    return parse_qs(urlsplit(page.url).query)["head"][0]


@pytest.fixture(scope="module")
def expected() -> list[str]:
    """The heads in the library's ranking of the first prompt."""
    return wb.scores_on(wb.load(), sidebar.DEFAULT_PROMPT).ranking("induction")["head"].tolist()


@pytest.fixture
def ranking_page(page: Page, server: Server) -> Page:
    return open_page(page, server.link(score="induction", head="29.1"))


def test_the_rows_are_the_librarys_and_a_click_anywhere_opens_the_head(ranking_page: Page, expected: list[str]) -> None:
    page = ranking_page
    assert names(page) == expected and selected(page) == ["29.1"]
    for i, column in ((2, 0), (0, 3), (0, 1)):  # the second time it is open already, and stays open
        rows(page).nth(i).locator("td").nth(column).click()
        wait_head(page, *map(int, expected[i].split(".")))
        assert selected(page) == [expected[i]] == [head_in_url(page)]
    page.go_back()
    wait_head(page, *map(int, expected[2].split(".")))
    assert selected(page) == [expected[2]]


def test_the_keyboard_moves_without_opening_and_enter_opens(ranking_page: Page, expected: list[str]) -> None:
    page = ranking_page
    page.locator(".ranking").focus()
    for key in ("Home", "ArrowDown", "ArrowDown", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    assert selected(page) == ["29.1"] and page.locator(".ranking tr.active").count() == 1
    page.keyboard.press("Enter")
    wait_head(page, *map(int, expected[2].split(".")))
    page.keyboard.press("ArrowDown")  # the focus has stayed
    page.keyboard.press("Enter")
    wait_head(page, *map(int, expected[3].split(".")))
    assert selected(page) == [expected[3]]


def test_the_grid_moves_the_table_to_its_head(ranking_page: Page) -> None:
    page = ranking_page
    click_head(page, 3, 3)
    row = page.locator(".ranking tr[aria-selected=true]")
    assert selected(page) == ["3.3"]
    boxes = [each.bounding_box() for each in (row, page.locator(".ranking"))]
    assert boxes[0] and boxes[1] and boxes[1]["y"] <= boxes[0]["y"]
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"] + boxes[1]["height"] + 1


def test_the_filter_and_the_download(ranking_page: Page, expected: list[str]) -> None:
    page = ranking_page
    with acting(page):
        page.locator(".st-key-ranked input").fill("L17H4, 29")
        page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(10)
    assert set(names(page)) == {"17.4", *(f"29.{j}" for j in range(9))} and selected(page) == ["29.1"]
    frame = pd.read_csv(io.BytesIO(downloaded(page, "ranking-csv")[1]))
    assert [str(wb.Head.parse(name)) for name in frame["head"]] == expected and set(frame["prompt"]) == {
        sidebar.DEFAULT_PROMPT
    }


def test_no_number_is_cut_on_a_narrow_screen(ranking_page: Page) -> None:
    page = ranking_page
    page.set_viewport_size({"width": 1024, "height": 900})
    cut = "(cells) => cells.filter((cell) => cell.scrollWidth > cell.clientWidth).length"
    assert page.locator(".ranking td, .ranking th").evaluate_all(cut) == 0
    assert page.locator(".ranking").evaluate("(table) => table.scrollWidth <= table.clientWidth")
