"""What hooks on patterns and other operators cost: one head's pattern read in every layer of a long prompt, a sweep of
a model with other operators, and the swap itself. CPU time of one thread, ratios within a round."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

import workbench as wb
from tests.benchmarks.subject import Settings, Subject, prompts_of
from tests.benchmarks.timing import Bar, Ratio, Result, Row, in_turns
from workbench.models.attention_edits import PartialTap

LENGTH, QUICK_LENGTH = 1024, 64
#: Against a plain forward.
READ, SWEEP = Bar(1.15, "≤"), Bar(1.1, "≤")
#: Seconds.
SWAP = Bar(0.5, "≤")
OPERATORS = {4: "sliding-window(window=8)", "10-19": "lightning"}


def run(subject: Subject, settings: Settings) -> list[Result]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_hooks(subject, settings), _sweep(subject, settings), _swap(subject, settings)]
    finally:
        torch.set_num_threads(threads)


def _seconds(work: Callable[[], Any]) -> float:
    start = time.thread_time()
    with torch.no_grad():
        work()
    return time.thread_time() - start


def _turns(contestants: dict[str, Callable[[], Any]], settings: Settings, say: str) -> dict[str, list[float]]:
    for work in contestants.values():
        _seconds(work)
    return in_turns(
        {name: lambda work=work: _seconds(work) for name, work in contestants.items()}, settings.rounds, say
    )


def _hooks(subject: Subject, settings: Settings) -> Result:
    model, length = subject.model, QUICK_LENGTH if settings.quick else LENGTH
    ids = torch.randint(0, model.n_outputs, (1, length), generator=torch.Generator().manual_seed(0))

    def forward() -> None:
        model.hf(ids, use_cache=False, logits_to_keep=1)

    def hooked(heads: tuple[int, ...] | None, layers: Any) -> Callable[[], None]:
        def tap(x: torch.Tensor) -> None:
            x.sum()

        taps = {model.hook_name("pattern", layer): tap if heads is None else PartialTap(tap, heads) for layer in layers}

        def work() -> None:
            with model.running(taps):
                forward()

        return work

    every = range(model.n_layers)
    contestants = {
        "plain forward": forward,
        "one head's pattern in every layer": hooked((3,), every),
        "one head's pattern in one layer": hooked((3,), [9]),
        "all patterns of one layer": hooked(None, [9]),
        "all patterns of every layer": hooked(None, every),
    }
    measured = _turns(contestants, settings, "hooks")
    rows = [Row("plain forward", median(measured["plain forward"]))]
    for name in list(contestants)[1:]:
        ratio = Ratio.within_rounds(measured[name], measured["plain forward"], "that")
        bar = READ if name.startswith("one head's pattern in every") else None
        rows.append(Row(f"  {name}", median(measured[name]), ratio=ratio, bar=bar))
    return Result("hooks", f"Reading patterns of {length} tokens", rows, rounds=measured)


def _sweep(subject: Subject, settings: Settings) -> Result:
    model = subject.model
    inputs = prompts_of("ioi", model.tokenizer, settings.prompts or 8).pairs.inputs(model.tokenizer)
    swapped = wb.swap(model, OPERATORS, cache=False)
    contestants = {
        "the model's own attention": lambda: wb.sweep(model, inputs, cache=False),
        "other operators in 11 layers": lambda: wb.sweep(swapped, inputs, cache=False),
    }
    measured = _turns(contestants, settings, "swapped sweep")
    own, other = measured.values()
    rows = [
        Row("sweep of the model", median(own)),
        Row("  with other operators", median(other), ratio=Ratio.within_rounds(other, own, "that"), bar=SWEEP),
    ]
    title = f"Sweep of every head, {len(inputs)} IOI prompts, {', '.join(map(str, OPERATORS.values()))}"
    return Result("swapped_sweep", title, rows, rounds=measured)


def _swap(subject: Subject, settings: Settings) -> Result:
    model = subject.model
    model.identity.current()  # the weights' hash, as after any call with a cache
    with tempfile.TemporaryDirectory() as folder:
        first = _seconds(lambda: wb.swap(model, OPERATORS, cache=folder))
        measured = in_turns(
            {"swap": lambda: _seconds(lambda: wb.swap(model, OPERATORS, cache=folder))}, settings.rounds
        )
    rows = [Row("wb.swap, first", first), Row("wb.swap, checked before", median(measured["swap"]), bar=SWAP)]
    return Result("swap", "Swapping operators into 11 layers", rows, rounds=measured)
