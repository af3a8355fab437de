"""Measures the table of families: ``python -m tests.families`` (``make families``).

Each family is measured in a process of its own with a time limit. Families that were measured with the same versions
and the same configuration are not measured again, so that an interrupted run continues.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import time
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["WORKBENCH_CACHE"] = "off"

import torch
import transformers

import workbench as wb
from tests.families import results_file
from tests.families.columns import family_cells
from tests.families.configurations import NAMED, Configuration, automatic
from tests.families.tiny import NoTinyModel, one_line

MEMORY = 8 << 30


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.families", description="Measure the table of families.")
    parser.add_argument("--only", default="", metavar="NAMES", help="families, separated by commas")
    parser.add_argument("--fresh", action="store_true", help="measure again what has been measured")
    parser.add_argument("--seconds", type=float, default=180.0, help="time limit of each family")
    arguments = parser.parse_args()
    configurations = {**NAMED, **automatic()}
    names = [name for name in arguments.only.split(",") if name] or list(configurations)
    if unknown := [name for name in names if name not in configurations]:
        parser.error(f"--only: no family {', '.join(unknown)}")
    results = results_file.read()
    if results["versions"] != results_file.versions():
        results["families"], results["versions"] = {}, results_file.versions()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    _ = wb.sweep, wb.scores_on, wb.path_patch  # imported once, before the processes are forked
    start = time.monotonic()
    if arguments.fresh and not arguments.only:
        results["seconds"] = 0.0
    for i, name in enumerate(names, 1):
        configuration, known = configurations[name], results["families"].get(name)
        if known and not arguments.fresh and _is_current(known, configuration):
            continue
        begun = time.monotonic()
        results["families"][name] = measure(configuration, arguments.seconds)
        order = [other for other in configurations if other in results["families"]]
        results["families"] = {other: results["families"][other] for other in order}
        seconds = time.monotonic() - begun
        results["seconds"] = round(results["seconds"] + seconds)
        results_file.write(results)
        print(f"{i}/{len(names)} {name}: {summary(results['families'][name])} ({seconds:.0f} s)", flush=True)
    print(f"{time.monotonic() - start:.0f} s on {os.cpu_count()} cores, one process. Written: {results_file.PATH}")


def measure(configuration: Configuration, seconds: float) -> dict[str, Any]:
    """One family, in a process of its own."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_measure, args=(configuration, sending))
    process.start()
    sending.close()
    try:
        if receiving.poll(seconds):
            return receiving.recv()
        return results_file.family(configuration, {}, f"not done within {seconds:.0f} s")
    except EOFError:
        return results_file.family(configuration, {}, "its process ended")
    finally:
        process.kill()
        process.join()


def _measure(configuration: Configuration, sending: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        with torch.no_grad():
            row = results_file.family(configuration, family_cells(configuration))
    except NoTinyModel as error:
        row = results_file.family(configuration, {}, str(error))
    except Exception as error:
        row = results_file.family(configuration, {}, f"{type(error).__name__}: {one_line(error)}")
    sending.send(row)


def _is_current(known: dict[str, Any], configuration: Configuration) -> bool:
    facts = results_file.family(configuration, {}, "-")
    return all(known.get(key) == _as_read(value) for key, value in facts.items() if key != "untried")


def _as_read(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def summary(row: dict[str, Any]) -> str:
    """A family in one line."""
    if "untried" in row:
        return f"not tried: {row['untried'][:120]}"
    cells = row["cells"]
    if len(cells) == 1:
        return f"{cells['wraps']['state']}: {cells['wraps'].get('text', '')[:120]}"
    counts = Counter(cell["state"] for cell in cells.values())
    wrong = [f"{name} {cell.get('text', '')[:60]}" for name, cell in cells.items() if cell["state"] == "wrong"]
    return ", ".join(f"{n} {state}" for state, n in counts.items()) + (f" ({'; '.join(wrong)})" if wrong else "")


if __name__ == "__main__":
    main()
