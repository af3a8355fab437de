"""The page Diffusion in a real browser: steps by click and keys, patterns of plain hooks over the sample, the grid of
heads and steps."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Locator, Page, expect

import workbench as wb
from tests.browser.driving import LONG_WAIT, OF_DIFFUSION, acting, open_page, wait_head, wait_rendered
from tests.browser.serving import Server

STEPS, HEADS, SIDE = int(OF_DIFFUSION["sample-steps"]), 4, 4


@cache
def patterns(layer: int, at: int) -> np.ndarray:
    """``[head, dest, src]`` of the pass with the class in a step, from a plain loop and the projections' outputs."""
    model: Any = wb.load("digits-dit").hf
    label, seed = int(OF_DIFFUSION["sample-class"]), int(OF_DIFFUSION["sample-seed"])
    x = torch.randn((1, 1, 8, 8), generator=torch.Generator().manual_seed(seed))
    stored: dict[str, torch.Tensor] = {}
    attn = model.get_submodule(f"blocks.{layer}.attn")
    hooks = [
        getattr(attn, f"{name}_proj").register_forward_hook(
            lambda _, args, out, name=name: stored.update({name: out[0].unflatten(-1, (HEADS, -1)).transpose(0, 1)})
        )
        for name in "qk"
    ]
    with torch.no_grad():
        for step in range(at + 1):
            t = 1 - step / STEPS
            without, labelled = (model(x, torch.tensor([1000 * t]), torch.tensor([of])) for of in (10, label))
            x = x - (without + 2.0 * (labelled - without)) / STEPS
    for hook in hooks:
        hook.remove()
    return (stored["q"] @ stored["k"].mT / stored["q"].shape[-1] ** 0.5).softmax(-1).numpy()


def map_of(page: Page) -> dict[str, Any]:
    return page.locator(".image-map").evaluate("(e) => e.drawn")


def strip(page: Page) -> Locator:
    return page.locator(".st-key-sample-strip .step-strip, .step-strip").first


@pytest.fixture
def opened(page: Page, server: Server) -> Page:
    open_page(page, server.link("diffusion", **OF_DIFFUSION))
    return page


def test_a_step_is_opened_by_click_and_by_keys(opened: Page) -> None:
    step = int(OF_DIFFUSION["sample-step"])
    np.testing.assert_allclose(map_of(opened)["row"], patterns(3, step)[1, 6], atol=1e-5)
    with acting(opened):
        strip(opened).get_by_role("button", name="Step 3, time").click()
    opened.wait_for_url(re.compile(r"sample-step=3"))
    np.testing.assert_allclose(map_of(opened)["row"], patterns(3, 3)[1, 6], atol=1e-5)
    expect(strip(opened).get_by_role("button", name="Step 3, time")).to_be_focused()
    with acting(opened):
        opened.keyboard.press("ArrowLeft")
    opened.wait_for_url(re.compile(r"sample-step=2"))
    expect(strip(opened).get_by_role("button", name="Step 2, time")).to_have_attribute("aria-pressed", "true")
    np.testing.assert_allclose(map_of(opened)["row"], patterns(3, 2)[1, 6], atol=1e-5)
    expect(strip(opened).get_by_role("button", name="Finished")).to_be_disabled()


def test_keys_move_from_patch_to_patch(opened: Page) -> None:
    opened.locator(".image-map").focus()
    with acting(opened):
        opened.keyboard.press("ArrowDown")
    opened.wait_for_url(re.compile(r"image-position=2%2C2"))
    step = int(OF_DIFFUSION["sample-step"])
    assert map_of(opened)["from"] == "2,2"
    np.testing.assert_allclose(map_of(opened)["row"], patterns(3, step)[1, 2 * SIDE + 2], atol=1e-5)


def test_a_sweep_fills_the_grid_whose_cells_open_head_and_step(opened: Page) -> None:
    opened.get_by_role("button", name="Run the sweep").click()
    opened.locator(".st-key-steps-grid-json").wait_for(timeout=LONG_WAIT)
    wait_rendered(opened)
    grid = opened.locator(".grid")
    expect(grid.locator("output")).to_have_text(re.compile(r"^head 3\.1, step 1: "))
    grid.focus()
    with acting(opened):
        opened.keyboard.press("ArrowUp")
    wait_head(opened, 3, 0)
    grid.focus()
    with acting(opened):
        opened.keyboard.press("ArrowRight")
    opened.wait_for_url(re.compile(r"sample-step=2"))
    expect(grid.locator("output")).to_have_text(re.compile(r"^head 3\.0, step 2: "))
    with acting(opened):
        opened.get_by_role("button", name="Add 3.0").click()
    expect(opened.get_by_text("With edits (head 3.0: set to zero, in every step)")).to_be_visible()
