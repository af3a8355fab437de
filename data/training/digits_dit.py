"""A diffusion transformer on 8×8 digits: 16 patches of 2×2, 24 heads."""

from .kit.dit import DiTRecipe

recipe = DiTRecipe(
    "digits-dit", "digits", steps=2000, batch=128, warm_up=100, weight_decay=0.0, average=0.999, at_least=0.95
)
