"""Contestants timed in turns, and the table that comes of it."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Bar:
    """What a ratio or a quantity has to reach: ``Bar(9)`` at least, ``Bar(1.3, "≤")`` at most."""

    value: float
    sense: str = "≥"

    def met(self, measured: float) -> bool:
        return measured >= self.value if self.sense == "≥" else measured <= self.value


@dataclass(frozen=True)
class Ratio:
    """The median over the rounds of the ratio within a round, its extremes, and what it is measured in."""

    median: float
    low: float
    high: float
    of: str

    @classmethod
    def within_rounds(cls, above: Sequence[float], below: Sequence[float], of: str) -> Ratio:
        ratios = [a / b for a, b in zip(above, below, strict=True)]
        return cls(median(ratios), min(ratios), max(ratios), of)


@dataclass(frozen=True)
class Row:
    """One line of a result.

    Attributes:
        what: who was measured.
        value, unit: the median over the rounds.
        ratio: to another contestant.
        bar: the limit on the ratio, or on the value where there is no ratio.
        cells: how many of how many cells were timed in each round; the seconds are for all of them.
        difference: the largest absolute difference to the workbench's values, in logits.
    """

    what: str
    value: float
    unit: str = "s"
    ratio: Ratio | None = None
    bar: Bar | None = None
    cells: tuple[int, int] | None = None
    difference: float | None = None

    @property
    def met(self) -> bool | None:
        return None if self.bar is None else self.bar.met(self.value if self.ratio is None else self.ratio.median)


@dataclass(frozen=True)
class Result:
    """One benchmark's table, with what a reader has to know beside it."""

    name: str
    title: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    rounds: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        rows = [asdict(row) | {"met": row.met} for row in self.rows]
        return {"name": self.name, "title": self.title, "rows": rows, "notes": self.notes, "rounds": dict(self.rounds)}

    def __str__(self) -> str:
        head = ["", "median", "cells timed", "ratio", "range", "bar", "", "max |difference|"]
        lines = [head, *(_line(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([f"== {self.title}", *table, *(f"   {note}" for note in self.notes)])


def _line(row: Row) -> list[str]:
    return [
        row.what,
        f"{row.value:.3g} {row.unit}",
        "" if row.cells is None else f"{row.cells[0]} of {row.cells[1]}",
        "" if row.ratio is None else f"{row.ratio.median:.2f}× {row.ratio.of}",
        "" if row.ratio is None else f"{row.ratio.low:.2f}–{row.ratio.high:.2f}",
        "" if row.bar is None else f"{row.bar.sense} {row.bar.value:g}",
        {None: "", True: "met", False: "NOT MET"}[row.met],
        "" if row.difference is None else f"{row.difference:.1e}",
    ]


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def one_thread() -> Iterator[None]:
    """Without gradients, in one thread: several that wait for each other use the processor, too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)


def cpu_seconds(work: Callable[[], object]) -> float:
    """Processor time of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def timed(work: Callable[[], Any], into: dict[str, Any], name: str) -> Callable[[], float]:
    """A contestant that gives its seconds and leaves its answer in `into`."""

    def run() -> float:
        start = time.perf_counter()
        into[name] = work()
        return time.perf_counter() - start

    return run


def in_turns(contestants: Mapping[str, Callable[[], float]], rounds: int, say: str = "") -> dict[str, list[float]]:
    """Every contestant once a round, in an order that rotates; each reports its own seconds."""
    names, measured = list(contestants), {name: [] for name in contestants}
    for round_ in range(rounds):
        turn = round_ % len(names)
        for name in names[turn:] + names[:turn]:
            measured[name].append(contestants[name]())
            seconds = measured[name][-1]
            print(f"{say} round {round_ + 1} of {rounds}: {name} {seconds:.2f} s", file=sys.stderr, flush=True)
    return measured


def sample_cells(cells: Sequence[tuple[int, ...]], effect: np.ndarray, n: int) -> list[tuple[int, ...]]:
    """n cells of a grid: a sixth of them those of the largest mean effect, so that agreement means something, the rest
    evenly spread, with a growing offset so that the grid is crossed slantwise. What is timed costs the same everywhere.

    Args:
        effect: the change of each example, ``[*axes, example]``.
    """
    n = min(n, len(cells))
    strongest = sorted(cells, key=lambda cell: -abs(float(effect[cell].mean())))[: n // 6]
    others = [cell for cell in cells if cell not in strongest]
    n -= len(strongest)
    stride = len(others) // n
    return strongest + [others[i * len(others) // n + i % stride] for i in range(n)]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    packages = ("torch", "transformers", "transformer-lens", "nnsight")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    matrix = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if flag in flags]
    return f"{name} ({', '.join(matrix)})" if matrix else name
