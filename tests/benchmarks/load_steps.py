"""``python -m tests.benchmarks.load_steps MODEL``: seconds of each step of a load in a new process, on the clock and of
the processor, as JSON. The last one is the hash of the weights in memory that names what is cached."""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise


def load_steps(model: str) -> dict[str, tuple[float, float]]:
    times: list[tuple[str, float, float]] = []

    def tell(done: int, total: int, what: str) -> None:
        if not times or times[-1][0] != what:
            times.append((what, time.perf_counter(), time.process_time()))

    import workbench

    loaded = workbench.load(model, progress=tell)
    tell(0, 0, "hashing the weights for the cache")
    loaded.identity.current()
    tell(0, 0, "")
    return {what: (then - now, cpu - before) for (what, now, before), (_, then, cpu) in pairwise(times)}


if __name__ == "__main__":
    print(json.dumps(load_steps(sys.argv[1])))
