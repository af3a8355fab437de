"""The patterns of all heads in a real browser: Hugging Face's patterns, drawn in short tasks, sent once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from app import sidebar
from app.components.head_grid import scale_colours
from tests.browser import driving
from tests.browser.driving import HEADS, LAYERS, acting, downloaded, open_page, wait_head
from tests.browser.serving import Server
from tests.browser.test_heads_page import CLOSE, patterns_of

LONG = " ".join(f"{word} and" for word in ["Mary", "John", "Paul", "Anna"] * 128)
#: Milliseconds of a task that the browser reports as long.
LONG_TASK = 50
#: What Streamlit may send for a click on a short prompt, in bytes; the maps of 1,024 positions are more.
CLICK = 200_000
MEASURE = "workbench model view"
OBSERVERS = f"""() => {{
  window.longTasks = [], window.slices = [];
  const observe = (type, keep) => new PerformanceObserver((list) => keep(list.getEntries())).observe({{ type }});
  observe("longtask", (entries) => window.longTasks.push(...entries));
  observe("measure", (entries) => {{
    for (const {{ name, duration }} of entries) if (name === "{MEASURE}") window.slices.push(duration);
  }});
}}"""
#: Scrolls through all maps, a part of a screen in each frame.
SCROLL = """async (box) => {
  const frame = () => new Promise(requestAnimationFrame), start = performance.now();
  for (box.scrollTop = 0; box.scrollTop + box.clientHeight + 1 < box.scrollHeight; box.scrollTop += 97) await frame();
  await new Promise((done) => setTimeout(done, 300));
  const since = (list) => list.filter((task) => task.startTime >= start).map((task) => task.duration);
  return [since(window.longTasks), box.scrollHeight];
}"""
#: The colours in the middles of a map's cells, as they are on the screen.
CELLS = """(canvas, [left, top, cell, side]) => {
  const g = canvas.getContext("2d"), ratio = window.devicePixelRatio, rows = [];
  for (let i = 0; i < side; i++) {
    rows.push([]);
    for (let j = 0; j < side; j++) {
      const [x, y] = [left + (j + 0.5) * cell, top + (i + 0.5) * cell];
      rows[i].push([...g.getImageData(Math.floor(x * ratio), Math.floor(y * ratio), 1, 1).data.slice(0, 3)]);
    }
  }
  return rows;
}"""
#: Pixels of ``model_view.js``: between maps, of a name, and the margin within the canvas.
GAP, NAME, LARGEST, MARGIN = 10, 20, 132, 4


@pytest.fixture(scope="module")
def maps_page(page: Page, server: Server) -> Iterator[tuple[Page, list[int]]]:
    """The page with all maps, and the sizes of the messages that it received."""
    sizes: list[int] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: sizes.append(len(frame))))
    page.add_init_script(f"({OBSERVERS})()")
    open_page(page, server.link(**{"all-patterns": "yes", "head": "16.0"}))
    page.locator(".model-view canvas.view").scroll_into_view_if_needed()
    wait_painted(page)
    yield page, sizes


def wait_painted(page: Page) -> None:
    """Wait until a slice of drawing has run after the maps arrived."""
    page.wait_for_function("window.workbenchPatterns?.size > 0 && window.slices.length > 0", timeout=driving.WAIT)
    page.wait_for_timeout(300)


def size_of(page: Page) -> float:
    """Pixels from one map to the next."""
    width = page.locator(".model-view .maps").evaluate("(box) => box.clientWidth")
    return min(LARGEST, width // HEADS)


def place_of(page: Page, layer: int, head: int) -> tuple[float, float]:
    """Scroll a head into view; the corner of its map on the canvas."""
    size = size_of(page)
    top = layer * (size - GAP + NAME)
    scrolled = page.locator(".model-view .maps").evaluate(
        "(box, top) => (box.scrollTop = top - 20, box.scrollTop)", top
    )
    page.wait_for_timeout(200)
    return head * size + MARGIN, top - scrolled + MARGIN


def click_map(page: Page, layer: int, head: int) -> None:
    x, y = place_of(page, layer, head)
    with acting(page):
        page.locator(".model-view canvas.view").click(position={"x": x + 20, "y": y + 20})
    wait_head(page, layer, head)


def shares_on_screen(page: Page, layer: int, head: int, side: int) -> np.ndarray:
    """How far along the scale each cell of a map is, from its colour on the screen."""
    left, top = place_of(page, layer, head)
    cell = (size_of(page) - GAP) / side
    seen = np.array(page.locator(".model-view canvas.view").evaluate(CELLS, [left, top, cell, side]), dtype=float)
    stops = np.array(scale_colours(False), dtype=float)
    at = np.linspace(0, len(stops) - 1, 1021)
    scale = np.stack([np.interp(at, np.arange(len(stops)), stops[:, i]) for i in range(3)], -1)
    nearest = np.linalg.norm(seen[:, :, None] - scale, axis=-1).argmin(-1)
    return nearest / (len(at) - 1)


def test_every_map_is_hugging_faces_pattern(maps_page: tuple[Page, list[int]]) -> None:
    page, _ = maps_page
    heads = ((0, 0), (16, 4), (LAYERS - 1, HEADS - 1))
    for (layer, head), pattern in zip(heads, patterns_of(sidebar.DEFAULT_PROMPT, *heads), strict=True):
        np.testing.assert_allclose(shares_on_screen(page, layer, head, len(pattern)), pattern, atol=0.015)


def test_all_heads_in_one_scroll_without_a_long_task(maps_page: tuple[Page, list[int]]) -> None:
    page, _ = maps_page
    box = page.locator(".model-view .maps")
    expect(page.locator(".model-view")).to_have_count(1)
    # Another program may take the processor in one pass, but a task of our own is long in each.
    long_tasks, height = min((box.evaluate(SCROLL) for _ in range(3)), key=lambda result: len(result[0]))
    assert height == pytest.approx(LAYERS * (size_of(page) - GAP + NAME), abs=1)
    slices = np.array(page.evaluate("window.slices"))
    assert len(slices) > 30, "drawing was not measured"
    assert not long_tasks and np.median(slices) < LONG_TASK / 5
    assert np.sort(slices)[: round(0.99 * len(slices))].max() < LONG_TASK


def test_a_click_opens_the_head_and_sends_no_maps_again(maps_page: tuple[Page, list[int]]) -> None:
    page, sizes = maps_page
    n_bytes = page.evaluate("[...window.workbenchPatterns.values()][0].length")
    click_map(page, 2, 1)
    sizes.clear()
    click_map(page, 17, 4)
    assert max(sizes) < n_bytes and sum(sizes) < CLICK
    expect(page.locator(".model-view output")).to_contain_text("17.4: previous token, ")
    scrolled = page.locator(".model-view .maps").evaluate("(box) => box.scrollTop")
    assert scrolled > 0  # the maps stay where they were


def test_arrow_keys_move_and_enter_opens(maps_page: tuple[Page, list[int]]) -> None:
    page, _ = maps_page
    click_map(page, 17, 4)
    for key, head in (("ArrowRight", "17.5"), ("ArrowDown", "18.5"), ("ArrowLeft", "18.4"), ("End", "29.8")):
        page.keyboard.press(key)
        expect(page.locator(".model-view output")).to_contain_text(f"{head}: ")
    expect(driving.heading(page, r"17\.4")).to_be_visible()  # still the open one
    page.keyboard.press("ArrowUp")
    with acting(page):
        page.keyboard.press("Enter")
    wait_head(page, 28, 8)
    page.get_by_role("button", name="Go to its pattern").click()
    expect(driving.heading(page, r"28\.8")).to_be_in_viewport()


def test_1024_positions_are_pooled_by_blocks(server: Server, new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.add_init_script(f"({OBSERVERS})()")
    query = {"all-patterns": "yes", "colours": "square root", "head": "16.0"}
    open_page(page, server.link(prompt=LONG, **query))
    page.locator(".model-view canvas.view").scroll_into_view_if_needed()
    wait_painted(page)
    heads = ((16, 0), (29, 1))
    data: dict[str, Any] = json.loads(downloaded(page, "model-view-json")[1])
    assert data["block"] == 32 and data["labels"][1] == "32 to 63" and len(data["heads"]) == LAYERS * HEADS
    for (layer, head), pattern in zip(heads, patterns_of(LONG, *heads), strict=True):
        pooled = pattern.reshape(32, 32, 32, 32).max(axis=(1, 3))
        np.testing.assert_allclose(data["values"][data["heads"].index(f"{layer}.{head}")], pooled, atol=CLOSE)
        np.testing.assert_allclose(shares_on_screen(page, layer, head, 32), np.sqrt(pooled), atol=0.015)
