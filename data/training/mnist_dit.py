"""A diffusion transformer on MNIST: 49 patches of 4×4, 16 heads."""

from .kit.dit import DiTRecipe

recipe = DiTRecipe(
    "mnist-dit",
    "mnist",
    steps=6000,
    batch=64,
    warm_up=100,
    weight_decay=0.0,
    average=0.999,
    patch=4,
    layers=4,
    at_least=0.90,
)
