"""Screens against the exact sweep: how much faster, and how many of the exact top 20 they find."""

from __future__ import annotations

import warnings
from statistics import mean, median
from typing import Any

import numpy as np

import workbench
from tests.benchmarks.subject import Settings, Subject, prompts_of
from tests.benchmarks.timing import Bar, Ratio, Result, Row, in_turns, seconds_of
from workbench.errors import WorkbenchError
from workbench.models.bfloat16 import has_bfloat16
from workbench.patching.screen import ESTIMATES
from workbench.registry import TASKS

TITLES = {"ioi": "IOI", "colored_objects": "Colored Objects"}
#: How much faster than the exact sweep the better of the two methods has to be.
BARS = {"ioi": 2.0, "colored_objects": 1.5}
#: Of the exact top cells, how many; the share of them that has to be found, on average over the tasks.
TOP, RECALL = 20, 0.95
#: Prompts of each task for the recall.
PROMPTS = 16


def run(subject: Subject, settings: Settings) -> list[Result]:
    methods = [method for method in ESTIMATES if method != "bfloat16" or has_bfloat16(subject.model.device)]
    return [*(speed(subject, settings, name, methods) for name in BARS), recall(subject, settings, methods)]


def speed(subject: Subject, settings: Settings, name: str, methods: list[str]) -> Result:
    """One prompt file: the exact sweep and a screen by each method, in turns."""
    model, prompts = subject.model, prompts_of(name, subject.model.tokenizer, settings.prompts)

    def exact() -> Any:
        return workbench.sweep(model, prompts.pairs, cache=False)

    def screened(method: str) -> Any:
        return workbench.screen(model, prompts.pairs, method=method, cache=False)

    for method in methods:  # warms up
        screened(method)
    contestants = {"exact": lambda: seconds_of(exact)}
    contestants |= {method: lambda method=method: seconds_of(lambda: screened(method)) for method in methods}
    measured = in_turns(contestants, settings.rounds, f"screen {name}")
    best = min(methods, key=lambda method: median(measured[method]))
    rows = [Row("exact sweep", median(measured["exact"]))]
    for method in methods:
        ratio = Ratio.within_rounds(measured["exact"], measured[method], "faster")
        rows.append(Row(method, median(measured[method]), ratio=ratio, bar=Bar(BARS[name]) if method == best else None))
    return Result(
        f"screen/{name}",
        f"Screens of z over all heads, a quarter confirmed: {TITLES[name]}, {len(prompts)} × {prompts.length} tokens",
        rows,
        ["The bar is the better method's."],
        measured,
    )


def recall(subject: Subject, settings: Settings, methods: list[str]) -> Result:
    """The share of the exact top 20 heads by |effect| that each method confirms, over the registered tasks."""
    model, recalls = subject.model, {method: [] for method in methods}
    notes = []
    for name in TASKS.names():
        task = workbench.task(name, n=settings.prompts or PROMPTS, seed=0)
        try:
            exact = workbench.sweep(model, task, cache=False)
        except WorkbenchError as error:
            notes.append(f"{name}: cannot be asked ({str(error)[:80]}).")
            continue
        best = set(map(str, exact.top(TOP)))
        shares = {}
        for method in methods:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                screen = workbench.screen(model, task, method=method, cache=False)
            shares[method] = len(best & set(map(str, screen.exact.top(TOP)))) / TOP
            recalls[method].append(shares[method])
            assert np.nanmax(np.abs(screen.exact.values - exact.values)) < 1e-4
        notes.append(f"{name}: " + ", ".join(f"{method} {share:.2f}" for method, share in shares.items()))
    better = max(methods, key=lambda method: mean(recalls[method]))
    return Result(
        "screen/recall",
        f"Of the {TOP} heads with the largest exact |effect|, the share that a screen confirms",
        [
            Row(f"{method}, {len(recalls[method])} tasks", mean(recalls[method]), "of them",
                bar=Bar(RECALL) if method == better else None)
            for method in methods
        ],
        notes,
        recalls,
    )  # fmt: skip
