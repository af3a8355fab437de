"""What all pages share, in a real browser: steps back, links typed by hand, narrow windows, contrast, help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

import pytest
from playwright.sync_api import Page, expect
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from app.page import pages
from tests.browser import driving
from tests.browser.contrast import too_faint
from tests.browser.driving import OF_PAGE, acting, go_to, open_page, wait_head
from tests.browser.serving import Server

TITLES = [page.title for page in pages()]
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
#: A window of 1,024 pixels, and one of 1,440 at 200 %.
NARROW = {"1024 px": (1024, 768), "200 %": (720, 450)}


def test_back_takes_one_press_a_page(page: Page, server: Server) -> None:
    open_page(page, server.link(head="3.1"))
    for title in TITLES[1:]:
        go_to(page, title)
    for title in reversed(TITLES[:-1]):
        with acting(page):
            page.go_back()
        expect(page.locator("[data-testid=stTopNavLink][aria-current=page]")).to_contain_text(title)
    wait_head(page, 3, 1)


def test_a_click_on_a_head_reruns_the_page_alone(new_page: Callable[..., Page], server: Server) -> None:
    opened, ends = new_page(), Counter[int]()

    def count(frame: str | bytes) -> None:
        message = ForwardMsg.FromString(frame) if isinstance(frame, bytes) and len(frame) < driving.SHORT else None
        if message is not None and message.WhichOneof("type") == "script_finished":
            ends[message.script_finished] += 1

    opened.on("websocket", lambda socket: socket.on("framereceived", count))
    open_page(opened, server.link(head="3.1"))
    driving.click_head(opened, 12, 3)  # what comes after the first run has come
    ends.clear()
    driving.click_head(opened, 7, 7)
    assert ends == {ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY: 1}
    assert driving.value_of(opened, "head") == "7.7"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"head": "99.9"}, "has no head 99.9"),
        ({"compare": "maybe"}, "compare=maybe, which is not an option"),
        ({"scored": "a task", "n": "100000"}, "n=100000, which is out of range (1 to 200)"),
    ],
)
def test_values_out_of_range_are_named(page: Page, server: Server, query: dict[str, str], message: str) -> None:
    open_page(page, server.link(**query))
    expect(page.get_by_test_id("stAlert").filter(has_text=message)).to_have_count(1)


@pytest.mark.parametrize("title", TITLES)
def test_a_page_can_be_read(page: Page, server: Server, title: str) -> None:
    """In both themes, with its help open; and in narrow windows, where it is one column and nothing is cut."""
    query = OF_PAGE.get(title.lower(), {"head": "16.0"})
    open_page(page, server.link("" if title == TITLES[0] else title.lower(), **query))
    page.get_by_test_id("stSidebar").get_by_text(f"Help: {title}").click()
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)
        page.wait_for_timeout(500)  # colours change, and the panel opens, in steps
        assert too_faint(page) == [], theme
    for name, (width, height) in NARROW.items():
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(500)  # charts follow
        assert page.evaluate(_CUT) == [], name
    page.set_viewport_size({"width": driving.WIDE[0], "height": driving.WIDE[1]})


def test_a_first_visit_says_what_this_is(page: Page, server: Server) -> None:
    open_page(page, server.link())
    welcome = page.get_by_text("shows what each attention head does")
    expect(welcome).to_be_visible()
    with acting(page):
        page.get_by_role("button", name="Hide", exact=True).click()
    expect(welcome).to_have_count(0)
    open_page(page, server.link(head="16.0"))  # a link is no first visit
    expect(welcome).to_have_count(0)


#: Tables that scroll sideways, charts beside one another, text that is cut, and a page wider than the window.
_CUT = """() => {
  const cut = [];
  for (const table of document.querySelectorAll('[data-testid=stDataFrame] .dvn-scroller'))
    if (table.scrollWidth > table.clientWidth + 1) cut.push(`a table of ${table.scrollWidth} in ${table.clientWidth}`);
  const charts = [...document.querySelectorAll('[data-testid=stMain] :is(.stPlotlyChart, canvas.chart)')];
  const boxes = charts.map((chart) => chart.getBoundingClientRect());
  for (const [i, a] of boxes.entries())
    for (const b of boxes.slice(i + 1))
      if (a.top < b.bottom && b.top < a.bottom && a.width && b.width) cut.push('two charts beside one another');
  for (const label of document.querySelectorAll('[data-testid=stMain] :is(label p, button p, h2, h3)'))
    if (label.scrollWidth > label.clientWidth + 1 && label.clientWidth) cut.push(label.textContent);
  const main = document.querySelector('[data-testid=stMain]');
  if (main.scrollWidth > main.clientWidth) cut.push(`the page: ${main.scrollWidth} in ${main.clientWidth}`);
  return cut;
}"""
