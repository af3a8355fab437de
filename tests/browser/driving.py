"""Driving the explorer in Chromium: opening pages, waiting until they are rendered, clicking heads, downloading."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from playwright.sync_api import Browser, Locator, Page, sync_playwright
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

#: The grid of the default model.
LAYERS, HEADS = 30, 9
#: A model for the page Vision, a head of it and a patch.
OF_VISION = {"model": "digits-vit", "head": "3.2", "image-number": "7", "image-position": "1,1"}
#: A sample for the page Diffusion, a head, a step and a patch.
OF_DIFFUSION = {
    "model": "digits-dit",
    "sample-class": "3",
    "sample-seed": "1",
    "sample-steps": "4",
    "sample-step": "1",
    "head": "3.1",
    "image-position": "1,2",
}
#: What a link to a page names, where that is more than a head of the default model.
OF_PAGE = {"vision": OF_VISION, "diffusion": OF_DIFFUSION}
WIDE, PHONE = (1440, 900), (390, 844)
NAMES = ("chromium", "chromium-browser", "google-chrome")
#: No requests of its own: no updates, no lists, no DNS over the network.
ARGUMENTS = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
#: Milliseconds at most for a cold model and for anything else: generous, since tests wait for states, not for seconds.
LONG_WAIT, WAIT = 270_000, 120_000
#: Milliseconds between two polls of a page; polling at every frame would keep it busy.
POLL = 50
#: Cells of the grid in its canvas, as ``head_grid.js`` draws them.
LEFT, TOP, LARGEST_CELL = 34, 2, 30

#: Finished runs of each page's script. The page itself does not show a short one on a busy machine.
_ended: WeakKeyDictionary[Page, int] = WeakKeyDictionary()
#: Bytes of a message that may announce it; a chart's is longer.
SHORT = 200
_RENDERED = """() => {
  const app = document.querySelector('[data-testid=stApp]');
  if (app?.dataset.testScriptState !== 'notRunning' || app.dataset.testConnectionState !== 'CONNECTED') return false;
  const main = document.querySelector('[data-testid=stMainBlockContainer]');
  if (!main || !main.querySelector('[data-testid=stElementContainer]')) return false;
  if (main.querySelector('[data-stale=true], [data-testid=stSkeleton], [data-testid=stSpinner]')) return false;
  if (window.workbenchHistory?.later) return false;
  const charts = [...main.querySelectorAll('[data-testid=stPlotlyChart]')];
  return charts.every((chart) => chart.querySelector('.js-plotly-plot .main-svg'));
}"""


def executable() -> str:
    """Where Chromium is; ``make browser`` installs it.

    Raises:
        FileNotFoundError: there is none. A missing browser is no reason to skip a test.
    """
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        raise FileNotFoundError(f"No browser on this machine ({', '.join(NAMES)}): run make browser.")
    return path


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; nothing is downloaded for it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def new_page(browser: Browser, size: tuple[int, int] = WIDE, theme: Any = "light") -> Page:
    """A page with a session and a history of its own."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=theme, reduced_motion="reduce"
    )
    context.set_default_timeout(WAIT)
    page = context.new_page()
    _ended[page] = 0
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: _count_finished(page, frame)))
    return page


def _count_finished(page: Page, frame: str | bytes) -> None:
    """Count a message of Streamlit's server that announces the end of a run of the script."""
    if isinstance(frame, bytes) and len(frame) < SHORT:
        message = ForwardMsg.FromString(frame)
        finished = message.script_finished in (
            ForwardMsg.FINISHED_SUCCESSFULLY,
            ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY,
        )
        _ended[page] += message.WhichOneof("type") == "script_finished" and finished


def open_page(page: Page, url: str) -> Page:
    """Open a URL and wait until the page is rendered."""
    page.goto(url)
    wait_rendered(page)
    return page


def wait_rendered(page: Page) -> None:
    """Wait until the script has run to its end and every chart is there.

    Raises:
        AssertionError: it ended in an internal error.
    """
    page.wait_for_function(_RENDERED, timeout=LONG_WAIT, polling=POLL)
    errors = page.get_by_test_id("stException").or_(page.get_by_text("Internal error"))
    assert errors.count() == 0, f"{errors.first.inner_text()}\nThe server's log shows where."


@contextmanager
def acting(page: Page) -> Iterator[None]:
    """An action that makes the page's script run; wait until the result is rendered."""
    before, end = _ended[page], time.monotonic() + LONG_WAIT / 1000
    yield
    while _ended[page] == before:
        assert time.monotonic() < end, "the page's script has not run"
        page.wait_for_timeout(POLL)
    page.wait_for_timeout(POLL)  # the browser puts the result into the page
    wait_rendered(page)


def heading(page: Page, head: str = r"\d+\.\d+") -> Locator:
    """The heading that names the selected head."""
    return page.get_by_role("heading", name=re.compile(rf"^Head {head}$"))


def wait_head(page: Page, layer: int, head: int) -> None:
    """Wait until the page shows that head."""
    heading(page, rf"{layer}\.{head}").wait_for(timeout=LONG_WAIT)
    wait_rendered(page)


def point_at(page: Page, layer: int, head: int) -> tuple[float, float]:
    """Point at a head in the grid and return the position from the canvas's corner.

    Raises:
        AssertionError: the grid shows another head there.
    """
    canvas = page.locator(".grid canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None, "the grid is not on the page"
    size = min(LARGEST_CELL, (box["width"] - LEFT - 2) / LAYERS)
    place = (LEFT + (layer + 0.5) * size, TOP + (head + 0.5) * size)
    canvas.hover(position={"x": place[0], "y": place[1]})
    text = page.locator(".grid output").first.inner_text()
    assert text.startswith(f"{layer}.{head}:"), f"the grid shows {text!r} at head {layer}.{head}"
    return place


def click_head(page: Page, layer: int, head: int, wait: bool = True) -> None:
    """Click on a head in the grid, and wait until the page shows it."""
    x, y = point_at(page, layer, head)
    page.locator(".grid canvas").first.click(position={"x": x, "y": y})
    if wait:
        wait_head(page, layer, head)


def write_prompt(page: Page, text: str) -> None:
    """Give the page another prompt."""
    area = page.locator(".st-key-prompt textarea")
    area.fill(text)
    with acting(page):
        area.press("Control+Enter")


def select(page: Page, key: str, option: str) -> None:
    """Select an option of a list as people do: type, and click it."""
    box = page.locator(f".st-key-{key} input").first
    box.click()
    box.fill(option)
    with acting(page):
        page.get_by_role("option", name=option, exact=True).click()


def value_of(page: Page, key: str) -> str:
    """The value of a list or a text field."""
    field = page.locator(f".st-key-{key}").locator("input, textarea").first
    return field.input_value() or page.locator(f".st-key-{key} [data-baseweb=select]").inner_text().strip()


def go_to(page: Page, title: str) -> None:
    """Switch to another page by its name on top."""
    with acting(page):
        page.get_by_test_id("stTopNavLink").filter(has_text=title).first.click()


def downloaded(page: Page, key: str) -> tuple[str, bytes]:
    """Press a download button when the page is idle; the file's name and content."""
    wait_rendered(page)
    with page.expect_download(timeout=LONG_WAIT) as waiting:
        page.locator(f".st-key-{key} button").click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def charts(page: Page) -> list[dict[str, Any]]:
    """Every Plotly chart of the page: its title, its visible axes with their names, and the texts that are cut
    off."""
    return page.evaluate(_CHARTS)


_CHARTS = """() => [...document.querySelectorAll('.js-plotly-plot')].map((chart) => {
  const full = chart._fullLayout, layout = chart.layout, axes = {};
  for (const name of Object.keys(full).filter((key) => /^[xy]axis[0-9]*$/.test(key)))
    if (full[name].visible) axes[name] = layout[name]?.title?.text ?? '';
  const box = chart.getBoundingClientRect(), cut = [];
  for (const text of chart.querySelectorAll('.main-svg text')) {
    const at = text.getBoundingClientRect();
    const beside = Math.max(box.left - at.left, at.right - box.right);
    const leading = parseFloat(getComputedStyle(text).fontSize) / 4;  // a line is higher than its letters
    const above = Math.max(box.top - at.top, at.bottom - box.bottom) - leading;
    if (at.width && Math.max(beside, above) > 1) cut.push(text.textContent);
  }
  return { title: layout.title?.text ?? '', axes, cut };
})"""


def shot(page: Page, name: str) -> Path:
    """A screenshot of the whole page, in ``tests/browser/shots`` (or ``$WORKBENCH_SHOTS``).

    The page scrolls inside itself, so the window is made as high as it is.
    """
    size = page.viewport_size
    assert size is not None
    folder = Path(os.environ.get("WORKBENCH_SHOTS") or Path(__file__).parent / "shots")
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": size["width"], "height": max(size["height"], int(height))})
    page.wait_for_timeout(300)  # charts follow the window's size
    wait_rendered(page)
    page.screenshot(path=folder / f"{name}.png")
    page.set_viewport_size(size)
    return folder / f"{name}.png"
