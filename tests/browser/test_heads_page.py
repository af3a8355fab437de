"""The page of heads in a real browser, on the default model: what it shows is what Hugging Face computes."""

from __future__ import annotations

import io
import json
import random
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from playwright.sync_api import Page, expect

import workbench as wb
from app import chosen as app_chosen
from app import inputs
from app.page import pages
from tests.benchmarks import bench_explorer
from tests.benchmarks.subject import Settings
from tests.browser import driving
from tests.browser.driving import choose, chosen, click_head, downloaded, heading, open_page, wait_head, write_prompt
from tests.browser.serving import Server
from workbench.models.catalog import DEFAULT
from workbench.patching.resolve import resolve_inputs

OTHER = "The keys of the old cabinet were lost, and the keys of the new one"
HOSTILE = '<script>alert(1)</script> "><img src=x onerror=alert(2)> **bold** $x^2$ [link](javascript:alert(3)) <b>'
HOSTILE_AND_LONG = f"{HOSTILE} {'understanding ' * 170}"
#: Patterns of float32, computed in another order.
CLOSE = 2e-5


@cache
def model() -> Any:
    """Hugging Face's model, which gives patterns away when its attention is eager."""
    found = wb.load(DEFAULT)
    found.hf.set_attn_implementation("eager")
    return found


def ids_of(text: str) -> torch.Tensor:
    return model().tokenizer(text, return_tensors="pt").input_ids


@cache
def patterns_of(text: str, *heads: tuple[int, int]) -> list[np.ndarray]:
    """Hugging Face's own attention of some heads; all of a long text would fill the memory."""
    kept: list[torch.Tensor] = [torch.empty(0)] * len(heads)
    with ExitStack() as hooks:
        for i, (layer, head) in enumerate(heads):

            def keep(module: Any, given: Any, made: Any, i: int = i, head: int = head) -> None:
                kept[i] = made[1][0, head]

            hooks.callback(model().hf.model.layers[layer].self_attn.register_forward_hook(keep).remove)
        with torch.no_grad():
            model().hf(ids_of(text), use_cache=False, logits_to_keep=1)
    return [pattern.numpy() for pattern in kept]


def pattern_of(text: str, layer: int, head: int) -> np.ndarray:
    return patterns_of(text, (layer, head))[0]


def data_of(page: Page) -> dict[str, Any]:
    """The pattern that is shown, as it is downloaded."""
    return json.loads(downloaded(page, "pattern-json")[1])


def drawn(page: Page) -> dict[str, Any]:
    """The pattern as Plotly has drawn it."""
    script = """(chart) => ({
      z: Array.from(chart._fullData[0].z, (row) => Array.from(row)),
      title: chart.layout.title.text,
      wide: chart.querySelector('.heatmaplayer image').getBoundingClientRect().width,
    })"""
    return page.locator(".st-key-pattern .js-plotly-plot").evaluate(script)


def begin(page: Page, server: Server, prompt: str = app_chosen.FIRST) -> Page:
    """The page of heads with that prompt, loaded only where it is not there already."""
    if page.locator(".st-key-prompt").count() == 0 or page.locator(".st-key-pattern").count() == 0:
        open_page(page, server.link())
    if chosen(page, "prompt") != prompt:
        write_prompt(page, prompt)
    return page


def test_it_opens_on_a_prompt_with_every_head(page: Page, server: Server) -> None:
    open_page(page, server.link())
    assert chosen(page, "model") == DEFAULT and chosen(page, "prompt") == app_chosen.FIRST
    grid = page.locator(".grid")
    expect(grid).to_have_count(1)
    # A colour a head at least: the canvas is no blank one.
    colours = grid.locator("canvas").evaluate(
        "(c) => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
    )
    assert colours > 100
    assert page.get_by_test_id("stAlert").count() == 0


def test_a_clicked_head_shows_hugging_faces_pattern(page: Page, server: Server) -> None:
    begin(page, server)
    for layer, head in ((16, 0), (29, 8), (1, 2)):
        click_head(page, layer, head)
        theirs, shown = pattern_of(app_chosen.FIRST, layer, head), drawn(page)
        assert f"{layer}.{head}" in shown["title"] and shown["wide"] > 100
        np.testing.assert_allclose(np.array(shown["z"], float), theirs, atol=CLOSE)
        assert data_of(page)["values"] == shown["z"]


def test_arrow_keys_move_the_head(page: Page, server: Server) -> None:
    click_head(begin(page, server), 20, 0)
    for key, layer, head in (("ArrowRight", 21, 0), ("ArrowDown", 21, 1), ("ArrowLeft", 20, 1), ("ArrowUp", 20, 0)):
        page.keyboard.press(key)
        wait_head(page, layer, head)
    page.keyboard.press("ArrowUp")  # there is none above
    page.wait_for_timeout(300)
    expect(heading(page, r"20\.0")).to_be_visible()


@pytest.mark.parametrize("pause", [40, 300])
def test_arrow_keys_pressed_quickly_all_count(page: Page, server: Server, pause: int) -> None:
    click_head(begin(page, server), 29, 8)
    for _ in range(12):
        page.keyboard.press("ArrowLeft")
        page.wait_for_timeout(pause)
    said = page.locator(".grid output")
    wait_head(page, 17, 8)
    page.wait_for_url(re.compile(r"[?&]head=17\.8\b"))
    expect(said).to_have_text(re.compile(r"^17\.8:"))
    # Another selection, and one that was passed: the grid follows the side bar.
    field = page.locator(".st-key-head input")
    for layer, head in ((3, 1), (20, 8)):
        field.fill(f"{layer}.{head}")
        field.press("Enter")
        wait_head(page, layer, head)
        expect(said).to_have_text(re.compile(rf"^{layer}\.{head}:"))


def test_a_copied_link_shows_the_same_in_another_browser(server: Server, new_page: Callable[..., Page]) -> None:
    page = open_page(new_page(), server.link(prompt=OTHER))
    click_head(page, 12, 3)
    choose(page, "score", "entropy")
    with driving.acting(page):
        page.locator(".st-key-kind button", has_text="value-weighted").click()
    before = data_of(page)
    again = open_page(new_page(), page.url)
    assert chosen(again, "model") == DEFAULT and chosen(again, "prompt") == OTHER and chosen(again, "head") == "12.3"
    assert chosen(again, "score") == "entropy" and "Value-weighted" in drawn(again)["title"]
    expect(heading(again, r"12\.3")).to_be_visible()
    assert data_of(again) == before
    assert again.url == page.url


def test_pages_are_switched_and_all_is_kept(page: Page, server: Server) -> None:
    click_head(begin(page, server, OTHER), 12, 3)
    choose(page, "score", "sink (first position)")
    for other in pages()[1:]:
        driving.go_to(page, other.title)
        page.wait_for_url(re.compile(rf"/{other.name}\b.*head=12\.3"))
        assert [chosen(page, key) for key in ("model", "prompt", "head")] == [DEFAULT, OTHER, "12.3"]
    driving.go_to(page, pages()[0].title)
    wait_head(page, 12, 3)
    assert chosen(page, "prompt") == OTHER and chosen(page, "score") == "sink (first position)"


def test_what_is_downloaded_is_what_is_shown_in_every_form(page: Page, server: Server) -> None:
    click_head(begin(page, server), 16, 0)
    files = {ending: downloaded(page, f"pattern-{ending}") for ending in ("png", "svg", "csv", "json")}
    assert {ending: name.rpartition(".")[2] for ending, (name, _) in files.items()} == {e: e for e in files}
    assert all("16.0" in name for name, _ in files.values())
    exact = json.loads(files["json"][1])
    table = pd.read_csv(io.BytesIO(files["csv"][1]), index_col=0)
    assert table.to_numpy(np.float32).tolist() == exact["values"] == drawn(page)["z"]
    assert [list(table.columns), list(table.index)] == exact["labels"]
    picture = Image.open(io.BytesIO(files["png"][1]))
    assert min(picture.size) > 500 and len(picture.convert("RGB").getcolors(1 << 24) or []) > 50
    drawing = files["svg"][1].decode()
    assert ElementTree.fromstring(drawing).tag == "{http://www.w3.org/2000/svg}svg"
    assert f"<!-- {exact['title']} -->" in drawing and "<script" not in drawing


def test_a_tasks_prompts_are_scored_by_the_worker(server: Server, new_page: Callable[..., Page]) -> None:
    page = open_page(new_page(), server.link(scored="a task", n="2", seed="5", head="12.3", score="previous_token"))
    page.get_by_text("mean over 2 prompts of ioi").wait_for(timeout=driving.PATIENCE)
    driving.wait_drawn(page)
    got = json.loads(downloaded(page, "grid-json")[1])["values"]
    texts = [clean for clean, _ in resolve_inputs(wb.task("ioi", n=2, seed=5), model()).texts]
    each = [np.diagonal(pattern_of(text, 12, 3), -1).mean() for text in texts]
    assert got[3][12] == pytest.approx(np.mean(each), abs=CLOSE)
    click_head(page, 16, 0)
    assert np.abs(np.array(drawn(page)["z"]) - pattern_of(texts[0], 16, 0)).max() < CLOSE


@pytest.mark.parametrize("text", [HOSTILE, HOSTILE_AND_LONG], ids=["short", "2,500 characters"])
def test_a_hostile_prompt_is_shown_as_text(page: Page, server: Server, text: str) -> None:
    begin(page, server, text)
    expect(page.locator("[data-testid=stHtml]").first).to_contain_text("<script>alert(1)</script>")
    assert chosen(page, "prompt") == text
    injected = "script:not([src]):not([type]), img[src=x], a[href^=javascript], .katex"
    assert page.locator("[data-testid=stMain]").locator(injected).count() == 0
    assert page.get_by_test_id("stAlert").count() == 0
    held = "prompt-input" if len(text) > inputs.LONGEST_IN_LINK else "prompt"
    page.wait_for_url(re.compile(rf"[?&]{held}="))
    # Labels of the chart are text as well: none of them became a tag of the picture.
    labels = page.locator(".st-key-pattern .js-plotly-plot .main-svg text").all_text_contents()
    assert any("<" in label for label in labels)


def test_1024_tokens_are_pooled_and_seen_in_blocks(page: Page, server: Server) -> None:
    text = " ".join(f"{word} and" for word in ["Mary", "John", "Paul", "Anna"] * 128)
    assert ids_of(text).shape[1] == 1024
    click_head(begin(page, server), 16, 0)
    write_prompt(page, text)
    pooled, theirs = data_of(page), patterns_of(text, (16, 0), (29, 1))
    blocks = theirs[0].reshape(512, 2, 512, 2).max(axis=(1, 3))
    np.testing.assert_allclose(pooled["values"], blocks, atol=CLOSE)
    assert "pooled" in pooled["subtitle"]
    choose(page, "block", "256 to 511")
    click_head(page, 29, 1)
    block = data_of(page)
    np.testing.assert_allclose(block["values"], theirs[1][256:512, 256:512], atol=CLOSE)
    assert block["labels"][0][0].startswith("256 ")


def test_two_sessions_at_once_show_their_own_numbers(page: Page, server: Server, new_page: Callable[..., Page]) -> None:
    texts = (app_chosen.FIRST, OTHER)
    both = (begin(page, server), open_page(new_page(), server.link(prompt=OTHER)))
    for turn in range(4):
        heads = ((3 + 7 * turn, turn), (29 - 5 * turn, 8 - turn))
        for each, (layer, head) in zip(both, heads, strict=True):
            click_head(each, layer, head, wait=False)
        for each, text, (layer, head) in zip(both, texts, heads, strict=True):
            wait_head(each, layer, head)
            found = data_of(each)
            assert f"{layer}.{head}" in found["title"]
            np.testing.assert_allclose(found["values"], pattern_of(text, layer, head), atol=CLOSE)


def test_an_empty_prompt_is_one_line_and_the_page_recovers(page: Page, server: Server) -> None:
    click_head(begin(page, server), 16, 0)
    write_prompt(page, "")
    alert = page.get_by_test_id("stAlert")
    expect(alert).to_have_count(1)
    expect(alert).to_contain_text("The prompt is empty")
    write_prompt(page, OTHER)
    wait_head(page, 16, 0)
    expect(alert).to_have_count(0)
    np.testing.assert_allclose(data_of(page)["values"], pattern_of(OTHER, 16, 0), atol=CLOSE)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"model": "../../etc/passwd", "prompt-input": "0" * 64}, ["which is not there", "not on this machine"]),
        ({"prompt-input": "../../etc/passwd", "head": "nonsense"}, ["no hash of one", "give layer.head"]),
    ],
    ids=["model and a lost input", "no hash and no head"],
)
def test_a_link_that_makes_no_sense_is_said_in_a_line(
    page: Page, server: Server, query: dict[str, str], said: list[str]
) -> None:
    open_page(page, server.link(**query))
    alerts = page.get_by_test_id("stAlert")
    expect(alerts).to_have_count(len(said))
    for line in said:
        expect(alerts.filter(has_text=line)).to_have_count(1)
    assert chosen(page, "model") == DEFAULT
    # A head that the model does not have is the nearest.
    field = page.locator(".st-key-head input")
    field.fill("99.99")
    field.press("Enter")
    wait_head(page, 29, 8)


def test_the_benchmark_reads_its_times(page: Page, server: Server) -> None:
    settings = Settings(quick=True)
    texts = bench_explorer.prompts(model().tokenizer, random.Random(2))
    text = next(texts)
    assert len(model().tokenizer(text).input_ids) == bench_explorer.TOKENS
    for result in (
        bench_explorer.clicks(begin(page, server, text), server, settings),
        bench_explorer.first_grid(page, server, texts, settings),
    ):
        assert all(0 < seconds < 60 for measured in result.rounds.values() for seconds in measured)
    assert 0.1 < bench_explorer.anonymous(server.pid) < 20
