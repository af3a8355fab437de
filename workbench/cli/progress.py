"""Progress on stderr: a bar with the time left on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

#: Seconds between plain lines where stderr is no terminal.
EVERY = 30.0

Progress = Callable[[int, int, str], None]


@contextmanager
def shown(stream: TextIO | None = None) -> Iterator[Progress]:
    """A callable ``progress(done, total, what)`` whose display is gone when the block ends.

    A `total` of 0 announces a step of unknown length.
    """
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        yield plain(stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(file=stream), transient=True, speed_estimate_period=120) as bars:
        task = bars.add_task("", total=None, visible=False, count="")
        current, last = "", -1

        def update(done: int, total: int, what: str) -> None:
            nonlocal current, last
            if what != current or done < last:
                bars.reset(task, total=total or None, visible=True, description=what)
            current, last = what, done
            bars.update(task, completed=done, total=total or None, count=count(done, total))

        yield update


def plain(stream: TextIO, every: float = EVERY, clock: Callable[[], float] = time.monotonic) -> Progress:
    """Lines such as ``sweep: 30 of 270, about 2 min left``: at each new `what`, then at most one in `every` seconds."""
    current = ""
    began = said = 0.0

    def update(done: int, total: int, what: str) -> None:
        nonlocal current, began, said
        now = clock()
        if what != current:
            current, began, left = what, now, ""
        elif now - said < every:
            return
        else:
            left = f", about {duration((now - began) / done * (total - done))} left" if 0 < done < total else ""
        said = now
        print(f"{what}: {count(done, total)}{left}" if total else what, file=stream, flush=True)

    return update


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
