"""What is left of a circuit when every other head is at its mean, of images and of samples: `wb.sweep_sets` equals
plain PyTorch hooks on the output projections, whose inputs are the heads' z."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from workbench.models.diffusion.sampling import sample

CIRCUIT = wb.Circuit("digits", "digits-vit", tuple((wb.Head(*at), "any") for at in [(0, 3), (1, 1), (3, 1), (3, 2)]))
#: Of a projection's n-th call, from its input: another input.
Change = Callable[[int, Tensor], Tensor | None]


@contextmanager
def before(modules: dict[int, nn.Module], change: Callable[[int], Change]) -> Iterator[None]:
    """Within the block the inputs of some layers' modules are changed."""
    handles, calls = [], dict.fromkeys(modules, 0)

    def hook_of(layer: int) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> Any:
            new = change(layer)(calls[layer], args[0])
            calls[layer] += 1
            return None if new is None else (new,)

        return hook

    for layer, module in modules.items():
        handles.append(module.register_forward_pre_hook(hook_of(layer)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def left_of(heads: frozenset[wb.Head], model: Any, name: str, run: Callable[[str], Tensor], branches: int) -> Tensor:
    """The outputs of the runs ``"test"`` with all heads but these at their means over the runs ``"mean"``, of each
    pass, position and step."""
    modules = {layer: model.hf.get_submodule(name.format(layer)) for layer in range(model.n_layers)}
    means: dict[tuple[int, int], Tensor] = {}

    def note(layer: int) -> Change:
        def keep(call: int, z: Tensor) -> None:
            means[layer, call] = z.unflatten(0, (-1, branches)).mean(0)

        return keep

    def ablate(layer: int) -> Change:
        def replace(call: int, z: Tensor) -> Tensor:
            mean = means[layer, call].repeat(len(z) // branches, 1, 1)
            parts, mean = z.clone().unflatten(-1, (model.n_heads, -1)), mean.unflatten(-1, (model.n_heads, -1))
            for head in range(model.n_heads):
                if wb.Head(layer, head) not in heads:
                    parts[:, :, head] = mean[:, :, head]
            return parts.flatten(-2)

        return replace

    with torch.no_grad():
        with before(modules, note):
            run("mean")
        with before(modules, ablate):
            return run("test")


def complement(model: Any) -> list[wb.Head]:
    heads = (wb.Head(layer, head) for layer in range(model.n_layers) for head in range(model.n_heads))
    return [head for head in heads if head not in CIRCUIT.head_set]


def test_of_images() -> None:
    model: Any = wb.load("digits-vit")
    digits = wb.image_set("digits").test
    examples = {"test": slice(0, 6), "mean": slice(20, 44)}
    images = {
        run: wb.images(list(digits.pixels[some, 0]), answer=digits.labels[some]).corrupted("relabel", seed=0)
        for run, some in examples.items()
    }
    sweep = wb.sweep_sets(
        model, images["test"], {"circuit": complement(model)}, edit="mean", mean_over=images["mean"], cache=False
    )
    inputs = {run: model.prepare(pairs) for run, pairs in images.items()}

    def run(name: str) -> Tensor:
        patches = torch.stack(inputs[name].clean)[:, 1:]  # behind CLS
        return model.hf(nn.functional.fold(patches.mT, (8, 8), 2, stride=2)).logits

    logits = left_of(CIRCUIT.head_set, model, "vit.layers.{}.attention.o_proj", run, 1)
    prepared = inputs["test"]
    expected = [
        float(row[list(right)].mean() - row[list(wrong)].mean())
        for row, right, wrong in zip(logits, prepared.answer, prepared.wrong, strict=True)
    ]
    assert np.abs(sweep.base - sweep.values[0]).max() > 0.5
    np.testing.assert_allclose(sweep.values[0], expected, atol=1e-4)


@pytest.mark.parametrize("guidance", [None, 2.0])
def test_of_samples(guidance: float | None) -> None:
    classifier: Any = wb.load("digits-vit")
    loaded: Any = wb.load("digits-dit")
    model = loaded.resampled(steps=3, guidance=guidance, readout=classifier)
    latents = {"test": wb.latents(3, other=8, n=4), "mean": wb.latents([3, 8], n=6, seed=50)}
    sweep = wb.sweep_sets(
        model, latents["test"], {"circuit": complement(model)}, edit="mean", mean_over=latents["mean"], cache=False
    )

    def run(name: str) -> Tensor:
        chosen = latents[name]
        labels = torch.tensor(chosen.classes)
        return sample(model.hf, chosen.noise("clean", (1, 8, 8)), labels, steps=3, guidance=guidance)

    finished = left_of(CIRCUIT.head_set, model, "blocks.{}.attn.o_proj", run, 1 if guidance is None else 2)
    logits = classifier.hf(finished).logits.detach()
    assert np.abs(sweep.base - sweep.values[0]).max() > 0.1
    np.testing.assert_allclose(sweep.values[0], logits[:, 3] - logits[:, 8], atol=1e-4)
