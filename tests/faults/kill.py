"""``python -m tests.faults.kill --rounds 200``: kill -9 at random moments of a write, and look at what is left.

A child writes blocks whose values follow from their keys and reports each one that the store says it keeps; it is
killed; the next opening must return every reported block, exactly, and nothing that is wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch

from workbench.cache import CacheNotice, Store
from workbench.cache.keys import digest

ROWS, SIZE = 4, 500


def block(number: int) -> torch.Tensor:
    """What the block of that number holds."""
    return torch.arange(SIZE, dtype=torch.float32) * (number + 1)


def key(number: int) -> bytes:
    return digest("fault", number)


def write(folder: Path, first: int, report: int) -> None:
    """Write units of `ROWS` blocks without end, reporting the first number of each that is kept."""
    store = Store(folder)
    for at in range(first, sys.maxsize, ROWS):
        numbers = range(at, at + ROWS)
        keys = [key(i) for i in numbers]
        rows = torch.stack([block(i) for i in numbers])
        kind = "result" if at % 3 else "activation"
        if store.put(kind, {"x": (keys, rows)}):
            os.write(report, at.to_bytes(8, "little"))


def killed(folder: Path, first: int, delay: float) -> list[int]:
    """Let a child open the cache and write for `delay` seconds, kill it; the units that it reported."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        try:
            write(folder, first, into)
        finally:
            os._exit(1)
    os.close(into)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    reported = b""
    while part := os.read(out, 2**16):
        reported += part
    os.close(out)
    return [int.from_bytes(reported[i : i + 8], "little") for i in range(0, len(reported) // 8 * 8, 8)]


def check(folder: Path, stored: Iterable[int], also: range) -> int:
    """Every block of a kept unit is there and right, what else is there of `also` is right, and nothing is left over;
    how many blocks there are."""
    store = Store(folder)
    promised = {unit + i for unit in stored for i in range(ROWS)}
    for number in sorted(promised | set(also)):
        read = store.read(key(number))
        if read is not None and not torch.equal(read, block(number)):
            raise SystemExit(f"a wrong number: block {number}")
        if read is None and number in promised:
            raise SystemExit(f"lost: block {number} was kept and is gone")
    sound, lost, wrong = store.verify()
    if lost:
        raise SystemExit(f"verify found {lost} damaged blocks: {wrong}")
    left = [p.name for p in store.shards.iterdir() if p.name.endswith(".partial")]
    if left:
        raise SystemExit(f"unfinished files were left: {left}")
    store.close()
    return sound


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", CacheNotice)
    draw, stored = random.Random(arguments.seed), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "cache"
        for number in range(arguments.rounds):
            first = number * ROWS * 1000  # a round's numbers are its own
            new = killed(folder, first, draw.uniform(0, 0.08))
            stored += new
            check(folder, new, range(first, max(new, default=first) + 3 * ROWS))
        present = check(folder, stored, range(0))
    print(f"{arguments.rounds} kills: {len(stored) * ROWS} blocks were promised, {present} are there, all right")


if __name__ == "__main__":
    main()
