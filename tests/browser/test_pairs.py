"""Uploads on the page Patching in a real browser: usable, partly usable and refused files, names, the way back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Locator, Page, expect

from tests.browser.driving import LONG_WAIT, acting, downloaded, open_page, wait_rendered
from tests.browser.serving import Server

GOOD = {"clean": "When Mary and John met, John gave", "corrupt": "When Mary and John met, Mary gave"}
GOOD |= {"answer": " Mary", "wrong": " John"}
#: Its answer is several tokens.
BAD = {**GOOD, "answer": " Mary Ann"}
#: Text in a heading, a chart, a URL and code; no markup.
NAME = "<img src=x> & b.jsonl"


def written(folder: Path, name: str, *rows: dict[str, Any] | str) -> Path:
    path = folder / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def upload(page: Page, path: Path) -> None:
    page.get_by_text("Upload pairs (").click()  # as somebody who chooses a file clicks
    with acting(page):
        page.locator("[class*=st-key-pairs-file] input[type=file]").set_input_files(path)


def run_button(page: Page) -> Locator:
    return page.get_by_role("button", name="Run the sweep", exact=True)


def alerts(page: Page) -> Locator:
    return page.get_by_test_id("stMain").get_by_test_id("stAlert")


def table(page: Page) -> Locator:
    return page.get_by_test_id("stMain").get_by_test_id("stDataFrame").first


def open_own(page: Page, server: Server) -> Page:
    return open_page(page, server.link("patching", source="pairs of my own"))


def test_a_usable_file_is_swept_under_its_name(page: Page, server: Server, tmp_path: Path) -> None:
    open_own(page, server)
    expect(page.get_by_text("Example pairs", exact=True)).to_be_visible()
    path = written(tmp_path, NAME, GOOD)
    upload(page, path)
    expect(page.get_by_text(f"{NAME} · 1 pair")).to_be_visible()
    run_button(page).click()
    page.locator(".grid canvas").first.wait_for(timeout=LONG_WAIT)
    wait_rendered(page)
    data = json.loads(downloaded(page, "sweep-json")[1])
    assert (data["info"]["task"], data["n"]) == (NAME, 1)
    expect(page.locator(".grid p").first).to_contain_text(f"{NAME} · n = 1")
    page.get_by_test_id("stMain").get_by_text("Show as code").click()
    expect(page.get_by_test_id("stExpander").locator("code")).to_contain_text(f"name='{NAME}'")
    assert page.locator("[data-testid=stMain] img[src=x]").count() == 0


def test_after_a_refused_file_nothing_stands_under_its_name(page: Page, server: Server, tmp_path: Path) -> None:
    open_own(page, server)
    upload(page, written(tmp_path, "good.jsonl", GOOD))
    expect(run_button(page)).to_be_enabled()
    for path, reason in (
        (written(tmp_path, "bad.csv", "a,b", "c,d"), "bad.csv line 1: expected a header"),
        (written(tmp_path, "notes.txt", "text"), "notes.txt: expected a file that ends in"),
        (written(tmp_path, "third.jsonl", GOOD, "", '{"clean": '), "third.jsonl line 3: not valid JSON"),
    ):
        upload(page, path)
        expect(alerts(page).filter(has_text=reason)).to_have_count(1)
        expect(run_button(page)).to_be_disabled()
        expect(page.get_by_test_id("stMain").get_by_text("good.jsonl")).to_have_count(0)
        expect(table(page)).to_have_count(0)
    colour = "e => getComputedStyle(e).color"
    assert run_button(page).locator("p").evaluate(colour) != "rgb(255, 255, 255)"  # disabled, and read all the same
    run_button(page).hover(force=True)
    expect(page.get_by_role("tooltip")).to_contain_text("third.jsonl line 3: not valid JSON")
    query = parse_qs(urlsplit(page.url).query)
    assert "pairs" not in query and query["pairs-name"] == ["third.jsonl"]
    with acting(page):
        page.go_back()  # to notes.txt, of which this browser still knows the reason
    expect(alerts(page).filter(has_text="notes.txt: expected a file")).to_have_count(1)
    for _ in range(2):
        with acting(page):
            page.go_back()
    expect(page.get_by_text("good.jsonl · 1 pair")).to_be_visible()
    expect(page.get_by_test_id("stFileUploaderFile")).to_have_count(0)
    expect(run_button(page)).to_be_enabled()
    expect(alerts(page).filter(has_text="bad.csv")).to_have_count(0)


def test_rows_that_cannot_be_used_are_marked_and_left_out(
    page: Page, server: Server, tmp_path: Path, new_page: Callable[..., Page]
) -> None:
    open_own(page, server)
    upload(page, written(tmp_path, "mixed.jsonl", GOOD, BAD, {**GOOD, "wrong": " John John"}))
    alert = alerts(page).filter(has_text="2 of 3 pairs cannot be used")
    expect(alert).to_contain_text("mixed.jsonl line 2: answer ' Mary Ann' is 2 tokens")
    expect(run_button(page)).to_be_disabled()
    with acting(page):
        page.get_by_role("button", name="Leave out 2 rows").click()
    expect(page.get_by_text("mixed.jsonl (2 rows left out) · 1 pair")).to_be_visible()
    expect(run_button(page)).to_be_enabled()
    again = open_page(new_page(), page.url)
    expect(again.get_by_text("mixed.jsonl (2 rows left out) · 1 pair")).to_be_visible()


def test_a_row_is_mended_in_the_table(page: Page, server: Server, tmp_path: Path) -> None:
    open_own(page, server)
    upload(page, written(tmp_path, "mend.jsonl", GOOD, BAD))
    expect(run_button(page)).to_be_disabled()
    box = table(page).locator("canvas").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 60, box["y"] + 35 * 2.5)  # the second row's first cell
    page.keyboard.press("ArrowRight")  # to its answer
    page.keyboard.press("Enter")
    cell = page.locator("textarea.gdg-input")
    cell.fill("·Mary")
    with acting(page):
        cell.press("Enter")
    expect(page.get_by_text("mend.jsonl (edited) · 2 pairs")).to_be_visible()
    expect(run_button(page)).to_be_enabled()


def test_a_refused_circuit_says_that_the_set_is_as_it_was(page: Page, server: Server, tmp_path: Path) -> None:
    open_page(page, server.link("patching", set="20.0", n="2"))
    with acting(page):
        page.locator(".st-key-circuit-file input[type=file]").set_input_files(written(tmp_path, "c.json", "[1]"))
    expect(alerts(page).filter(has_text="The set is as it was.")).to_contain_text("c.json")
    assert re.search(r"set=20\.0(&|$)", page.url)
