"""``python -m tests.faults.writers``: several processes write the same and different keys into one cache at once."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from pathlib import Path

import torch

from tests.faults.kill import ROWS, block, key
from workbench.cache import CacheNotice, Store

WRITERS, UNITS = 3, 40


def write(folder: Path, writer: int) -> None:
    """Every second unit is everybody's, the others this writer's own."""
    store = Store(folder)
    for unit in range(UNITS):
        first = ROWS * (unit if unit % 2 else UNITS * (writer + 1) + unit)
        numbers = range(first, first + ROWS)
        rows = torch.stack([block(i) for i in numbers])
        if not store.put("activation", {"x": ([key(i) for i in numbers], rows)}):
            raise SystemExit(f"unit {unit} of writer {writer} was not kept")
    store.close()


def main() -> None:
    warnings.simplefilter("ignore", CacheNotice)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder, children = Path(name) / "cache", []
        for writer in range(WRITERS):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    write(folder, writer)
                    code = 0
                except BaseException as error:
                    print(f"writer {writer}: {error!r}", file=sys.stderr, flush=True)
                finally:
                    os._exit(code)
            children.append(child)
        if any(os.waitpid(child, 0)[1] for child in children):
            sys.exit("a writer failed")
        store, shared = Store(folder), [ROWS * unit + i for unit in range(1, UNITS, 2) for i in range(ROWS)]
        own = [
            ROWS * (UNITS * (w + 1) + u) + i for w in range(WRITERS) for u in range(0, UNITS, 2) for i in range(ROWS)
        ]
        for number in (*shared, *own):
            read = store.read(key(number))
            if read is None or not torch.equal(read, block(number)):
                sys.exit(f"block {number} is gone or wrong")
        if store.verify() != (len(shared) + len(own), 0, []):
            sys.exit(f"{store.verify()}")
        print(f"{WRITERS} writers, {len(shared)} shared and {len(own)} other blocks: all right")


if __name__ == "__main__":
    main()
