"""The browser's buttons and URLs typed by hand."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser import driving
from tests.browser.driving import click_head, heading, open_page, select, value_of, wait_head
from tests.browser.serving import Server


def test_back_and_forward_show_what_was_there(page: Page, server: Server) -> None:
    open_page(page, server.link(head="3.1"))
    click_head(page, 12, 3)
    select(page, "score", "entropy")
    click_head(page, 20, 0)
    for score in ("entropy", "entropy", "previous token"):
        wait_head(page, *((20, 0) if heading(page, r"20\.0").count() else (12, 3)))
        assert value_of(page, "score") == score
        with driving.acting(page):
            page.go_back()
    expect(heading(page, r"3\.1")).to_be_visible()
    with driving.acting(page):
        page.go_forward()
    wait_head(page, 12, 3)
    click_head(page, 7, 7)  # the page goes on from there
    assert value_of(page, "head") == "7.7" and value_of(page, "score") == "previous token"


def test_back_leads_to_the_page_before(page: Page, server: Server) -> None:
    open_page(page, server.link(head="3.1"))
    driving.go_to(page, "Patching")
    with driving.acting(page):
        page.locator(".st-key-flip button").click()
    page.wait_for_url("**/patching?*set=3.1*")
    with driving.acting(page):
        page.go_back()
    expect(page.get_by_text("No head is in the set yet")).to_be_visible()
    while not page.get_by_text("Colour heads by").count():
        with driving.acting(page):
            page.go_back()
    wait_head(page, 3, 1)


def test_the_first_page_has_a_name_in_urls_too(page: Page, server: Server) -> None:
    open_page(page, server.link("heads", head="7.1", score="sink"))
    wait_head(page, 7, 1)
    assert value_of(page, "score") == "sink (first position)" and not page.get_by_text("Page not found").count()
