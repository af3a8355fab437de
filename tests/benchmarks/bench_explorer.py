"""The explorer in a real browser: clicks on heads, the first grid of a new prompt, pictures, manual edits, clicks while
a sweep runs, and memory after many prompts."""

from __future__ import annotations

import random
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from playwright.sync_api import Browser, Locator, Page

from tests.benchmarks.subject import MODEL, Settings, Subject
from tests.benchmarks.timing import Bar, Ratio, Result, Row
from tests.browser.driving import (
    HEADS,
    LAYERS,
    WIDE,
    acting,
    chromium,
    click_head,
    downloaded,
    new_page,
    open_page,
    wait_head,
    write_prompt,
)
from tests.browser.serving import Server, explorer

EDIT, PICTURE, DURING_SWEEP, STOP = Bar(0.5, "≤"), Bar(0.5, "≤"), Bar(1, "≤"), Bar(3, "≤")
#: Tokens of a prompt → seconds of a click on a head; seconds of a new prompt's grid over those of a plain forward.
CLICK = {14: Bar(0.15, "≤"), 1_000: Bar(0.4, "≤")}
GRID = {40: None, 1_024: Bar(2.5, "≤")}
GROWTH = Bar(0.1, "≤")
#: Tokens of every other prompt.
TOKENS = 14
FIRST_CLICKS, CLICKS, PROMPTS, SETS, PICTURES = 5, 30, 6, 10, 5
#: Seconds for which a user looks at a new grid.
BEFORE_CLICKS = 4
#: Memory is compared at these numbers of different prompts.
EARLY, LATE = 10, 50
#: Seconds between two samples of the memory.
INTERVAL = 0.02
#: Prompts of the sweep during which heads are clicked: enough for a long one.
SWEPT = 100


def run(subject: Subject, settings: Settings) -> list[Result]:
    if settings.model != MODEL:
        return [Result("explorer", "The explorer", [], [f"Not measured: the clicks are for the grid of {MODEL}."])]
    texts = prompts(subject.model.tokenizer, random.Random(0))
    with (
        tempfile.TemporaryDirectory() as folder,
        explorer(MODEL, Path(folder) / "served") as server,
        chromium() as browser,
    ):
        page = opened(browser, server, prompt=next(texts))
        return [
            *(clicks(page, server, subject, n, settings) for n in CLICK),
            *(first_grid(page, server, subject, n, settings) for n in GRID),
            pictures(page, next(texts), settings),
            manual_edit(browser, server, next(texts), settings),
            during_a_sweep(browser, server, next(texts), settings),
            memory(page, server, texts, settings),
        ]


def prompts(tokenizer: Any, rng: random.Random, tokens: int = TOKENS) -> Iterator[str]:
    """Texts of so many tokens, all different: common words in a random order."""
    words = [word for word in map(tokenizer.decode, range(len(tokenizer))) if re.fullmatch(" [a-z]{3,8}", word)][:2000]
    while True:
        text = "".join(rng.choices(words, k=tokens)).strip()
        if len(tokenizer(text).input_ids) == tokens:
            yield text


def opened(browser: Browser, server: Server, name: str = "", **query: str) -> Page:
    """A page of its own session."""
    return open_page(new_page(browser, WIDE), server.link(name, **query))


def clicks(page: Page, server: Server, subject: Subject, tokens: int, settings: Settings) -> Result:
    """Heads are clicked one after the other, each when the page is idle: a few at once after the prompt, while other
    heads are computed ahead, and many after a look at the grid."""
    write_prompt(page, next(prompts(subject.model.tokenizer, random.Random(tokens), tokens)))
    at_once, _ = timed_clicks(page, server, FIRST_CLICKS)
    time.sleep(BEFORE_CLICKS)
    in_browser, in_script = timed_clicks(page, server, FIRST_CLICKS + (4 if settings.quick else CLICKS))
    in_browser, in_script = in_browser[FIRST_CLICKS:], in_script[FIRST_CLICKS:]  # heads that were not open before
    rows = [
        *spread("until everything is there, in the browser", in_browser, CLICK[tokens]),
        Row(f"the first {FIRST_CLICKS} of a new prompt", median(at_once)),
        *spread("the script, as logged", in_script),
    ]
    notes = [f"{len(in_script)} different heads."]
    rounds = {"script": in_script, "browser": in_browser, "first": at_once}
    return Result(f"explorer-clicks-{tokens}", f"A click on a head, {tokens:,} tokens", rows, notes, rounds)


def timed_clicks(page: Page, server: Server, n: int, pause: float = 0.3) -> tuple[list[float], list[float]]:
    """Seconds of n clicks: in the browser until the page shows the head and its script has ended, and of the script as
    it is logged."""
    heads = random.Random(1).sample([(i, j) for i in range(LAYERS) for j in range(HEADS)], n)
    in_browser, in_script = [], []
    for layer, head in heads:
        time.sleep(pause)
        logged = len(server.log)
        condition = (
            "document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning' && "
            f"[...document.querySelectorAll('h2, h3')].some((h) => h.textContent.trim() === 'Head {layer}.{head}')"
        )
        with timed(page, "click", condition) as waited:
            click_head(page, layer, head, wait=False)
        in_browser.append(waited[0])
        wait_head(page, layer, head)
        in_script.append(render_seconds(server, "Heads", logged))
    return in_browser, in_script


def first_grid(page: Page, server: Server, subject: Subject, tokens: int, settings: Settings) -> Result:
    """Prompts that are in no cache; the model is loaded. In turns with a plain forward on the same prompt."""
    texts = prompts(subject.model.tokenizer, random.Random(tokens + 1), tokens)
    in_browser: list[float] = []
    in_script: list[float] = []
    forward: list[float] = []
    for _ in range(2 if settings.quick else PROMPTS):
        text, logged = next(texts), len(server.log)
        area = page.locator(".st-key-prompt textarea")
        area.fill(text)
        with acting(page), changed(page.locator(".grid").first, "keydown") as waited:
            area.press("Control+Enter")
        in_browser.append(waited[0])
        in_script.append(render_seconds(server, "Heads", logged))
        forward.append(plain_forward(subject.model, text))
    over = Ratio.within_rounds(in_browser, forward, "a plain forward")
    rows = [
        Row("until the grid changes, in the browser", median(in_browser), ratio=over, bar=GRID[tokens]),
        *spread("the full script, as logged", in_script),
        *spread("a plain forward in another process, meanwhile idle", forward),
    ]
    title = f"The first grid of a prompt of {tokens:,} tokens that is in no cache"
    rounds = {"browser": in_browser, "script": in_script, "forward": forward}
    return Result(f"explorer-grid-{tokens}", title, rows, [f"{len(in_browser)} prompts."], rounds)


def plain_forward(model: Any, text: str) -> float:
    """Seconds of one forward of the Hugging Face model; the second of two, so that nothing is cold."""
    ids = model.to_tokens(text)
    for _ in range(2):
        start = time.perf_counter()
        with torch.no_grad():
            model.hf(ids, use_cache=False, logits_to_keep=1)
    return time.perf_counter() - start


def pictures(page: Page, text: str, settings: Settings) -> Result:
    """The open head's pattern as PNG and as SVG, each of another head: from the click until the file has come."""
    write_prompt(page, text)
    seconds: dict[str, list[float]] = {"png": [], "svg": []}
    for i in range(2 if settings.quick else PICTURES):
        click_head(page, i, i % HEADS)
        for ending, measured in seconds.items():
            start = time.perf_counter()
            downloaded(page, f"pattern-{ending}")
            measured.append(time.perf_counter() - start)
    rows = [row for ending, measured in seconds.items() for row in spread(ending.upper(), measured, PICTURE)]
    return Result("explorer-pictures", "A pattern as a picture", rows, ["The first one loads matplotlib."], seconds)


def manual_edit(browser: Browser, server: Server, text: str, settings: Settings) -> Result:
    """One more head is ablated, and the next token's distribution is displayed again."""
    page = opened(browser, server, "patching", prompt=text)
    in_browser, in_script = [], []
    for n in range(1, (3 if settings.quick else SETS) + 1):
        with acting(page):
            field = page.locator(".st-key-head input")
            field.fill(f"{3 * n - 1}.{n % HEADS}")
            field.press("Enter")
        time.sleep(0.3)
        logged = len(server.log)
        condition = f"document.querySelector('.st-key-by-hand')?.textContent.includes('{n} head')"
        with acting(page), timed(page, "click", condition) as waited:
            page.locator(".st-key-flip button").click()
        in_browser.append(waited[0])
        in_script.append(render_seconds(server, "Patching", logged))
    page.context.close()
    rows = [
        *spread("until it is displayed, in the browser", in_browser, EDIT),
        *spread("the script, as logged", in_script),
    ]
    title = "The next token's distribution with one more head in the ablated set"
    return Result("explorer-by-hand", title, rows, [], {"browser": in_browser, "script": in_script})


def during_a_sweep(browser: Browser, server: Server, text: str, settings: Settings) -> Result:
    """Clicks while the worker sweeps, and how long that takes to stop."""
    sweeping = opened(browser, server, "patching", n=str(SWEPT))
    page = opened(browser, server, prompt=text)
    stop = sweeping.get_by_role("button", name="Stop")
    sweeping.locator(".st-key-start-sweeps button").click()
    sweeping.get_by_text(re.compile(r"[1-9]\d* of \d")).first.wait_for(timeout=240_000)
    in_browser, in_script = timed_clicks(page, server, 4 if settings.quick else CLICKS, pause=0.1)
    running = stop.count() == 1
    stopped = "document.body.innerText.includes('Stopped at')"
    with timed(sweeping, "click", stopped) as waited:
        stop.click()
    status = sweeping.get_by_text("Stopped at").inner_text()
    for opened_page in (sweeping, page):
        opened_page.context.close()
    rows = [
        *spread("a click, the script as logged", in_script),
        *spread("a click until everything is there, in the browser", in_browser, DURING_SWEEP),
        Row("the sweep stops", waited[0], bar=STOP),
    ]
    notes = [
        f"IOI, {SWEPT} prompts, z of every head. {status}",
        "" if running else "The sweep ended before the clicks!",
    ]
    return Result("explorer-sweep", "While a sweep runs", rows, list(filter(None, notes)), {"browser": in_browser})


def memory(page: Page, server: Server, texts: Iterator[str], settings: Settings) -> Result:
    """Anonymous memory of the server's process while one prompt after the other is displayed."""
    early, late = (2, 4) if settings.quick else (EARLY, LATE)
    peaks: list[float] = []
    with sampled(lambda: anonymous(server.pid)) as peak:
        for _ in range(late):
            write_prompt(page, next(texts))
            peaks.append(peak())
    rows = [
        Row(f"peak of {early} different prompts", peaks[early - 1], "GB"),
        Row(f"peak of {late}", peaks[-1], "GB"),
        Row("  more than before", peaks[-1] - peaks[early - 1], "GB", bar=GROWTH),
    ]
    notes = [f"RssAnon of the server's process every {1000 * INTERVAL:.0f} ms; prompts of {TOKENS} tokens."]
    return Result("explorer-memory", "Memory of the server", rows, notes, {"peak": peaks})


def spread(what: str, seconds: list[float], bar: Bar | None = None) -> list[Row]:
    """The median, which is compared with the bar, and the ninth decile."""
    return [Row(what, median(seconds), bar=bar), Row("  90 % are below", float(np.quantile(seconds, 0.9)))]


@contextmanager
def timed(page: Page, event: str, condition: str) -> Iterator[list[float]]:
    """Seconds in the browser from an event, which is triggered within the block, until a condition holds there."""
    page.evaluate(
        """([event, condition]) => {
          const holds = new Function(`return ${condition}`);
          window.waited = new Promise((resolve, reject) => {
            let start = null;
            addEventListener(event, () => { start = performance.now(); }, { capture: true, once: true });
            setTimeout(() => reject(new Error(`never: ${condition}`)), 240000);
            const poll = () => {
              if (start !== null && holds()) resolve((performance.now() - start) / 1000);
              else requestAnimationFrame(poll);
            };
            poll();
          });
        }""",
        [event, condition],
    )
    waited: list[float] = []
    yield waited
    waited.append(page.evaluate("window.waited"))


@contextmanager
def changed(element: Locator, event: str) -> Iterator[list[float]]:
    """The same until the element changes."""
    element.evaluate(
        """(element, event) => {
          window.waited = new Promise((resolve, reject) => {
            let start = null;
            addEventListener(event, () => { start = performance.now(); }, { capture: true, once: true });
            setTimeout(() => reject(new Error('the element did not change')), 240000);
            new MutationObserver((changes, self) => {
              if (start === null) return;
              self.disconnect();
              resolve((performance.now() - start) / 1000);
            }).observe(element, { subtree: true, childList: true, characterData: true });
          });
        }""",
        event,
    )
    waited: list[float] = []
    yield waited
    waited.append(element.page.evaluate("window.waited"))


def render_seconds(server: Server, title: str, since: int) -> float:
    """Seconds of the first run of a page's script that was logged since then."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        if match := re.search(rf"^{title} rendered in ([\d.]+) ms$", server.log[since:], re.MULTILINE):
            return float(match[1]) / 1000
        time.sleep(0.02)
    raise TimeoutError(f"The server logged no run of the page {title}: {server.log[since:]}")


def anonymous(pid: int) -> float:
    """Gigabytes of anonymous memory (Linux)."""
    match = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert match is not None, "Linux says RssAnon"
    return int(match[1]) * 1024 / 1e9


@contextmanager
def sampled(sample: Callable[[], float]) -> Iterator[Callable[[], float]]:
    """Sample every `EVERY` seconds; within the block a function returns the maximum so far."""
    peak_, finished = [sample()], threading.Event()

    def record() -> None:
        while not finished.wait(INTERVAL):
            peak_[0] = max(peak_[0], sample())

    thread = threading.Thread(target=record)
    thread.start()
    try:
        yield lambda: peak_[0]
    finally:
        finished.set()
        thread.join()
