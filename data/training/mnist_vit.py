"""A vision transformer on MNIST: 49 patches of 4×4 and the class token."""

from .kit.vit import ViTRecipe

recipe = ViTRecipe("mnist-vit", "mnist", steps=1200, patch=4, shift=2)
