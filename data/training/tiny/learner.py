"""The optimiser: Muon for the matrices of the layers, AdamW for the rest."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from .recipe import Recipe


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest orthogonal matrix: five Newton-Schulz steps with the coefficients of Muon (Jordan 2024)."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Learner:
    """Muon in float32 for the layers' matrices, AdamW for the embedding and the gains.

    torch's own Muon orthogonalises in bfloat16, which is slow on most CPUs. On these data it learns induction in a
    fraction of the steps that AdamW takes alone.
    """

    def __init__(self, model: LlamaForCausalLM, recipe: Recipe) -> None:
        self.recipe, self.model, self.step_number = recipe, model, 0
        self.matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
        self.momenta = [torch.zeros_like(p) for p in self.matrices]
        others = [p for p in model.parameters() if not any(p is m for m in self.matrices)]
        self.adam = torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.01)

    def pace(self) -> float:
        """Linear up, constant, linear down to nothing."""
        left = self.recipe.steps - self.step_number
        return min(1.0, self.step_number / self.recipe.warm_up, left / self.recipe.cool_down)

    @torch.no_grad()
    def step(self) -> None:
        """Move the weights by their gradients, which are then dropped."""
        self.step_number += 1
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.adam.param_groups:
            group["lr"] = self.recipe.learning_rate * self.pace()
        self.adam.step()
        rate = self.recipe.turning_rate * self.pace()
        for matrix, momentum in zip(self.matrices, self.momenta, strict=True):
            assert matrix.grad is not None
            momentum.mul_(self.recipe.momentum).add_(matrix.grad)
            turn = orthogonal(matrix.grad + self.recipe.momentum * momentum)
            matrix.mul_(1 - 0.05 * rate).add_(turn, alpha=-rate * max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5)
        self.model.zero_grad()
