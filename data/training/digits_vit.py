"""A vision transformer on 8×8 digits: 16 patches of 2×2 and the class token."""

from .kit.vit import ViTRecipe

recipe = ViTRecipe("digits-vit", "digits", steps=1200)
