"""An oracle that shares nothing with the engine: a loop that samples by plain forwards of the model, one row and one
pass at a time, with plain PyTorch hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import workbench as wb
from workbench.models.diffusion.dit import DiT, DiTConfig

#: ``change(step, branch, x)`` of what enters an output projection, ``[1, pos, head · d_head]``; branch 0 has the label.
Change = Callable[[int, int, Tensor], Tensor]


def random_dit(seed: int = 0, **settings: Any) -> DiT:
    """A DiT in float64 whose every part matters."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_labels": 5}
    model = DiT(DiTConfig(**(sizes | settings))).eval().double().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(0.15 * torch.randn(parameter.shape, dtype=torch.float64))
    return model


def plain_sample(
    model: DiT,
    noise: Tensor,
    label: int,
    steps: int,
    guidance: float | None = None,
    changes: dict[int, Change] | None = None,
) -> Tensor:
    """The image that Euler's method gives for one row of noise, ``[channel, row, column]``.

    Args:
        changes: layer → what its z becomes.
    """
    now = [0, 0]
    handles = []
    for layer, change in (changes or {}).items():
        project = model.get_submodule(f"blocks.{layer}.attn.o_proj")
        handles.append(
            project.register_forward_pre_hook(lambda _, args, change=change: (change(now[0], now[1], args[0]),))
        )
    none, x = model.config.n_classes, noise[None]
    try:
        for step in range(steps):
            now[0], predictions = step, []
            for branch, of_branch in enumerate([label] if guidance is None else [label, none]):
                now[1] = branch
                time = torch.tensor([1000 * (1 - step / steps)])
                predictions.append(model(x, time, torch.tensor([of_branch])))
            v = predictions[0]
            if guidance is not None:
                v = predictions[1] + guidance * (v - predictions[1])
            x = x - v / steps
    finally:
        for handle in handles:
            handle.remove()
    return x[0]


def latents_of(pairs: wb.Latents, run: str, model: DiT) -> Tensor:
    """The noise of pairs, drawn here."""
    seed = pairs.other_seed if run == "corrupt" else pairs.seed
    shape = model.config.image_shape
    draws = [torch.randn(shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(len(pairs))]
    return torch.stack(draws).double()
