"""Zooming into a pattern with keys, in a real browser: each press starts from what the one before it shows."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.driving import acting, open_page, wait_rendered
from tests.browser.serving import Server
from tests.browser.test_asking import query

WORDS = 32
PROMPT = " ".join(f"{word} and" for word in ["Mary", "John", "Paul", "Anna"] * (WORDS // 4))
LENGTH = 2 * WORDS
MIDDLE = LENGTH // 2


def after(presses: int) -> str:
    """The ranges after some presses at the middle: a quarter of what is shown to each side."""
    first, end = 0, LENGTH
    for _ in range(presses):
        reach = max(2, (end - first) // 4)
        first, end = max(first, MIDDLE - reach), min(end, MIDDLE + reach + 1)
    return ",".join([f"{first}-{end - 1}"] * 2)


def test_two_presses_at_once_are_two_presses_one_after_the_other(page: Page, server: Server) -> None:
    open_page(page, server.link(prompt=PROMPT, head="16.0", position=str(MIDDLE), **{"with": str(MIDDLE)}))
    pattern = page.locator(".st-key-pattern .pattern")
    assert pattern.evaluate("(e) => e.drawn.rows.length") == LENGTH and after(2) == "24-40,24-40"
    with acting(page):  # a page's first rerun makes all of it anew, and the focus is lost
        page.locator(".st-key-colours button", has_text="square root").click()
    for pause in (1_000, 0):
        pattern.focus()
        for presses in (1, 2):
            page.keyboard.press("+")
            page.wait_for_timeout(pause)
            if pause:
                page.wait_for_url(re.compile(rf"zoom={after(presses).replace(',', '%2C')}"))
        page.wait_for_url(re.compile(rf"zoom={after(2).replace(',', '%2C')}"))
        wait_rendered(page)
        expect(pattern.locator("button")).to_be_visible()
        assert query(page)["zoom"] == after(2) and pattern.evaluate("(e) => e.drawn.rows.length") == 17
        pattern.focus()
        page.keyboard.press("Escape")
        page.wait_for_url(lambda url: "zoom=" not in url)
        expect(pattern.locator("button")).to_be_hidden()
