"""Sweeps over the heads of a vision transformer of the size of DINOv2-small, read off the class token and off the mean
of the patches, against loops of whole forwards with a plain hook."""

from __future__ import annotations

from itertools import product
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import IJepaConfig, IJepaModel, ViTConfig, ViTForImageClassification, ViTImageProcessorPil

import workbench as wb
from tests.benchmarks.subject import Settings, Subject
from tests.benchmarks.timing import Bar, Ratio, Result, Row, in_turns, sample_cells, seconds_of, timed

LAYERS, HEADS, WIDTH, IMAGES = 12, 6, 384, 4
SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 4 * WIDTH,
    "image_size": 224,
    "patch_size": 16,
}
#: Heads that a loop edits in one batch: the images of one head, and those of all heads of a layer.
AT_ONCE = (1, HEADS)
READOUTS = {
    "class token": (ViTForImageClassification, ViTConfig, 1.8),
    "mean of patches": (IJepaModel, IJepaConfig, 1.6),
}


def run(subject: Subject, settings: Settings) -> list[Result]:
    """`subject`, a language model, is not looked at."""
    return [_sweep(settings, readout) for readout in READOUTS]


def total(outputs: Tensor, example: Any) -> Tensor:
    return outputs.square().sum(-1)


class PlainLoop:
    """Whole forwards of the untouched model with a plain hook on the output projection of a layer."""

    def __init__(self, hf: nn.Module, clean: Tensor, corrupt: Tensor, pooled: bool) -> None:
        self.hf, self.corrupt, self.pooled = hf, corrupt, pooled
        self.projections = [module for name, module in hf.named_modules() if name.endswith("attention.o_proj")]
        self.z: list[Tensor] = []
        handles = [
            module.register_forward_pre_hook(lambda _, args: self.z.append(args[0])) for module in self.projections
        ]
        self.outputs(clean)
        for handle in handles:
            handle.remove()

    @torch.no_grad()
    def outputs(self, pixels: Tensor) -> Tensor:
        answer = self.hf(pixels)
        return answer.last_hidden_state.mean(1) if self.pooled else answer.logits

    def scores(self, cells: list[tuple[int, int]], at_once: int) -> np.ndarray:
        """Of each head of `cells`; those of a layer that stand together are edited in one batch."""
        values, d_head = [], WIDTH // HEADS
        for at in range(0, len(cells), at_once):
            layer, heads = cells[at][0], [head for _, head in cells[at : at + at_once]]

            def patch(_: nn.Module, args: tuple[Tensor], layer: int = layer, heads: list[int] = heads) -> tuple[Tensor]:
                z = args[0].clone()
                for i, head in enumerate(heads):
                    rows, columns = slice(i * IMAGES, (i + 1) * IMAGES), slice(head * d_head, (head + 1) * d_head)
                    z[rows, :, columns] = self.z[layer][..., columns]
                return (z,)

            handle = self.projections[layer].register_forward_pre_hook(patch)
            outputs = self.outputs(self.corrupt.repeat(len(heads), 1, 1, 1))
            handle.remove()
            values += list(total(outputs, None).view(len(heads), IMAGES))
        return torch.stack(values).numpy()


def _sweep(settings: Settings, readout: str) -> Result:
    cls, config, bar = READOUTS[readout]
    torch.manual_seed(0)
    hf = cls(config(**SIZES)).eval().requires_grad_(False)
    model = wb.HookedViT(hf, ViTImageProcessorPil())
    rng = np.random.default_rng(0)
    clean, corrupt = (wb.images(list(rng.random((IMAGES, 224, 224, 3)))) for _ in range(2))
    pairs = clean.paired_with(corrupt)
    inputs = model.prepare(pairs)
    pixels = [model.inputs_to_pixels(torch.stack(list(some))) for some in (inputs.clean, inputs.corrupt)]
    loop = PlainLoop(hf, *pixels, pooled=readout != "class token")
    every = list(product(range(LAYERS), range(HEADS)))
    sweep = wb.sweep(model, pairs, metric=total, cache=False)
    layers = sorted({layer for layer, _ in sample_cells(every, sweep.delta, settings.cells)})[
        :: 1 if settings.cells > 6 else 3
    ]
    cells = [(layer, head) for layer in layers for head in range(HEADS)]
    scores: dict[str, Any] = {}
    contestants = {f"loop, {n} at once": (lambda n=n: loop.scores(cells, n)) for n in AT_ONCE}
    measured = in_turns(
        {
            "sweep": lambda: seconds_of(lambda: wb.sweep(model, pairs, metric=total, cache=False)),
            **{name: timed(work, scores, name) for name, work in contestants.items()},
        },
        settings.rounds,
        f"images, {readout}",
    )
    rows = [Row("workbench", median(measured["sweep"]), cells=(len(every), len(every)))]
    own = np.array([sweep.values[cell] for cell in cells])
    for name in contestants:
        full = [seconds * len(every) / len(cells) for seconds in measured[name]]
        ratio = Ratio.within_rounds(full, measured["sweep"], "workbench")
        difference = float(np.abs(scores[name] - own).max())
        rows.append(
            Row(name, median(full), ratio=ratio, bar=Bar(bar), cells=(len(cells), len(every)), difference=difference)
        )
    notes = [
        f"By arithmetic {_arithmetic(readout):.2f}×: matrix products of whole forwards, over those after an edit.",
        f"Largest effect {np.abs(sweep.delta).max():.3g}, of values up to {np.abs(own).max():.3g}.",
    ]
    title = f"Sweep of z over {len(every)} heads, {IMAGES} images of 224×224, read off the {readout}"
    return Result(f"images/{readout.replace(' ', '-')}", title, rows, notes, measured)


def _arithmetic(readout: str) -> float:
    """Multiplications of a position and layer in units of WIDTH²: q, k, v 3, output projection 1, MLP 8. Attention
    itself and embedding are left out on both sides, as are the two runs that the sweep starts from."""
    whole = LAYERS * 12
    last = 12 if readout != "class token" else 2  # keys and values alone, everywhere but at the class token
    after = [9 + 12 * (LAYERS - 2 - layer) + last for layer in range(LAYERS - 1)]
    return LAYERS * whole / (sum(after) + (9 if readout != "class token" else 0))
