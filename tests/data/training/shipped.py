"""The shipped models as their recipes train them, the plain ones loaded by transformers alone."""

from __future__ import annotations

from torch import nn
from transformers import LlamaForTokenClassification, ViTForImageClassification

import workbench as wb
from data.training.kit.conditioning import ConditioningRecipe
from data.training.kit.dit import DiTRecipe
from data.training.kit.recipe import CHECKPOINTS, Recipe
from workbench.models.diffusion.dit import DiT


def shipped(recipe: Recipe) -> nn.Module:
    """The model of a recipe as it is shipped."""
    folder = CHECKPOINTS / recipe.name
    if isinstance(recipe, DiTRecipe):
        return DiT.from_pretrained(folder).eval()
    if isinstance(recipe, ConditioningRecipe):
        return LlamaForTokenClassification.from_pretrained(folder).eval()
    if getattr(recipe, "operator", ""):
        return wb.load(recipe.name, device="cpu").hf
    return ViTForImageClassification.from_pretrained(folder).eval()
