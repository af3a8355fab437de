"""Edits in a real browser: the grid before a sweep, ablating from Heads, two prompts as a pair, generated text."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from playwright.sync_api import Page, expect

import workbench as wb
from app import sidebar
from app.heads.second_selection import DEFAULT_SECOND_PROMPT
from tests.browser.driving import LONG_WAIT, acting, go_to, open_page, point_at, value_of, wait_head, wait_rendered
from tests.browser.serving import Server
from tests.oracle import plain_hooks
from workbench.models.catalog import DEFAULT

SECOND = DEFAULT_SECOND_PROMPT


@cache
def model() -> Any:
    return wb.load(DEFAULT)


def kl_without(layer: int, index: int) -> float:
    """KL of the next token without a head, by plain hooks."""

    def silence(z: torch.Tensor) -> torch.Tensor:
        z = z.clone()
        z.unflatten(-1, (9, -1))[..., index, :] = 0
        return z

    hf, ids = model().hf, model().to_tokens(sidebar.DEFAULT_PROMPT)
    with torch.no_grad():
        p = hf(ids).logits[0, -1].double().log_softmax(-1)
        with plain_hooks.edited((plain_hooks.output_projection(hf, "llama", layer), "input", silence)):
            q = hf(ids).logits[0, -1].double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum())


def kl_on(page: Page) -> float:
    text = page.get_by_text("KL(before ‖ after)").last
    text.wait_for(timeout=LONG_WAIT)
    match = re.search(r"after\) ([\d.e-]+) nats", text.inner_text())
    assert match is not None, text.inner_text()
    return float(match[1])


def test_a_click_adds_a_head_before_any_sweep(page: Page, server: Server) -> None:
    open_page(page, server.link("patching", adding="yes", task="ioi", n="2"))
    x, y = point_at(page, 23, 3)
    with acting(page):
        page.locator(".grid canvas").first.click(position={"x": x, "y": y})
    assert "set=23.3" in page.url
    assert kl_on(page) == pytest.approx(kl_without(23, 3), rel=5e-3)
    expect(page.get_by_role("button", name="Run the sweep")).to_be_enabled()
    with acting(page):  # keyboard: the arrow key opens and adds the next head
        page.locator(".grid").first.press("ArrowRight")
    page.wait_for_url(re.compile(r"set=23\.3%2C24\.3"))


def test_the_open_head_is_ablated_from_heads_and_the_way_back_is_one_step(page: Page, server: Server) -> None:
    open_page(page, server.link(head="16.0"))
    with acting(page):
        page.get_by_role("button", name="Ablate 16.0").click()
    page.wait_for_url(re.compile("/patching"))
    wait_rendered(page)
    assert value_of(page, "kind-by-hand").startswith("set to zero")
    assert kl_on(page) == pytest.approx(kl_without(16, 0), rel=5e-3)
    expect(page.locator(".st-key-by-hand .js-plotly-plot")).to_be_in_viewport(ratio=0.9)
    go_to(page, "Heads")
    wait_head(page, 16, 0)


def test_two_compared_prompts_are_a_pair_that_says_which_run_is_edited(page: Page, server: Server) -> None:
    open_page(page, server.link(head="23.3", compare="yes", differs="prompt", prompt2=SECOND))
    with acting(page):
        page.get_by_role("button", name="Patch these two prompts").click()
    page.wait_for_url(re.compile(r"/patching.*pairs="))
    wait_rendered(page)
    expect(page.get_by_text(f"The corrupt run is edited: {SECOND}")).to_be_visible()
    (pair,) = wb.prompt_pair(model(), sidebar.DEFAULT_PROMPT, SECOND).items
    answers = f"Answers: ·{pair.answer[0].strip()} over ·{pair.wrong[0].strip()}"
    expect(page.get_by_text(answers)).to_be_visible()
    with acting(page):
        page.locator(".st-key-flip button").click()
    before = page.get_by_text("Logit difference of the pair").inner_text()
    with acting(page):
        page.locator(".st-key-run-by-hand").get_by_text("clean run", exact=True).click()
    expect(page.get_by_text(f"The clean run is edited: {sidebar.DEFAULT_PROMPT}")).to_be_visible()
    assert page.get_by_text("Logit difference of the pair").inner_text() != before


def test_a_text_is_continued_as_a_chat_and_stopped(server: Server, new_page: Callable[..., Page]) -> None:
    page = open_page(
        new_page(), server.link("patching", set="23.3,16.0", prompt="Who wrote Hamlet?", task="ioi", n="2")
    )
    with acting(page):
        page.locator(".st-key-chat").get_by_text("As a chat").click()
    with acting(page):
        page.locator(".st-key-generating").get_by_text("Continue the text").click()
    edits = [wb.Edit("z", layer, head=head, kind="zero") for layer, head in ((16, 0), (23, 3))]
    both = wb.generations(model(), "Who wrote Hamlet?", edits=edits, max_new_tokens=10, chat=True)
    expect(page.get_by_text("Before the edits")).to_be_visible(timeout=LONG_WAIT)
    texts = page.locator("[data-testid=stHtml] div[dir=ltr]").all_inner_texts()
    words = [re.sub(r"\s", "", "".join(side.tokens)) for side in (both.before, both.after)]
    assert [re.sub(r"[\s·⏎]", "", text) for text in texts] == words
    first = page.locator("span[title$='the first that differs']")
    assert first.count() == (0 if both.first_difference is None else 2)
    count = page.locator(".st-key-new-tokens input")
    count.fill("60")
    count.press("Enter")
    page.get_by_text(re.compile(r"Generating: [1-9]\d* of 120")).wait_for(timeout=LONG_WAIT)
    page.locator(".st-key-stop-generating button").click()
    page.wait_for_url(re.compile("generating=no"))
    wait_rendered(page)
    expect(page.get_by_text("Before the edits")).to_have_count(0)
