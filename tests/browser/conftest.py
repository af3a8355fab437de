"""One explorer on the default model and one browser for all tests here; a page's complaint fails its test."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, expect

from tests.browser import driving
from tests.browser.made_runs import make_runs
from tests.browser.serving import Server, explorer
from workbench.models.catalog import DEFAULT

# Expectations wait for progress, also on a machine many times slower.
expect.set_options(timeout=driving.WAIT)
#: Harmless errors of Streamlit's own page: opened at /page, it first looks for its server below /page.
BENIGN = (r"404 \(Not Found\) \(http://127\.0\.0\.1:\d+/\w+/_stcore/[\w-]+\)$",)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("explorer")
    make_runs(folder / "runs")
    with explorer(DEFAULT, folder) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with driving.chromium() as running:
        yield running


@pytest.fixture(scope="session")
def complaints() -> list[str]:
    """Complaints of pages since the last test."""
    return []


@pytest.fixture(autouse=True)
def no_complaints(complaints: list[str], server: Server) -> Iterator[None]:
    """Errors that a page logs, requests to other machines, dialogs and exceptions in the server's log fail the test."""
    complaints.clear()
    logged = len(server.log)
    yield
    assert not complaints
    log = server.log[logged:]
    if "Traceback" in log:
        pytest.fail(f"The server's log:\n{log[-4000:]}", pytrace=False)


@pytest.fixture(scope="module")
def page(browser: Browser, complaints: list[str]) -> Iterator[Page]:
    """A page for all tests of a file: to load it anew takes seconds, and most tests need not."""
    yield (opened := recording_complaints(driving.new_page(browser), complaints))
    opened.context.close()


@pytest.fixture
def new_page(browser: Browser, complaints: list[str]) -> Iterator[Callable[..., Page]]:
    """``new_page(size, theme) -> Page``, each as in a browser of its own."""
    pages: list[Page] = []

    def open_one(size: tuple[int, int] = driving.WIDE, theme: Any = "light") -> Page:
        pages.append(recording_complaints(driving.new_page(browser, size, theme), complaints))
        return pages[-1]

    yield open_one
    for opened in pages:
        opened.context.close()


def recording_complaints(page: Page, complaints: list[str]) -> Page:
    """The page; its complaints are recorded."""

    def console(message: ConsoleMessage) -> None:
        text = f"{message.text} ({message.location['url']})"
        if message.type == "error" and not any(re.search(pattern, text) for pattern in BENIGN):
            complaints.append(f"console: {text}")

    def dialog(box: Dialog) -> None:
        complaints.append(f"dialog: {box.message}")
        box.dismiss()

    page.on("console", console)
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("request", lambda request: complaints.append(f"request: {request.url}") if _outside(request.url) else None)
    page.on("dialog", dialog)
    return page


def _outside(url: str) -> bool:
    return urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).hostname != "127.0.0.1"
