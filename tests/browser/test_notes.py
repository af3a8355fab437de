"""Notes in the browser: typed, there after a reload, seen by a second session, downloaded."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.browser import driving
from tests.browser.contrast import too_faint
from tests.browser.driving import click_head, open_page, wait_head
from tests.browser.serving import Server

HOSTILE = "<img src=x onerror=alert(1)> **b** [l](javascript:alert(1)) $x$"


def field(page: Page, head: str) -> Locator:
    return page.get_by_label(f"Note on head {head}")


def tags(page: Page) -> Locator:
    return page.get_by_role("combobox", name="Tags")


def add_tag(page: Page, tag: str) -> None:
    tags(page).fill(tag)
    with driving.acting(page):
        tags(page).press("Enter")
    tags(page).press("Escape")


def test_a_note_is_typed_and_there_after_a_reload(page: Page, server: Server) -> None:
    open_page(page, server.link(head="3.1"))
    field(page, "3.1").fill(HOSTILE)
    with driving.acting(page):
        field(page, "3.1").press("Control+Enter")
    expect(page.get_by_text("Saved.")).to_be_visible()
    add_tag(page, "**mover**")
    assert "mover" not in page.url and "alert" not in page.url
    open_page(page, page.url)
    expect(field(page, "3.1")).to_have_value(HOSTILE)
    expect(page.get_by_text("**mover**", exact=True).first).to_be_visible()
    assert page.locator(".stMainBlockContainer img[src=x]").count() == 0


def test_what_is_typed_is_saved_by_the_click_that_opens_another_head(page: Page, server: Server) -> None:
    open_page(page, server.link(head="3.1"))
    field(page, "3.1").press_sequentially(" and more")  # not entered
    click_head(page, 12, 3)
    expect(field(page, "12.3")).to_have_value("")
    click_head(page, 3, 1)
    expect(field(page, "3.1")).to_have_value(f"{HOSTILE} and more")


def test_a_second_session_sees_it_and_both_write(page: Page, new_page: Callable[..., Page], server: Server) -> None:
    other = open_page(new_page(), server.link(head="20.0"))
    for session, head, text in ((page, "3.1", "first"), (other, "20.0", "second")):
        field(session, head).fill(text)
        with driving.acting(session):
            field(session, head).press("Control+Enter")
    click_head(page, 20, 0)
    expect(field(page, "20.0")).to_have_value("second")
    notes = json.loads(driving.downloaded(page, "notes-json")[1])
    assert {note["head"]: note["text"] for note in notes["notes"]} == {"3.1": "first", "20.0": "second"}


def test_the_list_opens_a_head_and_the_table_has_links(page: Page, server: Server) -> None:
    open_page(page, server.link(head="7.7"))
    table = page.locator("[class*=st-key-notes-list] .dvn-scroller").first
    table.evaluate("(box) => box.scrollIntoView({block: 'center'})")
    table.click(position={"x": 20, "y": 35 + 17})  # below the header: the first row
    wait_head(page, 3, 1)
    name, data = driving.downloaded(page, "notes-csv")
    rows: dict[str, Any] = {row["head"]: row for row in csv.DictReader(io.StringIO(data.decode(), newline=""))}
    assert name == "notes-smollm2-135m-instruct-q4.csv" and list(rows) == ["L3H1", "L20H0"]
    assert rows["L3H1"]["tags"] == "**mover**"
    assert rows["L20H0"]["link"].startswith(f"{server.url.rstrip('/')}/?")
    open_page(page, rows["L20H0"]["link"])  # as from a mail
    wait_head(page, 20, 0)
    expect(field(page, "20.0")).to_have_value("second")


def test_the_page_by_day_and_night_and_on_a_narrow_screen(new_page: Callable[..., Page], server: Server) -> None:
    for size, theme in (((1440, 900), "light"), ((1440, 900), "dark"), ((1024, 768), "light"), ((1024, 768), "dark")):
        opened = open_page(new_page(size, theme), server.link(head="3.1"))
        for part in (field(opened, "3.1"), tags(opened), opened.locator(".st-key-notes-json button")):
            part.scroll_into_view_if_needed()
            box = part.bounding_box()
            assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= size[0]
        words = ("mover", "Note", "Tags", "Changed", "tagged", "All heads")
        assert not [text for text in too_faint(opened) if any(word in text for word in words)]
        driving.shot(opened, f"notes-{size[0]}-{theme}")
