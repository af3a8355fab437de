"""Small transformers that learn conditioning in context, from prompts of `data.conditioning`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForTokenClassification

from workbench.models.sources.directory import quiet_transformers

from ...conditioning import best, learner, prompts
from .recipe import Measured, Recipe

#: Held-out prompts that the card is measured on, and the seed of their generator, which no step of a training has.
HELD_OUT, HELD_OUT_SEED = 2_000, 2**62
#: The steps over which the learning rate falls to 0.
RATE_STEPS = 5_000
#: What a training takes, as measured.
MINUTES = "about two and a half minutes"
#: The least share of what can be explained; fixed before training.
LEAST = 0.97


@dataclass(frozen=True)
class ConditioningRecipe(Recipe):
    """A transformer that predicts the outcomes of trials from the trials before, with other cues in every prompt.

    Attributes:
        width, layers, heads: of the network; its MLPs are twice as wide.

    The training ends while the learning rate still falls: the weights that are shipped are the average, which has
    settled by then.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4

    @property
    def rate_steps(self) -> int:
        return RATE_STEPS

    def network(self) -> nn.Module:
        return learner.network(self.width, self.layers, self.heads)

    def batch_loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(network, LlamaForTokenClassification)
        x, y = prompts.draw(self.batch, generator)
        return F.mse_loss(learner.answers(network, x, y), y)

    @torch.no_grad()
    def measure(self, network: nn.Module) -> dict[str, Measured]:
        assert isinstance(network, LlamaForTokenClassification)
        x, y = prompts.draw(HELD_OUT, torch.Generator().manual_seed(HELD_OUT_SEED))
        error = F.mse_loss(learner.answers(network, x, y), y).item()
        least = F.mse_loss(best.kalman_filter(x, y), y.double()).item()
        nothing = y.square().mean().item()
        what = f"squared error of {HELD_OUT:,} held-out prompts of {prompts.TRIALS} trials each"
        return {
            "share explained": Measured(
                (nothing - error) / (nothing - least),
                "of what the best possible predictor explains of the outcomes' squares, on the same prompts",
                LEAST,
            ),
            "error": Measured(error, what),
            "least error": Measured(least, "that of the best possible predictor, a Kalman filter"),
        }

    def save(self, network: nn.Module, folder: Path) -> None:
        assert isinstance(network, LlamaForTokenClassification)
        with quiet_transformers():
            network.save_pretrained(folder)

    @property
    def described(self) -> str:
        return (
            "A transformer (transformers' LlamaForTokenClassification with one output) that predicts the outcome of "
            f"each trial of conditioning from the trials before it; {self.layers} layers of {self.heads} heads, width "
            f"{self.width}. It was trained in {MINUTES} of one core. Its inputs are vectors "
            "(`data/conditioning/learner.py`), so that `wb.load` does not load it"
        )

    @property
    def data(self) -> str:
        return (
            f"- Data: prompts of {prompts.TRIALS} trials (`data/conditioning/prompts.py`), drawn anew at every step, "
            "with cues that no other prompt has; blocking and conditioned inhibition are never among them.\n"
            "- Licence of the data: none is needed; they are random numbers."
        )
