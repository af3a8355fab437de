"""What decides the weights of a trained model: its data, its network, its loss and the numbers of the optimiser."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.inputs.image_sets import ImageSet, LabelledImages
from workbench.registry import IMAGE_SETS

#: Where the trained models are shipped.
CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
#: Packages whose versions can change the weights in the last bit.
VERSIONS = ("torch", "transformers", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Measured:
    """One number of a card.

    Attributes:
        value: as measured.
        at_least: the threshold that was fixed before training, None for numbers that are only reported.
        what: how it was measured, in a sentence.
    """

    value: float
    what: str
    at_least: float | None = None

    @property
    def reached(self) -> bool:
        """Whether the threshold is reached."""
        return self.at_least is None or self.value >= self.at_least


@dataclass(frozen=True)
class Recipe(ABC):
    """Everything that decides the weights, besides the versions of the libraries and the machine's arithmetic.

    Attributes:
        name: of the model, and of its file in ``data/training``.
        image_set: name of the set of images (``data/images``).
        steps, batch: how many steps, of how many images.
        learning_rate, warm_up: AdamW's rate rises linearly over `warm_up` steps and then falls to 0 by a cosine.
        weight_decay: of the matrices.
        average: the weights that are shipped are an exponential moving average with this decay, which starts lower
            (``min(average, (1 + step) / (10 + step))``); 0 for the last weights themselves.
        seed: of the initial weights and of everything that is drawn.
        save_every: steps between checkpoints.
    """

    name: str
    image_set: str
    steps: int
    batch: int = 64
    learning_rate: float = 2e-3
    warm_up: int = 50
    weight_decay: float = 0.05
    average: float = 0.0
    seed: int = 0
    save_every: int = 100

    @abstractmethod
    def network(self) -> torch.nn.Module:
        """The untrained model; its random weights come from torch's generator, which the caller has seeded."""

    @abstractmethod
    def loss(self, network: torch.nn.Module, pixels: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of one batch; whatever is random comes from the generator."""

    @abstractmethod
    def measure(self, network: torch.nn.Module) -> dict[str, Measured]:
        """The numbers of the card."""

    @abstractmethod
    def save(self, network: torch.nn.Module, folder: Path) -> None:
        """Write configuration and weights, as `workbench.load` reads them."""

    @property
    @abstractmethod
    def described(self) -> str:
        """What the network is, in a sentence of the card."""

    @property
    def images(self) -> ImageSet:
        """The set of images."""
        return IMAGE_SETS[self.image_set]

    @property
    def identity(self) -> str:
        """A hash of the recipe and of the versions of the libraries: what a checkpoint may be resumed by."""
        versions = " ".join(f"{package}=={version(package)}" for package in VERSIONS)
        return hashlib.sha256(f"{self!r} {versions}".encode()).hexdigest()

    def learning_rate_at(self, step: int) -> float:
        """Of a step, counted from 0."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        return self.learning_rate * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * done, dtype=torch.float64))))

    def facts(self) -> Mapping[str, Any]:
        """The numbers of the recipe, for its card."""
        names = ("steps", "batch", "learning_rate", "warm_up", "weight_decay", "average", "seed")
        return {name: getattr(self, name) for name in names}


def as_floats(images: LabelledImages) -> Float[Tensor, "image channel *size"]:
    """Pixels from −1 to 1, as models see them: ``pixel / 127.5 − 1``."""
    return torch.from_numpy(images.pixels).float() / 127.5 - 1


def labels_of(images: LabelledImages) -> Int[Tensor, "image"]:
    """The classes as a tensor."""
    return torch.from_numpy(images.labels)
