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
from playwright.sync_api import Locator, Page, expect

import workbench as wb
from app import sidebar, upload_store
from app.page import pages
from tests.benchmarks import bench_explorer
from tests.benchmarks.subject import Settings, Subject
from tests.browser import driving
from tests.browser.driving import click_head, downloaded, heading, open_page, select, value_of, wait_head, write_prompt
from tests.browser.serving import Server
from workbench.models.catalog import DEFAULT
from workbench.patching.resolve import resolve_inputs

OTHER = "The keys of the old cabinet were lost, and the keys of the new one"
HOSTILE = '<script>alert(1)</script> "><img src=x onerror=alert(2)> **bold** $x^2$ [link](javascript:alert(3)) <b>'
HOSTILE_AND_LONG = f"{HOSTILE} {'understanding ' * 170}"
#: Patterns of float32, computed in another order.
CLOSE = 2e-5
#: The two charts of a head under another operator.
SIDES = ("own", "swapped")


@cache
def model() -> Any:
    """Hugging Face's model; its eager attention returns patterns."""
    data = wb.load(DEFAULT)
    data.hf.set_attn_implementation("eager")
    return data


def ids_of(text: str) -> torch.Tensor:
    return model().tokenizer(text, return_tensors="pt").input_ids


@cache
def patterns_of(text: str, *heads: tuple[int, int]) -> list[np.ndarray]:
    """Hugging Face's own attention of some heads; all of a long text would fill the memory."""
    patterns: list[torch.Tensor] = [torch.empty(0)] * len(heads)
    with ExitStack() as hooks:
        for i, (layer, head) in enumerate(heads):

            def store(module: Any, inputs: Any, output: Any, i: int = i, head: int = head) -> None:
                patterns[i] = output[1][0, head]

            hooks.callback(model().hf.model.layers[layer].self_attn.register_forward_hook(store).remove)
        with torch.no_grad():
            model().hf(ids_of(text), use_cache=False, logits_to_keep=1)
    return [pattern.numpy() for pattern in patterns]


def pattern_of(text: str, layer: int, head: int) -> np.ndarray:
    return patterns_of(text, (layer, head))[0]


def data_of(page: Page) -> dict[str, Any]:
    """The downloaded pattern, NaN where a mask hides the pair."""
    data = json.loads(downloaded(page, "pattern-json")[1])
    return {**data, "values": np.array(data["values"], dtype=float)}


def unmasked(pattern: np.ndarray) -> np.ndarray:
    """A causal pattern, NaN where the mask hides the pair."""
    return np.where(np.tri(*pattern.shape, dtype=bool), pattern, np.nan)


def plotted(page: Page) -> dict[str, Any]:
    """The pattern on its canvas."""
    script = """(root) => {
      const { values, rows, columns, title } = root.drawn, n = columns.length;
      const z = rows.map((_, i) => Array.from(values.slice(i * n, (i + 1) * n)));
      return { z, title, rows, columns, wide: root.querySelector('canvas').getBoundingClientRect().width };
    }"""
    return page.locator(".st-key-pattern .pattern").evaluate(script)


def alerts(page: Page) -> Locator:
    """Warnings and errors: all messages but the welcome of a first visit."""
    return page.get_by_test_id("stAlert").filter(has_not_text="shows what each attention head")


def heads_page(page: Page, server: Server, prompt: str = sidebar.DEFAULT_PROMPT) -> Page:
    """The page of heads with that prompt, loaded only where it is not there already."""
    if page.locator(".st-key-prompt").count() == 0 or page.locator(".st-key-pattern").count() == 0:
        open_page(page, server.link())
    if value_of(page, "prompt") != prompt:
        write_prompt(page, prompt)
    return page


def test_it_opens_on_a_prompt_with_every_head(page: Page, server: Server) -> None:
    open_page(page, server.link())
    assert value_of(page, "model") == DEFAULT and value_of(page, "prompt") == sidebar.DEFAULT_PROMPT
    grid = page.locator(".grid")
    expect(grid).to_have_count(1)
    # About a colour per head: the canvas is not blank.
    colours = grid.locator("canvas").evaluate(
        "(c) => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
    )
    assert colours > 100
    assert alerts(page).count() == 0


def test_a_clicked_head_shows_hugging_faces_pattern(page: Page, server: Server) -> None:
    heads_page(page, server)
    for layer, head in ((16, 0), (29, 8), (1, 2)):
        click_head(page, layer, head)
        reference, chart = pattern_of(sidebar.DEFAULT_PROMPT, layer, head), plotted(page)
        assert f"{layer}.{head}" in chart["title"] and chart["wide"] > 100
        np.testing.assert_allclose(np.array(chart["z"], float), reference, atol=CLOSE)
        np.testing.assert_array_equal(data_of(page)["values"], unmasked(np.array(chart["z"])))


def test_arrow_keys_move_the_head(page: Page, server: Server) -> None:
    click_head(heads_page(page, server), 20, 0)
    for key, layer, head in (("ArrowRight", 21, 0), ("ArrowDown", 21, 1), ("ArrowLeft", 20, 1), ("ArrowUp", 20, 0)):
        page.keyboard.press(key)
        wait_head(page, layer, head)
    page.keyboard.press("ArrowUp")  # there is none above
    page.wait_for_timeout(300)
    expect(heading(page, r"20\.0")).to_be_visible()


@pytest.mark.parametrize("pause", [40, 300])
def test_arrow_keys_pressed_quickly_all_count(page: Page, server: Server, pause: int) -> None:
    click_head(heads_page(page, server), 29, 8)
    for _ in range(12):
        page.keyboard.press("ArrowLeft")
        page.wait_for_timeout(pause)
    messages = page.locator(".grid output")
    wait_head(page, 17, 8)
    page.wait_for_url(re.compile(r"[?&]head=17\.8\b"))
    expect(messages).to_have_text(re.compile(r"^17\.8:"))
    # Another selection, and one that was passed: the grid follows the side bar.
    field = page.locator(".st-key-head input")
    for layer, head in ((3, 1), (20, 8)):
        field.fill(f"{layer}.{head}")
        field.press("Enter")
        wait_head(page, layer, head)
        expect(messages).to_have_text(re.compile(rf"^{layer}\.{head}:"))


def test_a_copied_url_shows_the_same_in_another_browser(server: Server, new_page: Callable[..., Page]) -> None:
    page = open_page(new_page(), server.link(prompt=OTHER))
    click_head(page, 12, 3)
    select(page, "score", "entropy")
    with driving.acting(page):
        page.locator(".st-key-kind button", has_text="value-weighted").click()
    before = data_of(page)
    again = open_page(new_page(), page.url)
    assert (
        value_of(again, "model") == DEFAULT and value_of(again, "prompt") == OTHER and value_of(again, "head") == "12.3"
    )
    assert value_of(again, "score") == "entropy" and "Value-weighted" in plotted(again)["title"]
    expect(heading(again, r"12\.3")).to_be_visible()
    np.testing.assert_equal(data_of(again), before)
    assert again.url == page.url


def test_model_prompt_and_head_survive_a_switch_of_the_page(page: Page, server: Server) -> None:
    click_head(heads_page(page, server, OTHER), 12, 3)
    select(page, "score", "sink (first position)")
    for other in pages()[1:]:
        driving.go_to(page, other.title)
        page.wait_for_url(re.compile(rf"/{other.name}\b" + (r".*head=12\.3" if "head" in other.uses else "")))
        values = {"model": DEFAULT, "prompt": OTHER, "head": "12.3"}
        assert all(value_of(page, key) == value for key, value in values.items() if key in other.uses)
    driving.go_to(page, pages()[0].title)
    wait_head(page, 12, 3)
    assert value_of(page, "prompt") == OTHER and value_of(page, "score") == "sink (first position)"


def test_every_download_is_what_the_page_shows(page: Page, server: Server) -> None:
    click_head(heads_page(page, server), 16, 0)
    files = {ending: downloaded(page, f"pattern-{ending}") for ending in ("png", "svg", "csv", "json")}
    assert {ending: name.rpartition(".")[2] for ending, (name, _) in files.items()} == {e: e for e in files}
    assert all("16.0" in name for name, _ in files.values())
    exact = json.loads(files["json"][1])
    table = pd.read_csv(io.BytesIO(files["csv"][1]), index_col=0)
    source = {name: set(table.pop(name)) for name in ("model", "prompt", "workbench")}
    assert source == {name: {exact[name]} for name in source} and exact["head"] == "16.0" and exact["model"] == DEFAULT
    words = {name: set(table.pop(name)) for name in ("head", "quantity", "units")}
    assert words == {"head": {"L16H0"}, "quantity": {exact["title"]}, "units": {"attention weight"}}
    on_page, values = np.array(plotted(page)["z"]), np.array(exact["values"], dtype=float)
    np.testing.assert_array_equal(table.to_numpy(np.float32), values)
    np.testing.assert_array_equal(values, unmasked(on_page))
    assert not np.triu(on_page, 1).any()
    assert [list(table.columns), list(table.index)] == exact["labels"]
    picture = Image.open(io.BytesIO(files["png"][1]))
    assert min(picture.size) > 500 and len(picture.convert("RGB").getcolors(1 << 24) or []) > 50
    drawing = files["svg"][1].decode()
    assert ElementTree.fromstring(drawing).tag == "{http://www.w3.org/2000/svg}svg"
    assert f"<!-- {exact['title']} -->" in drawing and "<script" not in drawing


def test_a_head_under_a_window_is_its_own_pattern_within_it(server: Server, new_page: Callable[..., Page]) -> None:
    settings = {"operator": "sliding-window", "sliding-window.window": "3", "head": "12.3"}
    page = open_page(new_page(), server.link(**settings))
    own, swapped = (np.array(json.loads(downloaded(page, f"operator-{side}-json")[1])["values"]) for side in SIDES)
    expected = pattern_of(sidebar.DEFAULT_PROMPT, 12, 3)
    within = expected * np.triu(np.ones_like(expected), -2)
    assert np.abs(own - expected).max() < CLOSE
    assert np.abs(swapped - within / within.sum(-1, keepdims=True)).max() < CLOSE < np.abs(own - swapped).max()


def test_a_tasks_prompts_are_scored_by_the_worker(server: Server, new_page: Callable[..., Page]) -> None:
    page = open_page(new_page(), server.link(scored="a task", n="2", seed="5", head="12.3", score="previous_token"))
    page.get_by_text("mean over 2 prompts of ioi").wait_for(timeout=driving.LONG_WAIT)
    driving.wait_rendered(page)
    got = json.loads(downloaded(page, "grid-json")[1])["values"]
    texts = [clean for clean, _ in resolve_inputs(wb.task("ioi", n=2, seed=5), model()).texts]
    means = [np.diagonal(pattern_of(text, 12, 3), -1).mean() for text in texts]
    assert got[3][12] == pytest.approx(np.mean(means), abs=CLOSE)
    click_head(page, 16, 0)
    assert np.abs(np.array(plotted(page)["z"]) - pattern_of(texts[0], 16, 0)).max() < CLOSE


@pytest.mark.parametrize("text", [HOSTILE, HOSTILE_AND_LONG], ids=["short", "2,500 characters"])
def test_a_hostile_prompt_is_shown_as_text(page: Page, server: Server, text: str) -> None:
    heads_page(page, server, text)
    expect(page.locator(".prompt .text")).to_contain_text("<script>alert(1)</script>")
    assert value_of(page, "prompt") == text
    injected = "script:not([src]):not([type]), img[src=x], a[href^=javascript], .katex"
    assert page.locator("[data-testid=stMain]").locator(injected).count() == 0
    assert alerts(page).count() == 0
    param = "prompt-input" if len(text) > upload_store.MAX_IN_URL else "prompt"
    page.wait_for_url(re.compile(rf"[?&]{param}="))
    assert page.locator(".prompt .text").locator("script, img, a, b").count() == 0
    assert any("<" in label for label in plotted(page)["columns"])


def test_1024_tokens_are_pooled_to_what_can_be_seen_and_zoomed(page: Page, server: Server) -> None:
    text = " ".join(f"{word} and" for word in ["Mary", "John", "Paul", "Anna"] * 128)
    assert ids_of(text).shape[1] == 1024
    click_head(heads_page(page, server), 16, 0)
    write_prompt(page, text)
    pooled, reference = data_of(page), patterns_of(text, (16, 0), (29, 1))
    whole = np.full((1026, 1026), -np.inf, np.float32)
    whole[:1024, :1024] = np.nan_to_num(unmasked(reference[0]), nan=-np.inf)
    expected = whole.reshape(342, 3, 342, 3).max(axis=(1, 3))
    np.testing.assert_allclose(pooled["values"], np.where(np.isinf(expected), np.nan, expected), atol=CLOSE)
    assert "pooled" in pooled["subtitle"]
    field = page.locator(".st-key-zoom input")
    field.fill("256-511,0-255")
    with driving.acting(page):
        field.press("Enter")
    click_head(page, 29, 1)
    part = data_of(page)
    np.testing.assert_allclose(part["values"], reference[1][256:512, :256], atol=CLOSE)
    assert part["labels"][1][0].startswith("256 ") and part["labels"][0][0].startswith("0 ")


def test_two_sessions_at_once_show_their_own_numbers(page: Page, server: Server, new_page: Callable[..., Page]) -> None:
    texts = (sidebar.DEFAULT_PROMPT, OTHER)
    two_pages = (heads_page(page, server), open_page(new_page(), server.link(prompt=OTHER)))
    for turn in range(4):
        heads = ((3 + 7 * turn, turn), (29 - 5 * turn, 8 - turn))
        for opened, (layer, head) in zip(two_pages, heads, strict=True):
            click_head(opened, layer, head, wait=False)
        for opened, text, (layer, head) in zip(two_pages, texts, heads, strict=True):
            wait_head(opened, layer, head)
            data = data_of(opened)
            assert f"{layer}.{head}" in data["title"]
            np.testing.assert_allclose(data["values"], unmasked(pattern_of(text, layer, head)), atol=CLOSE)


def test_an_empty_prompt_is_one_line_and_the_page_recovers(page: Page, server: Server) -> None:
    click_head(heads_page(page, server), 16, 0)
    write_prompt(page, "")
    alert = alerts(page)
    expect(alert).to_have_count(1)
    expect(alert).to_contain_text("Prompt: it is empty")
    write_prompt(page, OTHER)
    wait_head(page, 16, 0)
    expect(alert).to_have_count(0)
    np.testing.assert_allclose(data_of(page)["values"], unmasked(pattern_of(OTHER, 16, 0)), atol=CLOSE)


@pytest.mark.parametrize(
    ("query", "messages"),
    [
        ({"model": "../../etc/passwd", "prompt-input": "0" * 64}, ["which is not an option", "not on this machine"]),
        ({"prompt-input": "../../etc/passwd", "head": "nonsense"}, ["not a SHA-256 hash", "Write layer.head"]),
    ],
    ids=["model and a lost input", "no hash and no head"],
)
def test_invalid_values_in_the_url_are_named(
    page: Page, server: Server, query: dict[str, str], messages: list[str]
) -> None:
    open_page(page, server.link(**query))
    expect(alerts(page)).to_have_count(len(messages))
    for line in messages:
        expect(alerts(page).filter(has_text=line)).to_have_count(1)
    assert value_of(page, "model") == DEFAULT
    # A head that the model does not have is the nearest.
    field = page.locator(".st-key-head input")
    field.fill("99.99")
    field.press("Enter")
    wait_head(page, 29, 8)


def test_the_benchmark_reads_its_times(page: Page, server: Server) -> None:
    settings = Settings(quick=True)
    text = next(bench_explorer.prompts(model().tokenizer, random.Random(2)))
    assert len(model().tokenizer(text).input_ids) == bench_explorer.TOKENS
    subject = Subject(model, lambda: model().hf)
    for result in (
        bench_explorer.clicks(heads_page(page, server, text), server, subject, 14, settings),
        bench_explorer.first_grid(page, server, subject, 40, settings),
        bench_explorer.pictures(page, text, settings),
    ):
        assert all(seconds > 0 for measured in result.rounds.values() for seconds in measured)
    assert 0.1 < bench_explorer.anonymous(server.pid) < 20
