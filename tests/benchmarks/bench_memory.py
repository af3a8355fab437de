"""How much memory a sweep needs at its peak, over the resident size after loading; measured in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.subject import Settings, Subject, pairs_of
from tests.benchmarks.timing import Bar, Result, Row

BAR = Bar(2.0, "≤")
N = 100
PROC = Path("/proc/self")


def run(subject: Subject | None, settings: Settings) -> list[Result]:
    n = settings.prompts or N
    title = f"Peak memory of a sweep of z over all heads: Colored Objects, {n} prompts"
    if not (PROC / "clear_refs").exists():
        return [Result("memory", title, [], ["Not measured: that needs Linux's /proc/self/clear_refs."])]
    command = [sys.executable, "-m", __name__, settings.model, str(n)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seen = json.loads(done.stdout.splitlines()[-1])
    rows = [
        Row("resident after loading", seen["loaded"], "GB"),
        Row("  peak of the sweep over that", seen["peak"] - seen["loaded"], "GB", bar=BAR),
        Row("  left over after the sweep", seen["after"] - seen["loaded"], "GB"),
    ]
    notes = ["Weights that lie memory-mapped on disk become resident when they are first used, and count to the sweep."]
    return [Result("memory", title, rows, notes, {name: [value] for name, value in seen.items()})]


def measure(model_name: str, n: int) -> dict[str, float]:
    """Resident gigabytes after loading, at the peak of the sweep, and after it; in this process."""
    import workbench

    model = workbench.load(model_name)
    loaded = _status("VmRSS")
    (PROC / "clear_refs").write_text("5")  # the peak starts again from here
    workbench.sweep(model, pairs_of("colored_objects", n), site="z", by="head", cache=False)
    return {"loaded": loaded, "peak": _status("VmHWM"), "after": _status("VmRSS")}


def _status(name: str) -> float:
    match = re.search(rf"^{name}:\s+(\d+) kB", (PROC / "status").read_text(), re.MULTILINE)
    if match is None:
        raise OSError(f"{PROC / 'status'} has no line {name}.")
    return int(match[1]) * 1024 / 1e9


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
