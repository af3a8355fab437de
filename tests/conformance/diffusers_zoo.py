"""Tiny random transformers of diffusers, one for each class that `HookedDiffusers` takes, and where they attend."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from tests.oracle.plain_diffusers import ADDED, OWN, PlainAttention
from tests.small_diffusers import dit, flux, pixart, sd3, sd35

PATCHES = 16


@dataclass(frozen=True)
class Attends:
    """The attentions of one name in a model's layers.

    Attributes:
        site: the name in sites, of the layers that come first ``attn``, of Flux's others ``single_blocks.attn``.
        layers: diffusers' list of layers. module: the attention in a layer.
        parts: ``"image"`` and ``"text"`` in the order of their positions; both, where they attend to one another.
        outputs: the modules of a layer that z enters, in that order.
        src: what is attended to, where it is something else.
        projected_at_once: whether image and text have one projection.
    """

    site: str
    layers: str
    module: str
    parts: tuple[str, ...]
    outputs: tuple[str, ...]
    src: tuple[str, ...] = ()
    projected_at_once: bool = False

    def in_layers(self, model: Any, mask: Tensor | None) -> list[tuple[int, PlainAttention]]:
        """Plain hooks in each layer that has it. ``mask``: of the text."""
        projections = [OWN] if self.projected_at_once else [OWN if part == "image" else ADDED for part in self.parts]
        return [
            (
                i,
                PlainAttention(
                    getattr(layer, self.module),
                    projections,
                    [part for name in self.outputs for own, part in layer.named_modules() if own == name],
                    mask if self.src == ("text",) else None,
                ),
            )
            for i, layer in enumerate(model.get_submodule(self.layers))
            if getattr(layer, self.module, None) is not None
        ]


IMAGE, TEXT, IMAGE_TEXT, TEXT_IMAGE = ("image",), ("text",), ("image", "text"), ("text", "image")
BLOCKS = "transformer_blocks"
SELF = Attends("attn", BLOCKS, "attn1", IMAGE, ("attn1.to_out.0",))
CROSS = Attends("cross_attn", BLOCKS, "attn2", IMAGE, ("attn2.to_out.0",), src=TEXT)
DUAL = Attends("attn2", BLOCKS, "attn2", IMAGE, ("attn2.to_out.0",))
JOINT = Attends("attn", BLOCKS, "attn", IMAGE_TEXT, ("attn.to_out.0", "attn.to_add_out"))
TEXT_FIRST = Attends("attn", BLOCKS, "attn", TEXT_IMAGE, ("attn.to_add_out", "attn.to_out.0"))
SINGLE = Attends("single_blocks.attn", f"single_{BLOCKS}", "attn", TEXT_IMAGE, ("proj_out",), projected_at_once=True)

#: Class → the model of such sizes, made anew, and where it attends.
ZOO: dict[str, tuple[Callable[..., Any], tuple[Attends, ...]]] = {
    "DiTTransformer2DModel": (dit, (SELF,)),
    "PixArtTransformer2DModel": (pixart, (SELF, CROSS)),
    "SD3Transformer2DModel": (sd3, (JOINT,)),
    "SD3Transformer2DModel, dual attention": (sd35, (JOINT, DUAL)),
    "FluxTransformer2DModel": (flux, (TEXT_FIRST, SINGLE)),
}


def make(name: str) -> tuple[Any, int]:
    """A model of sizes that differ from class to class, and a number of words: 2, 3 or 5 heads, 2 to 4 layers."""
    draw = random.Random(name)
    sizes = {"heads": draw.choice([2, 3, 5]), "width": draw.choice([8, 12, 16])}
    return ZOO[name][0](draw.choice([2, 3, 4]), **sizes), draw.choice([4, 5, 7])


def made_eager(model: Any) -> bool:
    """Whether diffusers has another attention for this model than PyTorch's fused one, which it now uses."""
    attentions = [part for part in model.modules() if hasattr(part, "processor")]
    kinds = {type(part.processor).__name__ for part in attentions}
    if kinds == {"AttnProcessor2_0"}:
        for part in attentions:
            part.set_processor(AttnProcessor())
    elif kinds == {"FluxAttnProcessor"}:
        model.set_attention_backend("_native_math")
    else:
        return False
    return True
