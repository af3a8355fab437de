"""Small class-conditional diffusion transformers, trained as rectified flows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench.inputs.image_sets import LabelledImages
from workbench.models.diffusion.dit import DiT
from workbench.models.diffusion.dit_config import DiTConfig
from workbench.models.diffusion.schedule import LONGEST_TIME
from workbench.models.diffusion.training import flow_loss
from workbench.models.sources.directory import quiet_transformers

from .classifier import Classifier
from .memorising import nearest_training_image
from .recipe import ImageRecipe, Measured

#: Samples of each class that the numbers of a card are measured on, and the seed of their noise.
EACH, SAMPLE_SEED = 50, 1
#: The least median distance to the nearest training image, in those of held-out images.
LEAST_DISTANCE = 0.75


@dataclass(frozen=True)
class DiTRecipe(ImageRecipe):
    """A diffusion transformer that learns to make the images of a set.

    Attributes:
        patch: side of a patch, in pixels.
        width, layers, heads: of the network.
        label_dropout: the share of labels that are replaced by none.
        euler_steps: how many steps samples take.
        at_least: the least share of samples, without guidance, that a classifier finds to be of their class; None
            where it is only reported.
    """

    patch: int = 2
    width: int = 64
    layers: int = 6
    heads: int = 4
    label_dropout: float = 0.1
    euler_steps: int = 25
    at_least: float | None = None

    def network(self) -> nn.Module:
        channels, *frames, height, _ = self.images.shape
        return DiT(
            DiTConfig(
                hidden_size=self.width,
                num_hidden_layers=self.layers,
                num_attention_heads=self.heads,
                image_size=height,
                patch_size=self.patch,
                num_frames=frames[0] if frames else 1,
                num_channels=channels,
                id2label=dict(enumerate(self.images.classes)),
                label2id={name: i for i, name in enumerate(self.images.classes)},
            )
        )

    def loss(self, network: nn.Module, pixels: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        assert isinstance(network, DiT)
        return flow_loss(network, pixels, labels, label_dropout=self.label_dropout, generator=generator)

    @cached_property
    def classifier(self) -> Classifier:
        """Judges samples; it shares nothing with the model but the training images."""
        return Classifier(self.images)

    def measure(self, network: nn.Module) -> dict[str, Measured]:
        assert isinstance(network, DiT)
        labels = torch.arange(len(self.images.classes)).repeat_interleave(EACH)
        judge, n = self.classifier, len(labels)
        what = (
            f"share of {n} samples, {self.euler_steps} Euler steps, in which a support-vector machine sees their class "
            f"(on {len(self.images.test):,} held-out images it is right at {judge.accuracy(self.images.test):.4f})"
        )
        plain = self.samples(network, labels, 1.0)
        guided = self.samples(network, labels, 2.0)
        distance, copies = nearest_training_image(plain, self.images)
        return {
            "accuracy": Measured(judge.accuracy(plain), f"{what}, without guidance", self.at_least),
            "accuracy, guidance 2": Measured(judge.accuracy(guided), f"{what}, with guidance 2"),
            "distance to training": Measured(
                distance,
                "median distance of those samples to their nearest training image, over that of held-out images",
                LEAST_DISTANCE,
            ),
            "near copies": Measured(
                copies, "share of those samples nearer to a training image than 99 % of held-out images are"
            ),
        }

    def samples(self, network: DiT, labels: Int[Tensor, "image"], guidance: float) -> LabelledImages:
        """Images of those classes, from the noise of one seed."""
        generator = torch.Generator().manual_seed(SAMPLE_SEED)
        noise = torch.randn((len(labels), *self.images.shape), generator=generator)
        parts = zip(noise.split(100), labels.split(100), strict=True)
        floats = torch.cat([sampled(network, part, of, self.euler_steps, guidance) for part, of in parts])
        return LabelledImages(((floats.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy(), labels.numpy())

    def save(self, network: nn.Module, folder: Path) -> None:
        assert isinstance(network, DiT)
        with quiet_transformers():
            network.save_pretrained(folder)

    @property
    def described(self) -> str:
        size = "×".join(map(str, self.images.shape[1:]))
        what = "videos" if len(self.images.shape) > 3 else "images"
        return (
            f"A class-conditional diffusion transformer (adaLN-zero, rectified flow) for {what} of {size}, patches of "
            f"{self.patch}×{self.patch}, {self.layers} layers of {self.heads} heads, width {self.width}"
        )


@torch.no_grad()
def sampled(
    network: DiT,
    noise: Float[Tensor, "image channel *size"],
    labels: Int[Tensor, "image"],
    steps: int,
    guidance: float,
) -> Float[Tensor, "image channel *size"]:
    """Images by Euler steps of ``v = v_none + guidance · (v_label − v_none)``, from noise (t = 1) to images (t = 0)."""
    x, none = noise, torch.full_like(labels, network.config.n_classes)
    for step in range(steps):
        time = torch.full((len(x),), LONGEST_TIME * (1 - step / steps))
        velocity = network(x, time, labels)
        if guidance != 1:
            without = network(x, time, none)
            velocity = without + guidance * (velocity - without)
        x = x - velocity / steps
    return x
