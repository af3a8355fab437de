"""The page Vision in a real browser: Hugging Face's patterns over the image, by pointer, click and keys."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Locator, Page, expect

import workbench as wb
from tests.browser.driving import (
    LONG_WAIT,
    OF_VISION,
    acting,
    charts,
    downloaded,
    go_to,
    open_page,
    wait_head,
    wait_rendered,
)
from tests.browser.serving import Server

#: Rows and columns of patches of digits-vit, whose first position is CLS.
SIDE = 4


@cache
def patterns() -> list[np.ndarray]:
    """``[head, dest, src]`` of each layer on the image of `OF_VISION`, from Hugging Face."""
    model = wb.load("digits-vit")
    pixels = wb.image_set("digits").test.pixels[int(OF_VISION["image-number"]), 0]
    inputs = model.processor([Image.fromarray(pixels)], return_tensors="pt")["pixel_values"]
    model.hf.set_attn_implementation("eager")
    with torch.no_grad():
        every = model.hf(inputs, output_attentions=True).attentions
    return [pattern[0].numpy() for pattern in every]


def expected(layer: int, head: int, row: int, column: int) -> np.ndarray:
    return patterns()[layer][head, 1 + row * SIDE + column]


def map_of(page: Page) -> dict[str, Any]:
    return page.locator(".image-map").evaluate("(e) => e.drawn")


def point(page: Page, row: int, column: int, right: bool = False) -> Any:
    """The middle of a patch on the left or right picture, from the canvas's corner."""
    side = map_of(page)["side"]
    x = (side["second"] if right else 0) + (column + 0.5) * side["size"]
    return {"x": x, "y": side["top"] + (row + 0.5) * side["size"]}


@pytest.fixture
def canvas(page: Page, server: Server) -> Locator:
    open_page(page, server.link("vision", **OF_VISION))
    canvas = page.locator(".image-map canvas")
    canvas.scroll_into_view_if_needed()
    return canvas


def test_the_map_follows_the_pointer_and_a_click_keeps_it(page: Page, canvas: Locator) -> None:
    assert map_of(page)["from"] == "1,1"
    np.testing.assert_allclose(map_of(page)["row"], expected(3, 2, 1, 1), atol=1e-5)
    canvas.hover(position=point(page, 2, 3))
    assert map_of(page)["from"] == "2,3"
    np.testing.assert_allclose(map_of(page)["row"], expected(3, 2, 2, 3), atol=1e-5)
    canvas.hover(position=point(page, 0, 3, right=True))
    weight = float(f"{expected(3, 2, 1, 1)[1 + 3]:.2g}")
    text = page.locator(".image-map output").inner_text()
    assert text.startswith("From 1,1 to 0,3: ") and float(text.rpartition(" ")[2]) == pytest.approx(weight, rel=0.05)
    with acting(page):
        canvas.click(position=point(page, 2, 0))
    page.wait_for_url(re.compile(r"image-position=2%2C0"))
    page.mouse.move(0, 0)
    assert map_of(page)["from"] == "2,0" and map_of(page)["limit"] == pytest.approx(
        expected(3, 2, 2, 0)[1:].max(), abs=1e-5
    )


def test_keys_move_over_patches_and_up_to_cls(page: Page, canvas: Locator) -> None:
    for key, position in (("ArrowRight", "1,2"), ("ArrowUp", "0,2"), ("ArrowUp", "cls"), ("ArrowDown", "0,0")):
        page.locator(".image-map").focus()
        with acting(page):
            page.keyboard.press(key)
        page.wait_for_url(re.compile(f"image-position={position.replace(',', '%2C')}"))
        assert map_of(page)["from"] == position
    np.testing.assert_allclose(map_of(page)["row"], expected(3, 2, 0, 0), atol=1e-5)


def test_a_small_picture_opens_its_head(page: Page, canvas: Locator) -> None:
    button = page.get_by_role("button", name=re.compile(r"^Head 3\.1: up to"))
    largest = float(f"{expected(3, 1, 1, 1)[1:].max():.3g}")
    assert str(largest) in (button.get_attribute("aria-label") or "")
    button.focus()
    with acting(page):
        page.keyboard.press("Enter")
    wait_head(page, 3, 1)
    expect(button).to_have_attribute("aria-pressed", "true")
    np.testing.assert_allclose(map_of(page)["row"], expected(3, 1, 1, 1), atol=1e-5)


def test_an_edit_is_shown_before_and_after_and_a_sweep_opens_as_a_run(page: Page, server: Server) -> None:
    open_page(page, server.link("vision", **OF_VISION, **{"image-edit": "zero", "set": "1.1:mover"}))
    titles = [chart["title"] for chart in charts(page)]
    assert any("Classes before and after the edits" in title for title in titles)
    page.get_by_role("button", name="Run the sweep").click()
    page.locator(".st-key-sweep-json").wait_for(timeout=LONG_WAIT)
    wait_rendered(page)
    _, data = downloaded(page, "sweep-json")
    sweep = json.loads(data)
    model = wb.load("digits-vit")
    image = wb.images([wb.image_set("digits").test.pixels[int(OF_VISION["image-number"]), 0]])
    assert sweep["info"]["inputs"]["examples"][0]["clean"]["name"].startswith(
        f"digits image {OF_VISION['image-number']} (class "
    )
    expected = wb.sweep(model, image.answered_by(model), edit="zero", cache=False)
    change = [cell["mean_delta"] for cell in sweep["cells"]]
    np.testing.assert_allclose(change, expected.mean_delta.ravel(), atol=1e-5)
    with acting(page):
        page.get_by_role("button", name="Save as a run").click()
    with acting(page):
        page.get_by_role("button", name="Open on Circuits").click()
    page.wait_for_url(re.compile(r"/circuits\?"))
    expect(page.get_by_text("Circuit of digits").first).to_be_visible()
    go_to(page, "Runs")
    expect(page.get_by_text("The largest mean changes of logit difference")).to_be_visible()


def test_a_page_for_other_models_names_one_for_this(page: Page, server: Server) -> None:
    page.goto(server.link("patching", model="digits-vit"))
    page.get_by_text("Open Vision, or select another model in the side bar.").wait_for(timeout=LONG_WAIT)
    wait_rendered(page)
