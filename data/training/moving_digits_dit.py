"""A diffusion transformer on videos of moving digits: 8 frames of 3×3 patches of 4×4."""

from .kit.dit import DiTRecipe

recipe = DiTRecipe(
    "moving-digits-dit",
    "moving-digits",
    steps=1500,
    batch=32,
    warm_up=100,
    weight_decay=0.0,
    average=0.999,
    patch=4,
    layers=4,
)
