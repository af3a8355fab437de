"""Progress on stderr: a bar with the time left on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

#: Seconds between plain lines where stderr is no terminal.
EVERY = 30.0


class Display(Protocol):
    """What a verb reports to. A `total` of 0 announces a step of unknown length."""

    def __call__(self, done: int, total: int, what: str) -> None: ...

    def say(self, text: str) -> None:
        """A line that stays."""
        ...


@contextmanager
def on_stderr(stream: TextIO | None = None) -> Iterator[Display]:
    """A `Display` on stderr whose bar is gone when the block ends."""
    to: TextIO = stream or sys.stderr
    if not to.isatty():
        yield Lines(to)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(file=to, highlight=False, markup=False, soft_wrap=True)
    with Progress(*columns, console=console, transient=True, speed_estimate_period=120) as bars:
        yield Bar(bars)


class Bar:
    """One bar of a `rich.progress.Progress`, started afresh with each new `what`."""

    def __init__(self, bars: Any) -> None:
        self.bars, self.what, self.last = bars, "", -1
        self.task = bars.add_task("", total=None, visible=False, count="")

    def __call__(self, done: int, total: int, what: str) -> None:
        if what != self.what or done < self.last:
            self.bars.reset(self.task, total=total or None, visible=True, description=what)
        self.what, self.last = what, done
        self.bars.update(self.task, completed=done, total=total or None, count=count(done, total))

    def say(self, text: str) -> None:
        self.bars.console.print(text)


class Lines:
    """Lines such as ``sweep: 30 of 270, about 2 min left``: at each new `what`, at most one in `every` seconds, and at
    the end."""

    def __init__(self, stream: TextIO, every: float = EVERY, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.every, self.clock = stream, every, clock
        self.what, self.began, self.printed, self.last = "", 0.0, 0.0, 0

    def __call__(self, done: int, total: int, what: str) -> None:
        now, left = self.clock(), ""
        if what != self.what:
            self.what, self.began = what, now
        elif done == total and self.last < total:
            left = f" after {duration(now - self.began)}"
        elif now - self.printed < self.every:
            return
        elif 0 < done < total:
            left = f", about {duration((now - self.began) / done * (total - done))} left"
        self.printed, self.last = now, done
        self.say(f"{what}: {count(done, total)}{left}" if total else what)

    def say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)


def count(done: int, total: int) -> str:
    """``3 of 25``, or a percentage where the numbers are bytes and the like; nothing where the total is unknown."""
    if total <= 0:
        return ""
    return f"{done} of {total}" if total < 10_000 else f"{100 * done / total:.0f} %"


def duration(seconds: float) -> str:
    """``40 s``, ``2 min``, ``1.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
