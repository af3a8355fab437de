"""The activation cache: reading one head, filling it, its memory, and two processes at one set."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

import workbench
from tests.benchmarks.subject import Settings, Subject, pairs_of, prompts_of
from tests.benchmarks.timing import Bar, Ratio, Result, Row, in_turns, seconds_of
from workbench.cache import Store
from workbench.cache.keys import activation
from workbench.inputs.paired import PairedInputs
from workbench.patching.batches import batches
from workbench.patching.cached_recording import CachedRecording

HOOKS = [f"blocks.{layer}.attn.hook_z" for layer in (4, 14, 24)]
TOKENS, HEADS, D_HEAD, IDENTITY = 16, 9, 64, b"benchmark"
READS = 500


def run(subject: Subject, settings: Settings) -> list[Result]:
    names = ("ioi", "colored_objects")
    return [
        read_one_head(settings),
        *(record_with_cache(subject, settings, name) for name in names),
        memory(settings),
        two_processes(settings),
    ]


# --- reading ----------------------------------------------------------------------------------------------------------


def read_one_head(settings: Settings) -> Result:
    """One head's z of one prompt at a time, in random order, in a process that has just opened the cache."""
    prompts = 80 if settings.quick else 10_000
    # Shares of 30,000 and 100,000 rows; what a row holds is the same.
    sizes = {"1,000 rows": prompts // 30, "100,000 rows": prompts * 10 // 3, "10,000 prompts": prompts}
    with tempfile.TemporaryDirectory() as name:
        for what, n in sizes.items():
            _fill(Path(name) / what, n)

        def reader(what: str, n: int) -> float:
            return median(_child("read", str(Path(name) / what), str(n))["milliseconds"])

        measured = in_turns(
            {what: lambda what=what, n=n: reader(what, n) for what, n in sizes.items()}, settings.rounds, "read (ms)"
        )
    large, small = measured["100,000 rows"], measured["1,000 rows"]
    rows = [
        Row("10,000 prompts × 3 layers", median(measured["10,000 prompts"]), "ms", bar=Bar(2, "≤")),
        Row("index of 1,000 rows", median(small), "ms"),
        Row("  of 100,000 rows", median(large), "ms",
            ratio=Ratio.within_rounds(large, small, "that"), bar=Bar(1.5, "≤")),
    ]  # fmt: skip
    title = f"Reading one head's z ({TOKENS} tokens) of one prompt, random order, new process, checksum included"
    note = f"Median of {READS} reads a process; {HEADS} heads of {D_HEAD} in a block. Contents are random numbers."
    return Result("cache/read", title, rows, [note], measured)


def _ids(n: int) -> list[torch.Tensor]:
    return list(torch.randint(0, 50_000, (n, TOKENS), generator=torch.Generator().manual_seed(n)))


def _fill(folder: Path, n: int) -> None:
    store, ids = Store(folder), _ids(n)
    draw = torch.Generator().manual_seed(0)
    for unit in batches(ids):
        z = {hook: torch.randn(len(unit), TOKENS, HEADS, D_HEAD, generator=draw) for hook in HOOKS}
        keys = {hook: [activation(IDENTITY, ids[i], hook) for i in unit] for hook in HOOKS}
        if not store.put("activation", {hook: (keys[hook], z[hook]) for hook in HOOKS}):
            raise OSError(f"{folder} cannot be filled")
    store.close()


def child_read(folder: str, n: str) -> dict[str, Any]:
    ids, draw = _ids(int(n)), random.Random(1)
    source = CachedRecording(None, Store(folder), IDENTITY, ids, HOOKS)
    requests = [(draw.choice(HOOKS), draw.randrange(len(ids)), draw.randrange(HEADS)) for _ in range(READS)]
    milliseconds = []
    for hook, prompt, head in requests:
        began = time.perf_counter()
        source.read([hook], prompt)[0][:, head].sum()
        milliseconds.append(1000 * (time.perf_counter() - began))
    return {"milliseconds": milliseconds}


def _distinct(inputs: PairedInputs) -> PairedInputs:
    """The fixed prompts repeat and would hit the cache: each gets a second token of its own."""

    def numbered(runs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return tuple(torch.cat([ids[:1], torch.tensor([1 + i]), ids[2:]]) for i, ids in enumerate(runs))

    return replace(inputs, clean=numbered(inputs.clean), corrupt=numbered(inputs.corrupt))


# --- filling ----------------------------------------------------------------------------------------------------------


def record_with_cache(subject: Subject, settings: Settings, name: str) -> Result:
    model = subject.model
    prompts = prompts_of(name, model.tokenizer, settings.prompts or 25)
    inputs = _distinct(prompts.pairs.inputs(model.tokenizer))

    def workbench_read(cache: Any) -> Callable[[], object]:
        return lambda: workbench.record(model, inputs, sites=["z"], cache=cache)

    def filling() -> float:
        with tempfile.TemporaryDirectory() as folder:
            store = Store(folder)
            return seconds_of(workbench_read(store))

    workbench_read(False)()
    filling()
    contestants = {"without": lambda: seconds_of(workbench_read(False)), "with": filling}
    measured = in_turns(contestants, settings.rounds * (1 if settings.quick else 3), f"record {name}")
    rows = [
        Row("without a cache", median(measured["without"])),
        Row("filling an empty one", median(measured["with"]), bar=Bar(1.5, "≤"),
            ratio=Ratio.within_rounds(measured["with"], measured["without"], "that")),
    ]  # fmt: skip
    title = f"Recording z at {model.n_layers} layers, clean and corrupt: {len(prompts)} × {prompts.length} tokens"
    return Result(f"cache/record/{name}", title, rows, ["Every shard is flushed to the disk."], measured)


# --- memory -----------------------------------------------------------------------------------------------------------


def memory(settings: Settings) -> Result:
    few = 2 if settings.quick else 25
    gigabytes = {n: _child("memory", settings.model, str(n))["gigabytes"] for n in (few, 20 * few)}
    difference = 1000 * (gigabytes[20 * few] - gigabytes[few])
    rows = [
        Row(f"{few} prompts", 1000 * gigabytes[few], "MB"),
        Row(f"{20 * few} prompts", 1000 * gigabytes[20 * few], "MB"),
        Row("  more", difference, "MB", bar=Bar(100, "≤")),
    ]
    return Result("cache/memory", "Peak anonymous memory of recording z at every layer, after loading", rows)


def child_memory(model_name: str, n: str) -> dict[str, Any]:
    model = workbench.load(model_name)
    pairs = workbench.task("ioi", n=int(n))
    with tempfile.TemporaryDirectory() as folder:
        workbench.record(model, pairs_of("ioi", 2), sites=["z"], cache=folder)
        before, peak, done = _anonymous(), [0.0], threading.Event()

        def watch() -> None:
            while not done.wait(0.005):
                peak[0] = max(peak[0], _anonymous())

        watcher = threading.Thread(target=watch)
        watcher.start()
        workbench.record(model, pairs, sites=["z"], cache=folder)
        done.set()
        watcher.join()
    return {"gigabytes": max(0.0, peak[0] - before)}


def _anonymous() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 / 1e9
    raise OSError("/proc/self/status has no line RssAnon.")


# --- two processes ----------------------------------------------------------------------------------------------------


def two_processes(settings: Settings) -> Result:
    n = 8 if settings.quick else 64
    units: dict[str, int] = {}

    def together(count: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            workers = [_start("share", settings.model, str(n), folder) for _ in range(count)]
            for worker in workers:
                worker.stdout.readline()
            began = time.perf_counter()
            for worker in workers:
                worker.stdin.write("go\n")
                worker.stdin.flush()
            answers = [json.loads(worker.communicate()[0].splitlines()[-1]) for worker in workers]
            units[f"{count}"] = sum(answer["runs"] for answer in answers)
            return max(answer["ended"] for answer in answers) - began

    measured = in_turns(
        {"one process": lambda: together(1), "two processes": lambda: together(2)}, settings.rounds, "share"
    )
    rows = [
        Row("one process with both cores", median(measured["one process"])),
        Row("two processes", median(measured["two processes"]), bar=Bar(1.15, "≤"),
            ratio=Ratio.within_rounds(measured["two processes"], measured["one process"], "that")),
    ]  # fmt: skip
    note = f"Prompts run by both: {units['2']}; by one alone: {units['1']}."
    return Result(
        "cache/share", f"Two processes recording z of one set of {n} Colored Objects pairs", rows, [note], measured
    )


def child_share(model_name: str, n: str, folder: str) -> dict[str, Any]:
    from workbench.models.resumable_layers import ResumableLayers

    model, pairs = workbench.load(model_name), pairs_of("colored_objects", int(n))
    inputs = _distinct(pairs.inputs(model.tokenizer))
    model.identity.current()
    runs, real = [], ResumableLayers.base_run

    def base_run(self: Any, inputs: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        runs.append(len(inputs))
        return real(self, inputs, *args, **kwargs)

    ResumableLayers.base_run = base_run
    print("ready", flush=True)
    sys.stdin.readline()
    workbench.record(model, inputs, sites=["z"], cache=folder)
    return {"ended": time.perf_counter(), "runs": sum(runs)}


# --- children ---------------------------------------------------------------------------------------------------------


def _start(*arguments: str) -> Any:
    return subprocess.Popen(
        [sys.executable, "-m", __name__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _child(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", __name__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    print(json.dumps(globals()[f"child_{sys.argv[1]}"](*sys.argv[2:])))
