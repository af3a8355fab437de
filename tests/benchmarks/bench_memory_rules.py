"""The curves of every associative memory, with the seconds and the memory that they need."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import median

import workbench
from tests.benchmarks.subject import Settings, Subject
from tests.benchmarks.timing import Bar, Result, Row, in_turns, seconds_of
from workbench.registry import MEMORY_RULES

#: Seconds of all rules on two cores, and gigabytes of the process at its peak.
BAR, PEAK = Bar(20, "≤"), Bar(2, "≤")
LOADS, TRIALS, D = (8, 16, 32, 64, 128, 256), 200, 64


def run(subject: Subject | None, settings: Settings) -> list[Result]:
    trials = 4 if settings.quick else TRIALS
    measured = in_turns({name: lambda name=name: curve(name, trials) for name in MEMORY_RULES.names()}, settings.rounds)
    rounds = list(zip(*measured.values(), strict=True))
    rows = [Row(name, median(seconds)) for name, seconds in measured.items()]
    rows.append(Row("all", median(map(sum, rounds)), bar=BAR))
    if Path("/proc/self/status").exists():
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(trials)], check=True, stdout=subprocess.PIPE, text=True
        )
        rows.append(Row("peak memory of a process that does this", json.loads(done.stdout), "GB", bar=PEAK))
    title = f"Curves of {len(measured)} memories: {len(LOADS)} loads to {LOADS[-1]}, {trials} trials, d = {D}"
    return [Result("memory_rules", title, rows, rounds=measured)]


def curve(rule: str, trials: int) -> float:
    """The seconds of one."""
    return seconds_of(lambda: workbench.memory(rule, d=D, n=LOADS, trials=trials))


def peak(trials: int) -> float:
    """The gigabytes of this process at its peak, after all of them."""
    for name in MEMORY_RULES.names():
        curve(name, trials)
    match = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if match is None:
        raise OSError("/proc/self/status has no line VmHWM.")
    return int(match[1]) * 1024 / 1e9


if __name__ == "__main__":
    print(json.dumps(peak(int(sys.argv[1]))))
