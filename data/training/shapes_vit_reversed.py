"""A vision transformer on textured shapes with reversed attention, beside shapes-vit."""

from dataclasses import replace

from .shapes_vit import recipe as softmax

recipe = replace(softmax, name="shapes-vit-reversed", operator="reversed(temperature=1.0)", beside="shapes-vit")
