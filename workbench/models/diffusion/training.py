"""What a diffusion transformer is trained on: the velocity of rectified flow.

Liu, Gong and Liu, "Flow Straight and Fast" (2023); times are drawn as in Esser et al., "Scaling Rectified Flow
Transformers" (2024).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from workbench.arguments import number
from workbench.errors import UsageError
from workbench.models.diffusion.dit import DiT
from workbench.models.diffusion.schedule import LONGEST_TIME


def noised(
    images: Float[Tensor, "batch channel *size"], noise: Float[Tensor, "batch channel *size"], t: Float[Tensor, "batch"]
) -> Float[Tensor, "batch channel *size"]:
    """``(1 − t) image + t noise``: the image at t = 0, noise alone at t = 1."""
    t = t.reshape(-1, *[1] * (images.ndim - 1)).to(images)
    return (1 - t) * images + t * noise


def flow_loss(
    model: DiT,
    images: Float[Tensor, "batch channel *size"],
    labels: Int[Tensor, "batch"],
    *,
    label_dropout: float = 0.1,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """The mean squared error of the predicted velocity, ``‖v(x_t, 1000 t, label) − (noise − image)‖²`` per pixel.

    ``x_t = (1 − t) image + t noise``, with noise of a standard normal distribution and t the sigmoid of one.

    Args:
        images: roughly of mean 0 and standard deviation 1.
        labels: their classes, from 0.
        label_dropout: the share of labels that are replaced by none, for guidance.
        generator: of the draws (noise, times, which labels are dropped), on the CPU.

    Raises:
        UsageError: a model that predicts noise, a label that is no class, or a share beyond 0 and 1.
    """
    config = model.config
    if config.prediction != "velocity":
        raise UsageError(f"flow_loss: the model predicts {config.prediction}, and this is the loss of a velocity.")
    if not bool(((labels >= 0) & (labels < config.n_classes)).all()):
        raise UsageError(f"labels: expected classes from 0 to {config.n_classes - 1}.")
    label_dropout = number("label_dropout", label_dropout, at_least=0, at_most=1)
    batch = len(images)
    noise = torch.randn(images.shape, generator=generator).to(images)
    t = torch.randn(batch, generator=generator).sigmoid().to(images)
    dropped = torch.rand(batch, generator=generator) < label_dropout
    labels = labels.masked_fill(dropped.to(labels.device), config.n_classes)
    velocity = model(noised(images, noise, t), LONGEST_TIME * t, labels)
    return F.mse_loss(velocity, noise - images)
