"""Lists of chips, in a real browser: what is below them stays where it is while they are left."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.browser.driving import open_page
from tests.browser.serving import Server

HEIGHTS = """(root) => {
  const input = root.querySelector("input:not(template *)"), found = [];
  for (let width = 180; width <= 420; width += 8) {
    root.style.width = `${width}px`;
    input.focus();
    if (!input.matches(":focus")) throw new Error("no focus");
    const focused = root.getBoundingClientRect().height;
    input.blur();
    found.push([width, focused, root.getBoundingClientRect().height]);
  }
  root.style.width = "";
  return found;
}"""


def test_a_list_of_chips_is_as_high_with_the_focus_as_without(page: Page, server: Server) -> None:
    """At any width: where the last line is full, the place to type in is a line of its own."""
    open_page(page, server.link("patching", set=",".join(f"{layer}.1" for layer in range(12))))
    heights = page.locator(".st-key-heads-picked").evaluate(HEIGHTS)
    assert len({focused for _, focused, _ in heights}) > 1  # one line, two, …
    assert [width for width, focused, left in heights if focused != left] == []
