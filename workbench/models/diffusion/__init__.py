"""Diffusion transformers: the model, how it is trained and sampled, and its hooks.

`workbench.models.diffusion.dit` is the model, a plain Hugging Face one; `workbench.models.diffusion.hooked` hooks it.
"""
