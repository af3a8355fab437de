"""What decides the weights of a trained model: its data, its network, its loss and the numbers of the optimiser.

`Recipe` is of any model, `ImageRecipe` of one that learns from a set of images.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
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
DATA = """\
- Data: {title} (`data/images/{module}.py`), {n_train:,} images to train on, {n_test:,} held out. {source}.
- Licence of the data: {licence}."""


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
        steps, batch: how many steps, of how many examples.
        learning_rate, warm_up: AdamW's rate rises linearly over `warm_up` steps and then falls to 0 by a cosine.
        weight_decay: of the matrices.
        average: the weights that are shipped are an exponential moving average with this decay, which starts lower
            (``min(average, (1 + step) / (10 + step))``); 0 for the last weights themselves.
        seed: of the initial weights and of everything that is drawn.
        save_every: steps between checkpoints.
    """

    name: str
    _: KW_ONLY
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
    def batch_loss(self, network: torch.nn.Module, generator: torch.Generator) -> Tensor:
        """The loss of one batch; whatever is random, the batch itself too, comes from the generator."""

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
    @abstractmethod
    def data(self) -> str:
        """What it learns from, where that is from and its licence: lines of the card."""

    @property
    def identity(self) -> str:
        """A hash of the recipe and of the versions of the libraries: what a checkpoint may be resumed by."""
        versions = " ".join(f"{package}=={version(package)}" for package in VERSIONS)
        return hashlib.sha256(f"{self!r} {versions}".encode()).hexdigest()

    @property
    def rate_steps(self) -> int:
        """The steps over which the learning rate falls to 0: all of them, or more, where the training ends earlier."""
        return self.steps

    def learning_rate_at(self, step: int) -> float:
        """Of a step, counted from 0."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(self.rate_steps - self.warm_up, 1)
        return self.learning_rate * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * done, dtype=torch.float64))))

    def facts(self) -> Mapping[str, Any]:
        """The numbers of the recipe, for its card."""
        names = ("steps", "batch", "learning_rate", "warm_up", "weight_decay", "average", "seed")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class ImageRecipe(Recipe):
    """A recipe of a model that learns from a set of images.

    Attributes:
        image_set: name of the set (``data/images``).
    """

    image_set: str

    @abstractmethod
    def loss(self, network: torch.nn.Module, pixels: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of one batch of images."""

    def batch_loss(self, network: torch.nn.Module, generator: torch.Generator) -> Tensor:
        pixels, labels = self._train
        rows = torch.randint(len(labels), (self.batch,), generator=generator)
        return self.loss(network, pixels[rows], labels[rows], generator)

    @property
    def images(self) -> ImageSet:
        """The set of images."""
        return IMAGE_SETS[self.image_set]

    @cached_property
    def _train(self) -> tuple[Tensor, Tensor]:
        return as_floats(self.images.train), labels_of(self.images.train)

    @property
    def data(self) -> str:
        images = self.images
        return DATA.format(
            title=images.title,
            module=images.name.replace("-", "_"),
            n_train=len(images.train),
            n_test=len(images.test),
            source=images.source[0].upper() + images.source[1:],
            licence=images.licence,
        )


def as_floats(images: LabelledImages) -> Float[Tensor, "image channel *size"]:
    """Pixels from −1 to 1, as models see them: ``pixel / 127.5 − 1``."""
    return torch.from_numpy(images.pixels).float() / 127.5 - 1


def labels_of(images: LabelledImages) -> Int[Tensor, "image"]:
    """The classes as a tensor."""
    return torch.from_numpy(images.labels)
