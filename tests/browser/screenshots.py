"""The README's pictures of the explorer, on the default model: ``python -m tests.browser.screenshots``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from tests.browser.driving import LONG_WAIT, OF_VISION, acting, chromium, new_page, open_page, wait_rendered
from tests.browser.made_runs import make_runs
from tests.browser.serving import Server, explorer
from workbench import registry
from workbench.models.catalog import DEFAULT

#: High enough for what a sweep's strongest heads do.
SIZE = (1440, 1100)
#: For all rows of heads × steps, and for all of a page that is longer.
TALL = {"diffusion": (1440, 1780), "vision": (1440, 2960), "memory": (1440, 1080)}
FOLDER = registry.ROOT / "docs" / "images"


def heads(page: Page, server: Server) -> None:
    """The best induction head of the first prompt."""
    open_page(page, server.link(head="17.4", score="induction"))


def patching(page: Page, server: Server) -> None:
    """A sweep, and its strongest heads ablated together."""
    open_page(page, server.link("patching", head="23.3"))
    page.get_by_role("button", name="Run the sweep").click()
    page.locator(".st-key-sweep-json").wait_for(timeout=5 * LONG_WAIT)
    wait_rendered(page)
    with acting(page):
        page.locator(".st-key-strongest button").first.click()
        page.mouse.move(0, 0)


def diffusion(page: Page, server: Server) -> None:
    """A sweep of every head in every step, and the head with the largest effect."""
    of_sample = {"sample-class": "3", "sample-other": "8", "sample-step": "7", "image-position": "1,2"}
    how = {"model": "digits-dit", "head": "4.2", "sample-readout": "digits-vit"}
    open_page(page, server.link("diffusion", **how, **of_sample))
    page.get_by_role("button", name="Run the sweep").click()
    page.locator(".st-key-steps-grid-json").wait_for(timeout=5 * LONG_WAIT)
    wait_rendered(page)


def circuits(page: Page, server: Server) -> None:
    """The circuit of IOI."""
    run = next(path.name for path in (server.folder / "runs").iterdir() if "circuit-reuse" in path.name)
    open_page(page, server.link("circuits", head="23.3", **{"circuit-run": run, "circuit-task": "ioi"}))


def vision(page: Page, server: Server) -> None:
    """A sweep over an image and the same with a region covered, and its strongest heads patched together."""
    how = {"head": "1.2", "image-edit": "patch, denoise", "corrupt": "occlude", "image-edited": "the heads of the set"}
    open_page(page, server.link("vision", **{**OF_VISION, **how}))
    page.get_by_role("button", name="Run the sweep").click()
    page.locator(".st-key-sweep-json").wait_for(timeout=5 * LONG_WAIT)
    wait_rendered(page)
    with acting(page):
        page.locator(".st-key-strongest button").first.click()
        page.mouse.move(0, 0)


def memory(page: Page, server: Server) -> None:
    """The keys of every key/value head, and those that a previous-token head reads."""
    open_page(page, server.link("memory", head="4.3", **{"memory-part": "heads"}))


def main() -> None:
    """Take them."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        make_runs(Path(folder) / "runs")
        with explorer(DEFAULT, Path(folder)) as server:
            for show in (heads, patching, circuits, vision, diffusion, memory):
                page = new_page(browser, TALL.get(show.__name__, SIZE))
                show(page, server)
                page.wait_for_timeout(1000)
                path = FOLDER / f"explorer-{show.__name__}.png"
                page.screenshot(path=path)
                Image.open(path).convert("RGB").save(path, optimize=True)
                page.context.close()


if __name__ == "__main__":
    main()
