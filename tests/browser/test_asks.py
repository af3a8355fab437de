"""What a link, a second tab and a mask say on the page, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.driving import acting, open_page, point_at
from tests.browser.serving import Server


def test_a_pair_that_the_mask_forbids_has_no_number(page: Page, server: Server) -> None:
    open_page(page, server.link(head="16.0", position="4", score="pair", **{"with": "11"}))
    page.locator(".prompt .text > span").nth(12).hover()
    expect(page.locator(".prompt output")).to_have_text("12 ·Brown: masked, no attention is possible")
    point_at(page, 3, 1)
    expect(page.locator(".grid output").first).to_have_text("3.1: masked, no attention is possible")
    expect(page.get_by_text("the mask hides position 11 from position 4").first).to_be_visible()
    hover_cell(page, 4, 11)
    expect(page.locator(".pattern output").first).to_contain_text("→ 11 ·John: masked, no attention is possible")
    hover_cell(page, 11, 4)
    expect(page.locator(".pattern output").first).to_have_text(re.compile(r"^11 .* → 4 .*: 0?\.?\d"))


def hover_cell(page: Page, dest: int, src: int) -> None:
    """Point at a cell of the pattern, whose canvas has its area from the first token on."""
    canvas = page.locator(".pattern canvas").first
    canvas.scroll_into_view_if_needed()
    place = page.locator(".pattern").first.evaluate("(e) => e.place")
    x, y, side = place["x"], place["y"], place["cell"]
    canvas.hover(position={"x": x + (src + 0.5) * side, "y": y + (dest + 0.5) * side})


def test_asking_all_heads_says_which_score_comes_back(page: Page, server: Server) -> None:
    open_page(page, server.link(head="16.0", score="induction", position="11", **{"with": "4"}))
    line = page.get_by_text("they show induction again")
    expect(line).to_have_count(0)
    with acting(page):
        page.locator(".st-key-scope button", has_text="all heads").click()
    expect(line).to_be_visible()
    with acting(page):
        page.locator(".st-key-scope button", has_text="this head").click()
    expect(line).to_have_count(0)


def test_a_second_tab_does_not_overwrite_a_note(page: Page, new_page: Callable[..., Page], server: Server) -> None:
    first, second = open_page(page, server.link(head="5.5")), open_page(new_page(), server.link(head="5.5"))
    for tab, text in ((first, "of the first tab"), (second, "of the second tab")):
        field = tab.get_by_label("Note on head 5.5")
        field.fill(text)
        with acting(tab):
            field.press("Control+Enter")
    expect(second.get_by_text("Changed elsewhere since you opened it")).to_be_visible()
    expect(second.get_by_text("of the first tab", exact=True).first).to_be_visible()
    expect(second.get_by_label("Note on head 5.5")).to_have_value("of the second tab")
    with acting(second):
        second.get_by_role("button", name="Take the text from elsewhere").click()
    expect(second.get_by_label("Note on head 5.5")).to_have_value("of the first tab")
    second.get_by_label("Note on head 5.5").fill("")  # as it was
    with acting(second):
        second.get_by_label("Note on head 5.5").press("Control+Enter")


def test_a_link_that_cannot_be_used_starts_no_task(page: Page, server: Server) -> None:
    open_page(page, server.link(scored="a task", n="100000"))
    expect(page.get_by_text("n=100000, which is out of range (1 to 200). Showing 12.")).to_be_visible()
    expect(page.get_by_role("button", name="Compute the scores on the task")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
