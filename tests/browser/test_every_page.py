"""Screenshots of every page and its views, wide and on a phone, in light and dark: nothing is cut off or unnamed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from playwright.sync_api import Page

from app.page import PAGES, pages
from tests.browser.driving import LONG_WAIT, OF_PAGE, PHONE, WIDE, charts, open_page, shot, wait_rendered
from tests.browser.serving import Server

SIZES = {"wide": WIDE, "phone": PHONE}
#: Further views of each page: view → its parameters in the URL.
VIEWS = {
    "heads": {
        "weighted": {"score": "direct_logit_attribution", "kind": "value-weighted"},
        "prompts": {"compare": "yes", "differs": "prompt"},
        "two-heads": {"compare": "yes", "differs": "head"},
        "task": {"scored": "a task", "n": "3"},
    },
    "patching": {
        "swept": {"n": "2", "seed": "3", "set": "20.0:inhibition,23.3"},
        "own": {"source": "pairs of my own", "force": "23.3@13>1+3"},
    },
    "circuits": {
        part.lower(): {"circuit-run": "circuit-reuse", "circuit-part": part}
        for part in ("Circuit", "Overlap", "Cross-ablation", "Published")
    },
    "runs": {
        "tables": {"part": "Tables"},
        "figures": {"part": "Figures"},
        "provenance": {"part": "Provenance"},
        "compare": {"part": "Compare"},
        "reuse": {"run": "circuit-reuse"},
    },
}


PAGES_AND_VIEWS = [(name, "") for name in PAGES.names()[::-1]]  # the cache last: it is not empty then
PAGES_AND_VIEWS += [(name, view) for name, views in VIEWS.items() for view in views]
ALL_MODES = [(size, theme) for size in SIZES for theme in ("light", "dark")]
#: For views, which resemble their page.
TWO_MODES = [ALL_MODES[0], ALL_MODES[-1]]


@pytest.mark.parametrize(("name", "view"), PAGES_AND_VIEWS)
def test_nothing_is_cut_off(name: str, view: str, page: Page, server: Server) -> None:
    params = VIEWS[name][view] if view else {}
    query = {key: run_of(server, value) if "run" in key else value for key, value in params.items()}
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    open_page(page, link(server, name, **query))
    if view == "swept":
        page.locator(".st-key-start-sweeps button").click()
        page.locator(".st-key-sweep-grid").wait_for(timeout=LONG_WAIT)
        wait_rendered(page)
    if view == "task":
        page.get_by_text("mean over 3 prompts of").wait_for(timeout=LONG_WAIT)
        wait_rendered(page)
    check(page, f"{name}-{view}" if view else name, TWO_MODES if view else ALL_MODES)


def link(server: Server, name: str, **query: str) -> str:
    """The URL of a page with a clear head; the first page has no name in its URL."""
    own = OF_PAGE.get(name, {"head": "16.0"})
    return server.link("" if name == pages()[0].name else name, **{**own, **query})


def run_of(server: Server, finding: str) -> str:
    """The name of the run of a finding."""
    (path,) = (server.folder / "runs").glob(f"*-{finding}-*")
    return path.name


def check(page: Page, name: str, how: Sequence[tuple[str, str]]) -> None:
    """Take screenshots, and check titles, axes and widths."""
    for size, theme in how:
        page.set_viewport_size({"width": SIZES[size][0], "height": SIZES[size][1]})
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        shot(page, f"{name}-{size}-{theme}")
        assert not too_wide(page), (name, size)
        for chart in charts(page):
            assert chart["title"] and all(chart["axes"].values()), (name, chart)
            assert not chart["cut"], (name, size, chart)


def too_wide(page: Page) -> list[str]:
    """Elements that are wider than the window or their container."""
    return page.evaluate(
        """() => {
          const found = [];
          for (const box of [document.documentElement, document.querySelector('[data-testid=stMain]')])
            if (box.scrollWidth > box.clientWidth) found.push(`${box.tagName} has ${box.scrollWidth}`);
          for (const box of document.querySelectorAll('[data-testid=stMain] [data-testid=stElementContainer]')) {
            const at = box.getBoundingClientRect();
            if (at.width && at.right > window.innerWidth + 1) found.push(box.className);
          }
          for (const text of document.querySelectorAll('[data-testid=stMetricValue] *'))
            if (text.scrollWidth > text.clientWidth + 1) found.push(text.textContent);
          return found;
        }"""
    )


def test_text_has_a_font_of_this_machine(page: Page, server: Server) -> None:
    """Without one the grid's numbers would be boxes, or nothing."""
    open_page(page, server.link("cache"))
    inks = page.evaluate(
        """() => ['1', '8', 'W', '.'].map((letter) => {
          const canvas = Object.assign(document.createElement('canvas'), { width: 20, height: 20 });
          const g = canvas.getContext('2d');
          g.font = '11px sans-serif';
          g.fillText(letter, 5, 15);
          return g.getImageData(0, 0, 20, 20).data.reduce((sum, value) => sum + value, 0);
        })"""
    )
    assert all(inks) and len(set(inks)) == 4
