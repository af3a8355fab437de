"""Sweeps and recordings of a diffusion transformer of the size of `digits-dit`, against plain sampling loops with plain
hooks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

import workbench as wb
from tests.benchmarks.subject import Settings, Subject
from tests.benchmarks.timing import Bar, Ratio, Result, Row, cpu_seconds, in_turns, one_thread, seconds_of, timed
from workbench.models.diffusion.dit import DiT, DiTConfig
from workbench.models.diffusion.sampling import sample

GUIDANCE, SAMPLES, WIDTH = 2.0, 8, 64
Cell = tuple[tuple[int, ...], int, int]


def run(subject: Subject, settings: Settings) -> list[Result]:
    """`subject`, a language model, is not looked at."""
    return [_sweeps(settings, steps) for steps in ((4,) if settings.quick else (4, 12))] + _recording(settings)


def _model(steps: int) -> wb.HookedDiT:
    torch.manual_seed(0)
    hf = DiT(DiTConfig()).eval().requires_grad_(False)
    for parameter in hf.parameters():
        parameter.copy_(0.1 * torch.randn_like(parameter))
    return wb.HookedDiT(hf, steps=steps, guidance=GUIDANCE)


def total(outputs: Tensor, example: Any) -> Tensor:
    return outputs.square().sum(-1)


class PlainLoop:
    """Sampling by plain forwards with a plain hook on an output projection; both passes are rows of one batch.

    Args:
        at_once: how many samples a batch has.
    """

    def __init__(self, model: wb.HookedDiT, pairs: wb.Latents, at_once: int) -> None:
        self.hf, self.steps, self.at_once = model.hf, model.n_steps, at_once
        self.noise = pairs.noise("clean", self.hf.config.image_shape)
        self.clean, self.corrupt = (torch.tensor(pairs.labels(run, {}, 10)) for run in ("clean", "corrupt"))
        self.d_head = WIDTH // self.hf.config.num_attention_heads
        self.z: dict[tuple[int, int], Tensor] = {}
        for layer in range(6):
            self.sampled(
                self.clean, slice(None), layer, lambda step, z, layer=layer: self.z.setdefault((layer, step), z)
            )

    @torch.no_grad()
    def sampled(self, labels: Tensor, rows: slice, layer: int, change: Callable[[int, Tensor], Tensor]) -> Tensor:
        x, now = self.noise[rows], [0]
        both = torch.cat([labels[rows], torch.full_like(labels[rows], 10)])
        project = self.hf.get_submodule(f"blocks.{layer}.attn.o_proj")
        handle = project.register_forward_pre_hook(lambda _, args: (change(now[0], args[0]),))
        try:
            for step in range(self.steps):
                now[0], time = step, torch.full((len(both),), 1000 * (1 - step / self.steps))
                labelled, without = self.hf(torch.cat([x, x]), time, both).chunk(2)
                x = x - (without + GUIDANCE * (labelled - without)) / self.steps
        finally:
            handle.remove()
        return x

    def scores(self, cells: Sequence[Cell]) -> np.ndarray:
        values = []
        for steps, layer, head in cells:
            columns, images = slice(head * self.d_head, (head + 1) * self.d_head), []
            for at in range(0, SAMPLES, self.at_once):
                rows = slice(at, at + self.at_once)

                def patched(step: int, z: Tensor, steps=steps, layer=layer, columns=columns, rows=rows) -> Tensor:
                    if step in steps:
                        source = torch.cat([half[rows] for half in self.z[layer, step].chunk(2)])
                        z[..., columns] = source[..., columns]
                    return z

                images.append(self.sampled(self.corrupt, rows, layer, patched))
            values.append(total(torch.cat(images).flatten(1), None).numpy())
        return np.array(values)


def _sweeps(settings: Settings, steps: int) -> Result:
    model, pairs = _model(steps), wb.latents(range(SAMPLES), other=9, seed=0)
    every, apart = (wb.sweep(model, pairs, metric=total, by=by, cache=False) for by in ("head", ["step", "head"]))
    grid: dict[str, list[Cell]] = {
        "every": [(tuple(range(steps)), layer, head) for layer, head in product(range(6), range(4))],
        "apart": [((step,), layer, head) for step, layer, head in product(range(steps), range(6), range(4))],
    }
    at_once, alone = PlainLoop(model, pairs, SAMPLES), PlainLoop(model, pairs, 1)
    n = min(settings.cells, 24)
    some = {name: cells[:: max(1, len(cells) // n)] for name, cells in grid.items()}
    few = some["every"][:: max(1, len(some["every"]) // 4)]
    scores: dict[str, Any] = {}
    measured = in_turns(
        {
            "apart": lambda: seconds_of(lambda: wb.sweep(model, pairs, metric=total, by=["step", "head"], cache=False)),
            "every": lambda: seconds_of(lambda: wb.sweep(model, pairs, metric=total, cache=False)),
            "loop, apart": timed(lambda: at_once.scores(some["apart"]), scores, "apart"),
            "loop, every": timed(lambda: at_once.scores(some["every"]), scores, "every"),
            "loop, one at a time": timed(lambda: alone.scores(few), scores, "alone"),
        },
        settings.rounds,
        f"diffusion, {steps} steps",
    )
    parts = {"apart": len(some["apart"]), "every": len(some["every"]), "one at a time": len(few)}
    full = {
        name: [s * len(grid["apart" if name == "apart" else "every"]) / n for s in measured[f"loop, {name}"]]
        for name, n in parts.items()
    }
    sweeps = {"apart": apart, "every": every}
    values = {"apart": ("apart", some["apart"]), "every": ("every", some["every"]), "one at a time": ("alone", few)}
    rows = []
    for name, label, bar in (("apart", "(step, layer, head)", 1.7), ("every", "each head in every step", 0.9)):
        rows.append(Row(f"workbench, {label}", median(measured[name])))
        rows.append(_rival(f"  loop, {SAMPLES} samples at once", full[name], measured[name], bar))
    rows.append(_rival("  loop, one sample at a time", full["one at a time"], measured["every"], 3))
    difference = 0.0
    for name, (key, cells) in values.items():
        own = sweeps["apart" if name == "apart" else "every"].values
        expected = np.array([own[_index(name, cell)] for cell in cells])
        difference = max(difference, float(np.abs(scores[key] - expected).max()))
    effect = float(np.abs(every.delta).max())
    cone = _arithmetic(steps)
    notes = [
        f"By arithmetic {cone:.2f}× for (step, layer, head): what is left of the steps and layers after an edit.",
        f"Largest difference to the loops {difference:.1e}, largest effect {effect:.3g}.",
        "Loops: all cells by proportion from those timed, "
        + ", ".join(f"{n} {name}" for name, n in parts.items())
        + ".",
    ]
    title = f"Sweep of z over 24 heads and {steps} steps, guidance, {SAMPLES} samples of 8×8"
    return Result(f"diffusion/{steps}", title, rows, notes, measured)


def _rival(what: str, seconds: Sequence[float], own: Sequence[float], bar: float) -> Row:
    return Row(what, median(seconds), bar=Bar(bar), ratio=Ratio.within_rounds(seconds, own, "workbench"))


def _index(name: str, cell: Cell) -> tuple[int, ...]:
    steps, layer, head = cell
    return (steps[0], layer, head) if name == "apart" else (layer, head)


def _arithmetic(steps: int) -> float:
    depths = 6 * steps
    return depths / (sum(depths - depth for depth in range(depths)) / depths)


def _recording(settings: Settings) -> list[Result]:
    model = _model(12)
    with one_thread():
        return [_recording_of(model, n, settings) for n in ((8,) if settings.quick else (32, 128))]


def _recording_of(model: wb.HookedDiT, n: int, settings: Settings) -> Result:
    pairs = wb.latents([i % 10 for i in range(n)], seed=0)
    noise, labels = pairs.noise("clean", (1, 8, 8)), torch.tensor(pairs.labels("clean", {}, 10))

    def plain() -> Tensor:
        batches = zip(noise.split(8), labels.split(8), strict=True)
        return torch.cat([sample(model.hf, x, y, steps=12, guidance=GUIDANCE) for x, y in batches])

    same = torch.equal(model.images(pairs), sample(model.hf, noise, labels, steps=12, guidance=GUIDANCE))
    measured = in_turns(
        {
            "plain": lambda: cpu_seconds(plain),
            "record": lambda: cpu_seconds(lambda: wb.record(model, pairs, ["z"], cache=False)),
        },
        settings.rounds if settings.quick else 5 * settings.rounds,  # a fifth of a second each, and noisy
        f"diffusion, recording {n}",
    )
    ratio = Ratio.within_rounds(measured["record"], measured["plain"], "plain sampling")
    rows = [
        Row("plain sampling", median(measured["plain"])),
        Row("recording z of every head and step", median(measured["record"]), ratio=ratio, bar=Bar(1.1, "≤")),
    ]
    notes = [
        "In CPU time, one thread.",
        f"Samples without hooks are {'bit for bit' if same else 'NOT'} those of the plain loop.",
        *_memory(model, n),
    ]
    return Result(f"diffusion/record-{n}", f"Recording {n} samples of 12 steps", rows, notes, measured)


def _memory(model: wb.HookedDiT, n: int) -> list[str]:
    """By how much the process grows at most while it records n samples into the cache; Linux only."""
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not status.exists():
        return []

    def kilobytes(field: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field))

    with tempfile.TemporaryDirectory() as folder:
        clear.write_text("5")  # the peak begins anew
        before = kilobytes("VmRSS")
        recording = wb.record(model, wb.latents([i % 10 for i in range(n)], seed=1), ["z"], cache=folder)
        recorded = sum(x.nbytes for x in recording.clean["z"][:1]) * n / 1e6
        grown = (kilobytes("VmHWM") - before) / 1e3
    return [f"Streaming {recorded:.0f} MB to the cache, memory grows by {grown:.0f} MB at most."]
