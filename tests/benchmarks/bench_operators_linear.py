"""Operators whose time grows with the length: how time grows, and from which length they are faster than causal softmax
attention. One thread, CPU time of that thread; one row of nine heads of width 64, float32."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.benchmarks.subject import Settings, Subject
from tests.benchmarks.timing import Bar, Ratio, Result, Row, in_turns, one_thread
from workbench.attention.layer import LayerShape
from workbench.attention.operator import BoundOperator, operator
from workbench.registry import OPERATORS

HEADS, WIDTH, D_MODEL = 9, 64, 576
#: Lengths at which softmax attention is timed too, and those that the slope is taken from.
CROSSOVER, SLOPE = (256, 512, 1024, 2048, 4096), (1024, 2048, 4096, 8192, 16384)
QUICK = (128, 256)
#: At most, of log time against log length.
STEEPEST = 1.15
#: Lengths at which an operator is to be as fast as causal softmax attention.
AS_FAST_FROM = {"lightning": 2048, "linear": 2048, "gated-delta": 4096}
HAS_BAR = ("lightning", "linear", "block-linear", "delta", "gated-delta")
SDPA = "causal SDPA"


def run(subject: Subject, settings: Settings) -> list[Result]:
    with one_thread():
        return [_measure(settings)]


def _measure(settings: Settings) -> Result:
    slope, crossover = (QUICK, QUICK) if settings.quick else (SLOPE, CROSSOVER)
    names = [name for name in OPERATORS.names() if OPERATORS[name].resumes == "state"]
    #: seconds[name][length], one a round.
    seconds: dict[str, dict[int, list[float]]] = {name: {} for name in (*names, SDPA)}

    def contestant(name: str, lengths: tuple[int, ...]) -> Callable[[], float]:
        def time_all() -> float:
            each = [_seconds(_work(name, length), length) for length in lengths]
            for length, value in zip(lengths, each, strict=True):
                seconds[name].setdefault(length, []).append(value)
            return sum(each)

        return time_all

    lengths = tuple(sorted({*slope, *crossover}))
    contestants = {name: contestant(name, lengths) for name in names} | {SDPA: contestant(SDPA, crossover)}
    in_turns(contestants, settings.rounds, "operators")
    rows = [row for name in sorted(names, key=_order) for row in _rows(name, seconds, slope, crossover)]
    rows.append(_state(slope))
    softmax = ", ".join(f"{length}: {1e3 * median(seconds[SDPA][length]):.1f}" for length in crossover)
    notes = [
        f"Lengths {slope[0]} to {slope[-1]}; slope: of log time against log length, least squares.",
        f"Causal SDPA, ms of CPU: {softmax}. Delta rules with constant gates, recurrent-chunks with chunks of 16.",
    ]
    per_round = {f"{name} {length}": values for name, by in seconds.items() for length, values in by.items()}
    return Result("operators_linear", "Operators with a state", rows, notes, per_round)


def _order(name: str) -> tuple[int, str]:
    return (HAS_BAR.index(name) if name in HAS_BAR else len(HAS_BAR), name)


def _rows(
    name: str, seconds: dict[str, dict[int, list[float]]], slope: tuple[int, ...], crossover: tuple[int, ...]
) -> list[Row]:
    own, softmax = seconds[name], seconds[SDPA]
    grows = [
        float(np.polyfit(np.log(slope), np.log([own[length][round_] for length in slope]), 1)[0])
        for round_ in range(len(own[slope[0]]))
    ]
    rows = [Row(f"{name}: slope", median(grows), "", bar=Bar(STEEPEST, "≤") if name in HAS_BAR else None)]
    faster = {length: median(own[length]) <= median(softmax[length]) for length in crossover}
    slower = [length for length in crossover if not faster[length]]
    start = next((length for length in crossover if length > max(slower, default=0)), float("inf"))
    limit = AS_FAST_FROM.get(name)
    rows.append(
        Row(f"{name}: as fast as SDPA from", start / 1024, "k positions", bar=Bar(limit / 1024, "≤") if limit else None)
    )
    last = crossover[-1]
    ratio = Ratio.within_rounds(softmax[last], own[last], "faster than SDPA")
    rows.append(Row(f"{name}: {last} positions", 1e3 * median(own[last]), "ms", ratio=ratio))
    return rows


def _state(lengths: tuple[int, ...]) -> Row:
    bound = operator("block-linear")

    def numbers(length: int) -> int:
        _, k, v = _inputs(length)
        return sum(part.numel() for part in bound.advance(k, v, bound.call(causal=False)))

    return Row(
        "block-linear: its state, longest over shortest",
        numbers(lengths[-1]) / numbers(lengths[0]),
        "×",
        bar=Bar(1, "≤"),
    )


def _inputs(length: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    q, k, v = (torch.randn(1, HEADS, length, WIDTH, generator=generator) for _ in range(3))
    return q, k, v


def _work(name: str, length: int) -> Callable[[], Tensor]:
    q, k, v = _inputs(length)
    if name == SDPA:
        return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)
    bound = operator(name)
    call = bound.call(scale=WIDTH**-0.5, causal=bound.keeps_causality, gates=_gates(bound, length))
    trial = bound.operator.trial(1, length)
    call = replace(call, data={**call.data, **trial.get("data", {})})
    return lambda: bound.z(q, k, v, call)


def _gates(bound: BoundOperator, length: int) -> dict[str, Tensor]:
    """Those that its module begins with."""
    if bound.operator.module is None:
        return {}
    sizes = {"n_heads": HEADS, "n_kv_heads": HEADS, "d_head": WIDTH, "d_value": WIDTH, "d_model": D_MODEL}
    module = bound.operator.module(LayerShape(layer=0, n_layers=1, **sizes), bound.settings)
    generator = torch.Generator().manual_seed(1)
    heads = torch.randn(1, length, HEADS, WIDTH, generator=generator)
    return module.gates(torch.randn(1, length, D_MODEL, generator=generator), lambda name, x: heads)


def _seconds(work: Callable[[], Tensor], length: int) -> float:
    """CPU seconds of one call; short ones are repeated."""
    repeats = max(1, 8192 // length)
    work()
    start = time.thread_time()
    for _ in range(repeats):
        work()
    return (time.thread_time() - start) / repeats
