"""The same as conditioning-0 from another seed."""

from dataclasses import replace

from .conditioning_0 import recipe as first

recipe = replace(first, name="conditioning-2", seed=2)
