"""The page Memory in a real browser: capacity beside its law, a protocol trial by trial, recorded heads by click."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

import workbench as wb
from data.texts import passages
from tests.browser.driving import LONG_WAIT, acting, open_page, select, wait_rendered
from tests.browser.serving import Server
from workbench.models.catalog import DEFAULT

STEP = 0.1


def traces(page: Page) -> list[dict[str, Any]]:
    """Name, x and y of what the page's chart has; of typed arrays, too."""
    return page.evaluate(
        """() => document.querySelector('.js-plotly-plot')._fullData.map(
             (trace) => ({ name: trace.name, mode: trace.mode, x: [...trace.x], y: [...trace.y] }))"""
    )


def test_a_rule_that_is_selected_has_its_points_near_its_law(page: Page, server: Server) -> None:
    open_page(page, server.link("memory", **{"memory-d": "64"}))
    select(page, "memory-beside", "hebbian: Hebbian")
    points = {trace["name"]: trace for trace in traces(page) if trace["mode"] == "markers"}
    n = np.array(points["hebbian"]["x"], float)
    np.testing.assert_allclose(points["hebbian"]["y"], (n - 1) / 64, rtol=0.2)
    assert (np.array(points["delta"]["y"])[n > 64] < np.array(points["hebbian"]["y"])[n > 64]).all()
    assert "memory-beside=hebbian" in page.url


def test_keys_play_a_protocol_trial_by_trial(page: Page, server: Server) -> None:
    open_page(page, server.link("memory", **{"memory-part": "conditioning", "protocol-trial": "21"}))
    expect(page.get_by_text("Trial 21: A and B, then 1")).to_be_visible()
    with acting(page):
        page.locator(".st-key-protocol-trial").get_by_role("slider").press("ArrowRight")
    expect(page.get_by_text("Trial 22: A and B, then 1")).to_be_visible()
    a = b = 0.0
    for trial in range(22):  # Rescorla and Wagner: 20 trials of A, then A and B together
        change = STEP * (1 - a - b * (trial >= 20))
        a, b = a + change, b + change * (trial >= 20)
    cells = page.locator(".small-table tr", has_text="B").locator("td").all_inner_texts()
    assert float(cells[3]) == pytest.approx(b, abs=6e-4) and 0 < b < 0.05
    page.wait_for_url(re.compile(r"protocol-trial=22"))


def test_a_click_opens_a_recorded_head_with_its_spectrum(page: Page, server: Server) -> None:
    open_page(page, server.link("memory", **{"memory-part": "heads", "head": "0.0"}))
    page.get_by_role("heading", name="Key/value head 0.kv0").wait_for(timeout=LONG_WAIT)
    wait_rendered(page)
    grid = page.locator(".grid")
    grid.focus()
    with acting(page):
        grid.press("ArrowRight")
    page.get_by_role("heading", name="Key/value head 1.kv0").wait_for(timeout=LONG_WAIT)
    page.wait_for_url(re.compile(r"head=1\.0"))
    (chart,) = traces(page)[:1]
    model: Any = wb.load(DEFAULT)
    shares = []
    for text in passages("novel", 3):
        recording = wb.record(model, [text], ["k"], cache=False)
        keys = recording.clean["blocks.1.attn.hook_rot_k"][0][1:256, 0].double().numpy()
        keys -= keys.mean(0)
        values = np.linalg.svd(keys / np.linalg.norm(keys, axis=1, keepdims=True), compute_uv=False) ** 2
        shares.append(values / values.sum())
    np.testing.assert_allclose(chart["y"][:8], np.mean(shares, 0)[:8], rtol=1e-3)
