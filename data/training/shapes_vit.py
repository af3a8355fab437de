"""A vision transformer on textured shapes: 64 patches of 4×4 and the class token."""

from .kit.vit import ViTRecipe

recipe = ViTRecipe("shapes-vit", "shapes", steps=1300, patch=4, shift=0)
