"""Small vision transformers: transformers' `ViTForImageClassification`, with softmax or with other attention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViTConfig, ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from workbench.attention.operator import operator
from workbench.models.saved_operators import note_operators
from workbench.models.sources.directory import quiet_transformers
from workbench.models.swap import swap
from workbench.models.vision import HookedViT

from . import card
from .recipe import CHECKPOINTS, ImageRecipe, Measured, as_floats, labels_of

#: The least accuracy on held-out images, and how much less another operator may have; fixed before training.
LEAST, WITHIN = 0.90, 0.05


@dataclass(frozen=True)
class ViTRecipe(ImageRecipe):
    """A vision transformer that learns the classes of a set of images.

    Attributes:
        patch: side of a patch, in pixels.
        width, layers, heads: of the network; its MLPs are twice as wide.
        operator: attention in every layer by another operator, as `workbench.swap` takes it; empty for softmax.
        shift: images are moved by up to so many pixels, in both directions, before each step.
        beside: the recipe with softmax, whose shipped model's accuracy this one comes within `WITHIN` of; without it
            the least accuracy is `LEAST`.
    """

    patch: int = 2
    width: int = 64
    layers: int = 4
    heads: int = 4
    operator: str = ""
    shift: int = 1
    beside: str = ""

    def network(self) -> nn.Module:
        channels, height, width = self.images.shape
        config = ViTConfig(
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=2 * self.width,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            image_size=height if height == width else (height, width),
            patch_size=self.patch,
            num_channels=channels,
            layer_norm_eps=1e-6,
            initializer_range=self.width**-0.5,
            id2label=dict(enumerate(self.images.classes)),
            label2id={name: i for i, name in enumerate(self.images.classes)},
        )
        network = ViTForImageClassification(config)
        if not self.operator:
            return network
        hooked = HookedViT(network.eval(), check=False)  # the check proves hooks, which are not used here
        return swap(hooked, {"all": self.operator}, cache=False).hf

    def loss(self, network: nn.Module, pixels: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        return F.cross_entropy(network(shifted(pixels, self.shift, generator)).logits, labels)

    def measure(self, network: nn.Module) -> dict[str, Measured]:
        test = self.images.test
        at_least = card.values(CHECKPOINTS / self.beside)["accuracy"] - WITHIN if self.beside else LEAST
        what = f"share of {len(test):,} held-out images whose class has the largest logit"
        return {"accuracy": Measured(accuracy(network, as_floats(test), labels_of(test)), what, at_least)}

    def save(self, network: nn.Module, folder: Path) -> None:
        assert isinstance(network, ViTForImageClassification)
        if self.operator:
            note_operators(network)
        with quiet_transformers():
            network.save_pretrained(folder)
        channels, height, width = self.images.shape
        ViTImageProcessorPil(
            size={"height": height, "width": width},
            image_mean=[0.5] * channels,
            image_std=[0.5] * channels,
        ).save_pretrained(folder)

    @property
    def described(self) -> str:
        _, height, width = self.images.shape
        return (
            f"A vision transformer (transformers' ViTForImageClassification) for {height}×{width} images, patches of "
            f"{self.patch}×{self.patch}, {self.layers} layers of {self.heads} heads, width {self.width}"
            + (f", every layer with the operator {operator(self.operator)} for attention" if self.operator else "")
        )


def shifted(
    pixels: Float[Tensor, "image channel height width"], most: int, generator: torch.Generator
) -> Float[Tensor, "image channel height width"]:
    """Each image moved by up to `most` pixels down or up and right or left; what comes in is the image's edge."""
    if not most:
        return pixels
    height, width = pixels.shape[-2:]
    moves = torch.randint(-most, most + 1, (2, len(pixels)), generator=generator)
    rows = (torch.arange(height) - moves[0][:, None]).clamp(0, height - 1)
    columns = (torch.arange(width) - moves[1][:, None]).clamp(0, width - 1)
    return pixels[torch.arange(len(pixels))[:, None, None], :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


@torch.no_grad()
def accuracy(network: nn.Module, pixels: Tensor, labels: Tensor) -> float:
    """Share of images whose class has the largest logit."""
    parts = [network(part).logits.argmax(-1) for part in pixels.split(256)]
    return (torch.cat(parts) == labels).double().mean().item()
