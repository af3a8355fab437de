"""From nothing to a first answer: what loading a model consists of, a command whose answer is in the cache, and the
explorer from its first paint to a sweep's first result."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Page

from tests.benchmarks.subject import Settings, Subject
from tests.benchmarks.timing import Bar, Ratio, Result, Row, in_turns, seconds_of
from tests.browser.driving import LONG_WAIT, POLL, WIDE, chromium, go_to, new_page
from tests.browser.serving import Server, explorer
from workbench import registry
from workbench.io.user_folder import user_folder

PATCH, PAINT, GRID, FIRST_RESULT = Bar(6, "≤"), Bar(1, "≤"), Bar(10, "≤"), Bar(3, "≤")
_FRAME = """() => document.querySelector('.st-key-model') && document.querySelector('.st-key-prompt textarea')
  && document.querySelector('[data-testid=stTopNavLink]')"""


def run(subject: Subject | None, settings: Settings) -> list[Result]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models").symlink_to((user_folder() / "models").resolve(), target_is_directory=True)
        results = [loading(settings, folder), command(settings, folder)]
    return [*results, explorer_start(settings)]


def loading(settings: Settings, folder: Path) -> Result:
    """What a load consists of, in a process of its own, when its verdict is kept and when it is not."""
    steps: dict[str, dict[str, list[float]]] = {"first": {}, "again": {}}
    for _ in range(settings.rounds):
        for which, cache in (("first", folder / f"new-{time.monotonic_ns()}"), ("again", folder)):
            if which == "first":
                cache.mkdir()
                (cache / "models").symlink_to(folder / "models", target_is_directory=True)
            elif not steps["again"]:
                _child(cache, settings.model)
            for step, (seconds, _) in _child(cache, settings.model).items():
                steps[which].setdefault(step, []).append(seconds)
    rows = []
    for which, title in (("first", "the first load"), ("again", "a later load of the same files")):
        totals = [sum(turn) for turn in zip(*steps[which].values(), strict=True)]
        rows.append(Row(title, median(totals)))
        for step, seconds in steps[which].items():
            rows.append(Row(f"  {step}", median(seconds), ratio=Ratio.within_rounds(seconds, totals, "that")))
    note = "Each in a new process, with an empty cache and with one that knows these files."
    return Result("start-load", f"Loading {settings.model}, by its steps", rows, [note], _rounds(steps))


def _rounds(steps: dict[str, dict[str, list[float]]]) -> dict[str, list[float]]:
    return {f"{which}: {step}": seconds for which, parts in steps.items() for step, seconds in parts.items()}


def command(settings: Settings, folder: Path) -> Result:
    """``workbench patch`` as a new process."""
    n = "2" if settings.quick else "25"
    patch = ["-m", "workbench", "patch", "--task", "ioi", "--n", n, "--model", settings.model]
    time.sleep(3)  # files that have just been written are not trusted
    commands = {"the answer in the cache": patch, "import torch": ["-c", "import torch"]}

    def timed(arguments: list[str]) -> Callable[[], float]:
        return lambda: seconds_of(lambda: _python(folder, *arguments))

    for arguments in commands.values():
        timed(arguments)()
    measured = in_turns({name: timed(arguments) for name, arguments in commands.items()}, settings.rounds, "patch")
    rows = [
        Row("workbench patch, its answer in the cache", median(measured["the answer in the cache"]), bar=PATCH),
        Row("python -c 'import torch'", median(measured["import torch"]),
            ratio=Ratio.within_rounds(measured["import torch"], measured["the answer in the cache"], "that")),
    ]  # fmt: skip
    return Result("start-patch", f"A second look at a sweep of {n} IOI pairs", rows, [], measured)


def explorer_start(settings: Settings) -> Result:
    """The explorer with an empty cache, and with the one that its first start left."""
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        for turn in range(settings.rounds):
            page = new_page(browser, WIDE)
            page.goto("about:blank")
            with explorer(settings.model, Path(name) / str(turn)) as server:
                for what, value in _first_minute(page, server).items():
                    seconds.setdefault(what, []).append(value)
            page.context.close()
    bars = {"first paint": PAINT, "the grid": GRID, "a sweep's first result, after the click": FIRST_RESULT}
    rows = [Row(what, median(values), bar=bars.get(what)) for what, values in seconds.items()]
    notes = ["In Chromium, from the request on; the cache is empty, and the server answers."]
    return Result("start-explorer", "The explorer's first minute", rows, notes, seconds)


def _first_minute(page: Page, server: Server) -> dict[str, float]:
    began = time.perf_counter()
    page.goto(server.url, wait_until="commit")
    page.wait_for_function(_FRAME, timeout=LONG_WAIT, polling=POLL / 5)
    times = {"first paint": time.perf_counter() - began}
    page.locator(".grid canvas").first.wait_for(timeout=LONG_WAIT)
    times["the grid"] = time.perf_counter() - began
    times["the worker is ready, after the grid"] = seconds_of(lambda: _wait_idle(server))
    go_to(page, "Patching")
    page.locator(".st-key-start-sweeps button").click()
    clicked = time.perf_counter()
    page.get_by_text(re.compile(r"[1-9]\d* of \d")).first.wait_for(timeout=LONG_WAIT)
    times["a sweep's first result, after the click"] = time.perf_counter() - clicked
    return times


def _wait_idle(server: Server) -> None:
    """Wait until the server's worker has started, and uses no processor (Linux)."""
    used, same = 0.0, 0
    while same < 3:
        time.sleep(0.5)
        children = Path(f"/proc/{server.pid}/task").glob("*/children")
        pids = {pid for path in children for pid in path.read_text().split()}
        now = sum(_processor_seconds(pid) for pid in pids)
        same, used = (same + 1 if now == used and now > 1 else 0), now


def _processor_seconds(pid: str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _python(cache: Path, *arguments: str) -> str:
    environment = registry.environment() | {"WORKBENCH_CACHE_DIR": str(cache), "WORKBENCH_CACHE": "on"}
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return subprocess.run([sys.executable, *arguments], check=True, env=environment, **streams).stdout


def _child(cache: Path, model: str) -> dict[str, tuple[float, float]]:
    return json.loads(_python(cache, "-m", "tests.benchmarks.load_steps", model).splitlines()[-1])
