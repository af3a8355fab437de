"""Samplers: at which times a model is asked, and what its predictions do to the latent.

Every sampler here is deterministic and linear: a step turns a latent x and a prediction p into ``keep · x + add · p``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from workbench import arguments

#: Times go from 0 (the image) to this (noise alone).
LONGEST_TIME = 1000


@dataclass(frozen=True)
class Step:
    """The model is asked at `time` (0 to 1000), and the latent becomes ``keep · latent + add · prediction``.

    `last_keep` and `last_add` are the same of a step that goes all the way: ``last_keep · latent + last_add ·
    prediction`` is the image that the prediction points at.
    """

    time: float
    keep: float
    add: float
    last_keep: float
    last_add: float


def euler(steps: int) -> tuple[Step, ...]:
    """Rectified flow by Euler's method: ``x ← x − v / steps``, at the times 1000 t = 1000, …, 1000 / steps. The
    velocity points at the image ``x − t v``."""
    return tuple(Step(LONGEST_TIME * (t := 1 - i / steps), 1.0, -1 / steps, 1.0, -t) for i in range(steps))


def ddim(steps: int) -> tuple[Step, ...]:
    """Song, Meng and Ermon, "Denoising Diffusion Implicit Models" (2021), without noise (η = 0), for a model that
    predicts noise: with ᾱ of 1000 linear betas from 1e-4 to 0.02,
    ``x ← √ᾱ' (x − √(1 − ᾱ) ε) / √ᾱ + √(1 − ᾱ') ε``. The noise points at the image ``(x − √(1 − ᾱ) ε) / √ᾱ``. The times
    are diffusers' (``timestep_spacing="leading"``).

    At most 1000 steps.
    """
    betas = torch.linspace(1e-4, 0.02, LONGEST_TIME, dtype=torch.float32)  # as diffusers rounds them
    alphas = (1 - betas).cumprod(0).double()
    stride, result = LONGEST_TIME // steps, []
    for time in range((steps - 1) * stride, -1, -stride):
        now, then = float(alphas[time]), float(alphas[time - stride]) if time >= stride else 1.0
        add = (1 - then) ** 0.5 - (then * (1 - now) / now) ** 0.5
        last = now**-0.5, -(((1 - now) / now) ** 0.5)
        result.append(Step(float(time), (then / now) ** 0.5, add, *last))
    return tuple(result)


#: Sampler → what the model has to predict, and its steps.
SAMPLERS: Mapping[str, tuple[str, Callable[[int], tuple[Step, ...]]]] = {
    "euler": ("velocity", euler),
    "ddim": ("noise", ddim),
}


def sampler_for(sampler: str | None, prediction: str) -> str:
    """The sampler of that name, or the one for what a model predicts.

    Raises:
        UnknownName: no such sampler.
        UsageError: one that needs another prediction.
    """
    names = {predicted: name for name, (predicted, _) in SAMPLERS.items()}
    if arguments.one_of("sampler", sampler, SAMPLERS, optional=True) is None:
        return names[prediction]
    if (needs := SAMPLERS[str(sampler)][0]) != prediction:
        why = f"the model predicts {prediction}, and {sampler} needs {needs}"
        raise arguments.refusal("sampler", sampler, repr(names[prediction]), because=why)
    return str(sampler)
