"""A vision transformer on MNIST with reversed attention, beside mnist-vit."""

from dataclasses import replace

from .mnist_vit import recipe as softmax

recipe = replace(softmax, name="mnist-vit-reversed", operator="reversed(temperature=1.0)", beside="mnist-vit")
