"""Which of diffusers' transformers are hooked in place: where they have their layers, and what their attention attends
to. Nothing of diffusers is imported: its classes are known by their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from workbench import arguments
from workbench.errors import UnsupportedModel

Parts = tuple[str, ...]
IMAGE: Parts = ("image",)
TEXT: Parts = ("text",)
IMAGE_TEXT: Parts = ("image", "text")
TEXT_IMAGE: Parts = ("text", "image")


@dataclass(frozen=True)
class Attends:
    """An attention module of a layer.

    Attributes:
        module: its name in diffusers' layer.
        dest, src: the parts of its queries' and of its keys' positions, in their order.
    """

    module: str
    dest: Parts
    src: Parts


@dataclass(frozen=True)
class Stack:
    """A list of layers.

    Attributes:
        layers: its name in diffusers' model.
        attentions: name in hook names → attention module; one that a layer does not have has no hook points there.
        joint: whether its layers carry, and return, the text as well: ``(text, image)``.
        rotary: whether q and k are rotated between projection and attention.
    """

    layers: str
    attentions: dict[str, Attends]
    joint: bool = False
    rotary: bool = False


_BASIC = {
    "blocks": Stack(
        "transformer_blocks",
        {"attn": Attends("attn1", IMAGE, IMAGE), "cross_attn": Attends("attn2", IMAGE, TEXT)},
    )
}
_SD3 = {"attn": Attends("attn", IMAGE_TEXT, IMAGE_TEXT), "attn2": Attends("attn2", IMAGE, IMAGE)}
_FLUX = {"attn": Attends("attn", TEXT_IMAGE, TEXT_IMAGE)}

#: Class of diffusers → name in hook names → layers.
FAMILIES: dict[str, dict[str, Stack]] = {
    "DiTTransformer2DModel": _BASIC,
    "PixArtTransformer2DModel": _BASIC,
    "SD3Transformer2DModel": {"blocks": Stack("transformer_blocks", _SD3, joint=True)},
    "FluxTransformer2DModel": {
        "blocks": Stack("transformer_blocks", _FLUX, joint=True, rotary=True),
        "single_blocks": Stack("single_transformer_blocks", _FLUX, joint=True, rotary=True),
    },
}


def transformer_of(model: Any) -> tuple[Any, dict[str, Stack]]:
    """The transformer of a pipeline of diffusers, or the transformer itself, and where it has its layers.

    Raises:
        UsageError: neither of them.
        UnsupportedModel: a U-Net, a class that is not in the table, or a compiled model.
    """
    part = model
    if not isinstance(model, nn.Module):
        part = getattr(model, "transformer", None) or getattr(model, "unet", None)
    if not isinstance(part, nn.Module):
        raise arguments.refusal("model", model, "a pipeline of diffusers, or its transformer")
    names = [kind.__name__ for kind in type(part).__mro__]
    if any(name.startswith("UNet") for name in names):
        raise UnsupportedModel(f"{names[0]} is a U-Net: expected a transformer, {', '.join(FAMILIES)}.")
    if hasattr(part, "_orig_mod") or any(m._compiled_call_impl is not None for m in part.modules()):
        raise UnsupportedModel(f"{names[0]} is compiled, and hooks would not be called. Hook it before torch.compile.")
    family = next((FAMILIES[name] for name in names if name in FAMILIES), None)
    if family is None:
        raise UnsupportedModel(f"{names[0]} is not among the models that are hooked in place: {', '.join(FAMILIES)}.")
    return part, family
