"""The shipped models as their recipes train them: loaded from their files, the plain ones by transformers alone."""

from __future__ import annotations

import json

import torch
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

import workbench as wb
from data.training.kit.dit import DiTRecipe
from data.training.kit.recipe import CHECKPOINTS, Recipe
from data.training.kit.vit import ViTRecipe
from workbench.models.diffusion.dit import DiT
from workbench.models.saved_operators import with_saved_operators
from workbench.models.sources import directory, weights


def shipped(recipe: Recipe) -> nn.Module:
    """The model of a recipe as it is shipped."""
    folder = CHECKPOINTS / recipe.name
    if isinstance(recipe, DiTRecipe):
        return DiT.from_pretrained(folder).eval()
    assert isinstance(recipe, ViTRecipe)
    if not recipe.operator:
        return ViTForImageClassification.from_pretrained(folder).eval()
    config = ViTConfig.from_dict(json.loads((folder / "config.json").read_bytes()))
    state, _ = weights.read([folder / "model.safetensors"])
    own = directory.take_operator_tensors(state)
    hf = directory.build_model(ViTForImageClassification, config, state, torch.float32, folder)
    return with_saved_operators(wb.HookedViT(hf), own, None).hf
