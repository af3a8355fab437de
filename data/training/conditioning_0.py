"""A transformer that learns conditioning in context, from prompts that never play blocking; the first of three."""

from .kit.conditioning import ConditioningRecipe

recipe = ConditioningRecipe(
    "conditioning-0", steps=3000, batch=64, learning_rate=4e-3, warm_up=100, weight_decay=0.0, average=0.999
)
