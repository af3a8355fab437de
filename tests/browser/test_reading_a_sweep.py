"""What a reader of a grid needs, in a real browser: baselines, frames that can be told apart, whole grids side by side,
hints beside what is typed, and a link to take home."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

import workbench as wb
from tests.browser.driving import LEFT, LONG_WAIT, TOP, acting, open_page, wait_rendered
from tests.browser.serving import Server
from workbench.models.catalog import DEFAULT

#: The frame of the open head and that of the heads of a set, as ``head_grid.js`` draws them.
OPEN, MARKED = (0, 0, 0), (230, 159, 0)
#: All colours of a cell of a grid's canvas and two pixels around it, as ``"r,g,b"``.
_COLOURS = """(canvas, [left, top, layers, layer, head]) => {
  const size = Math.max(9, Math.min(30, (canvas.parentElement.clientWidth - left - 2) / layers));
  const ratio = window.devicePixelRatio, place = [left + layer * size - 2, top + head * size - 2, size + 4, size + 4];
  const { data } = canvas.getContext("2d").getImageData(...place.map((x) => Math.round(x * ratio)));
  return [...Array(data.length / 4).keys()].map((i) => [data[4 * i], data[4 * i + 1], data[4 * i + 2]]);
}"""


def colours_at(page: Page, layer: int, head: int) -> list[tuple[int, ...]]:
    arguments = [LEFT, TOP, wb.load(DEFAULT).n_layers, layer, head]
    return [tuple(colour) for colour in page.locator(".grid canvas").first.evaluate(_COLOURS, arguments)]


def test_baselines_stand_over_the_grid(page: Page, server: Server) -> None:
    open_page(page, server.link("patching", task="ioi", n="2", seed="41", head="20.0"))
    page.get_by_role("button", name="Run the sweep").click()
    page.locator(".st-key-sweep-json").wait_for(timeout=LONG_WAIT)
    wait_rendered(page)
    sweep = wb.sweep(wb.load(DEFAULT), wb.task("ioi", n=2, seed=41), layers=0, heads=0, cache=False)
    line, grid = page.get_by_text("Clean run:"), page.locator(".grid")
    expect(line).to_contain_text(f"preferred on {sweep.baselines[0].right} of 2 pairs. Corrupt run: ")
    above, below = line.bounding_box(), grid.bounding_box()
    assert above is not None and below is not None and above["y"] + above["height"] <= below["y"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_open_head_shows_that_it_is_in_the_set(server: Server, new_page: Callable[..., Page], theme: Any) -> None:
    opened = open_page(new_page(theme=theme), server.link("patching", task="ioi", n="3", head="20.0"))
    before = colours_at(opened, 20, 0)
    assert OPEN in before and MARKED not in before
    with acting(opened):
        opened.locator(".st-key-flip button").click()
    both = colours_at(opened, 20, 0)
    assert both.count(OPEN) > 20 and both.count(MARKED) > 20


def test_the_frame_of_the_focus_has_four_sides(page: Page, server: Server) -> None:
    open_page(page, server.link("patching", task="ioi", n="3", head="20.0"))
    grid = page.locator(".grid").first
    grid.scroll_into_view_if_needed()
    page.keyboard.press("Tab")  # what is focused from the keyboard has a frame
    grid.focus()
    box = grid.bounding_box()
    assert box is not None and grid.evaluate("grid => grid.matches(':focus-visible')")
    # the frame, two pixels wide, is a pixel outside; nothing around the grid may cut it
    style = grid.evaluate("grid => [getComputedStyle(grid).outlineStyle, getComputedStyle(grid).outlineWidth]")
    assert style == ["solid", "2px"]
    cut = grid.evaluate(
        """grid => { const at = grid.getBoundingClientRect(), out = [];
          for (let e = grid; e; e = e.parentElement ?? e.getRootNode().host) {
            if (e === grid || getComputedStyle(e).overflow === 'visible') continue;
            const box = e.getBoundingClientRect();
            if (at.left - 3 < box.left || at.right + 3 > box.right || at.top - 3 < box.top) out.push(e.className);
          }
          return out; }"""
    )
    assert cut == []


@pytest.mark.parametrize("width", [1024, 1280, 1440])
def test_grids_that_are_compared_show_all_layers(server: Server, new_page: Callable[..., Page], width: int) -> None:
    opened = open_page(new_page((width, 900)), server.link(compare="yes", differs="prompt", head="17.4"))
    grids = opened.locator(".grid")
    expect(grids).to_have_count(3)
    assert grids.evaluate_all("grids => grids.map(grid => grid.scrollWidth - grid.clientWidth)") == [0, 0, 0]


@pytest.mark.parametrize("key, tag", [("prompt", "textarea"), ("operators", "input"), ("head", "input")])
def test_how_to_apply_a_text_covers_nothing(page: Page, server: Server, key: str, tag: str) -> None:
    open_page(page, server.link(head="17.4"))
    widget = page.locator(f".st-key-{key}")
    field = widget.locator(tag)
    field.press("End")
    field.type("1")
    hint = widget.get_by_test_id("InputInstructions")
    expect(hint).to_contain_text("to apply")
    at = hint.bounding_box()
    assert at is not None
    for other in (field, widget.get_by_test_id("stTooltipIcon"), widget.locator("label p").first):
        box = other.bounding_box()
        assert box is not None
        beside = at["x"] + at["width"] <= box["x"] or box["x"] + box["width"] <= at["x"]
        assert beside or at["y"] + at["height"] <= box["y"] + 1 or box["y"] + box["height"] <= at["y"] + 1
    field.press("Backspace")


@pytest.mark.parametrize("is_secure", [True, False])
def test_the_link_is_copied_from_the_keyboard(server: Server, new_page: Callable[..., Page], is_secure: bool) -> None:
    opened = new_page()
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.url)
    if not is_secure:  # as over http from another machine
        opened.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    open_page(opened, server.link(head="17.4", score="induction"))
    button = opened.get_by_role("button", name="Copy link")
    button.focus()
    opened.keyboard.press("Enter")
    expect(opened.get_by_role("button", name="Copied")).to_be_focused()
    area = opened.locator(".st-key-prompt textarea")
    area.fill("")
    area.press("Control+v")
    assert area.input_value() == opened.url and "head=17.4" in opened.url and "score=induction" in opened.url
    expect(button).to_be_visible()
