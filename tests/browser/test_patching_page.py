"""The page Patching in a real browser, on the default model with its worker: sweeps, manual edits, circuits."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect

import workbench as wb
from app import sidebar
from tests.browser import driving
from tests.browser.driving import LONG_WAIT, acting, downloaded, go_to, open_page, point_at, wait_head, wait_rendered
from tests.browser.serving import Server
from tests.oracle import plain_hooks
from workbench.models.catalog import DEFAULT

SMALL = {"task": "ioi", "n": "2"}
HOSTILE = '<img src=x onerror="alert(1)"> [a](javascript:alert(2)) went out with Mary and John, John gave a rose to'


@cache
def model() -> Any:
    return wb.load(DEFAULT)


def button(page: Page, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def run_sweep(page: Page) -> dict[str, Any]:
    """Run the sweep; its JSON download."""
    button(page, "Run the sweep").click()
    page.locator(".st-key-sweep-json").wait_for(timeout=LONG_WAIT)
    wait_rendered(page)
    return json.loads(downloaded(page, "sweep-json")[1])


def add_head(page: Page, layer: int, head: int) -> None:
    """Select a head in the sweep's grid and add it to the set."""
    x, y = point_at(page, layer, head)
    with acting(page):
        page.locator(".grid canvas").first.click(position={"x": x, "y": y})
    with acting(page):
        page.locator(".st-key-flip button").click()


def test_a_small_sweep_is_run_shown_and_reopened(page: Page, server: Server, new_page: Callable[..., Page]) -> None:
    open_page(page, server.link("patching", **SMALL))
    chart = run_sweep(page)
    expected = wb.sweep(model(), wb.task("ioi", n=2, seed=0), direction="denoise", cache=False)
    effects = {row["head"]: row["effect"] for row in chart["cells"]}
    assert expected.effect is not None and len(effects) == 270
    for head in expected.top(20):
        assert effects[str(head)] == pytest.approx(expected.effect[head.layer, head.index], abs=1e-4)
    best = expected.top(1)[0]
    x, y = point_at(page, best.layer, best.index)
    messages = page.locator(".grid output").first.inner_text()
    assert f"effect {expected.effect[best.layer, best.index]:.2f}"[:10] in messages and "p = " in messages
    with acting(page):
        page.locator(".grid canvas").first.click(position={"x": x, "y": y})
    again = open_page(new_page(), page.url)  # the URL shows the same, and nothing runs again
    assert json.loads(downloaded(again, "sweep-json")[1]) == chart
    go_to(page, "Heads")
    wait_head(page, best.layer, best.index)


def test_heads_added_by_clicks_are_ablated_as_plain_hooks_do(page: Page, server: Server) -> None:
    open_page(page, server.link("patching", **SMALL))
    if button(page, "Run the sweep").count():
        run_sweep(page)
    for head in ((23, 3), (20, 0)):
        add_head(page, *head)
    page.wait_for_url(re.compile(r"set=20\.0%2C23\.3"))
    data = json.loads(downloaded(page, "by-hand-json")[1])

    def without(index: int) -> Any:
        def change(z: torch.Tensor) -> torch.Tensor:
            z = z.clone()
            z.unflatten(-1, (9, -1))[..., index, :] = 0
            return z

        return change

    hf, ids = model().hf, model().to_tokens(sidebar.DEFAULT_PROMPT)
    hooks = [(plain_hooks.output_projection(hf, "llama", i), "input", without(j)) for i, j in ((23, 3), (20, 0))]
    with torch.no_grad():
        before = hf(ids).logits[0, -1].softmax(-1)
        with plain_hooks.edited(*hooks):  # pyright: ignore[reportArgumentType] - hooks as a list of tuples
            after = hf(ids).logits[0, -1].softmax(-1)
    tokens = [model().tokenizer.decode([i]) for i in before.topk(8).indices.tolist()]
    assert data["labels"][0][0] == tokens[0]
    likeliest = before.topk(1).indices
    np.testing.assert_allclose(data["values"][0], after[likeliest].item(), atol=1e-4)
    np.testing.assert_allclose(data["reference"][0], before[likeliest].item(), atol=1e-4)
    with acting(page):
        page.locator(".st-key-empty button").click()
    expect(page.get_by_text("Add heads to the set, or force a row")).to_be_visible()


def test_a_sweep_is_stopped_half_way_while_heads_are_browsed_and_another_waits(
    server: Server, new_page: Callable[..., Page]
) -> None:
    first = open_page(new_page(), server.link("patching", task="ioi", n="60", seed="7"))
    button(first, "Run the sweep").click()
    main = first.get_by_test_id("stMain")
    started = re.compile(r"sweep [1-9][\d,]* of 16,200")
    expect(main.get_by_test_id("stProgress")).to_contain_text(started, timeout=LONG_WAIT)
    second = open_page(new_page(), server.link("patching", task="ioi", n="3", seed="8"))
    button(second, "Run the sweep").click()
    progress = second.get_by_test_id("stMain").get_by_test_id("stProgress")
    expect(progress).to_contain_text("waiting for sweep of z on ioi, n = 60", timeout=LONG_WAIT)
    other_jobs = second.get_by_test_id("stSidebar").get_by_test_id("stProgress")  # the first sweep, with its own Stop
    expect(other_jobs).to_contain_text(re.compile(r"n = 60: sweep [1-9]"), timeout=LONG_WAIT)
    third = open_page(new_page(), server.link(head="1.1"))
    driving.click_head(third, 16, 0)
    main.get_by_role("button", name="Stop").click()
    stopped = first.get_by_text("Stopped at")
    stopped.wait_for(timeout=LONG_WAIT)
    counts = re.search(r"at ([\d,]+) of 16,200", stopped.inner_text())
    assert counts is not None and 0 < int(counts[1].replace(",", "")) < 16_200
    second.locator(".st-key-sweep-json").wait_for(timeout=LONG_WAIT)  # its turn has come


def test_uploaded_pairs_are_text_and_an_invalid_file_is_refused(page: Page, server: Server, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    corrupt = HOSTILE.replace("John, John", "John, Mary")
    good.write_text(json.dumps({"clean": HOSTILE, "corrupt": corrupt, "answer": " Mary", "wrong": " John"}))
    bad.write_text('{"clean": 1}')
    open_page(page, server.link("patching", source="pairs of my own"))
    upload = page.locator(".st-key-pairs-file input[type=file]")
    with acting(page):
        upload.set_input_files(bad)
    expect(page.get_by_test_id("stAlert").filter(has_text="line 1")).to_have_count(1)
    with acting(page):
        upload.set_input_files(good)
    expect(page.get_by_test_id("stAlert").filter(has_text="line 1")).to_have_count(0)
    driving.select(page, "on", f"pair 1: {HOSTILE}")
    assert page.locator("[data-testid=stMain]").locator("img[src=x], a[href^=javascript]").count() == 0
    page.get_by_test_id("stMain").get_by_text("Show as code").click()
    expect(page.get_by_test_id("stExpander").locator("code")).to_contain_text("<img src=x onerror=")


def test_a_circuit_is_saved_and_loaded(page: Page, server: Server, tmp_path: Path) -> None:
    open_page(page, server.link("patching", set="20.0:inhibition,23.3", head="23.3", **SMALL))
    name, data = downloaded(page, "save-circuit")
    saved = tmp_path / name
    saved.write_bytes(data)
    assert wb.Circuit.load(saved).heads == ((wb.Head(20, 0), "inhibition"), (wb.Head(23, 3), "no role"))
    with acting(page):
        page.locator(".st-key-empty button").click()
    with acting(page):
        page.locator(".st-key-circuit-file input[type=file]").set_input_files(saved)
    page.wait_for_url(re.compile(r"set=20\.0%3Ainhibition%2C23\.3"))
