"""Families of vision transformers: where transformers' own models have their parts, and which tokens they add."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from workbench.errors import UnsupportedModel
from workbench.models.anatomy import Anatomy, find


@dataclass(frozen=True)
class VisionFamily:
    """One family.

    Attributes:
        parts: where the parts are, ``layers``, ``embed`` and ``final_norm`` inside the encoder. ``embed`` is what
            enters the residual stream; a norm that reads one pooled vector is no norm of that stream, and not named.
        encoder: the name of the encoder inside a model with a head.
        added: tokens that the model puts before the patches; registers are counted in the configuration.
        any_size: whether images of other sizes than the configured one are taken as they are.
        adapted: the parts of one model, where its configuration changes them.
    """

    parts: Anatomy
    encoder: str
    added: tuple[str, ...] = ("cls",)
    any_size: bool = False
    adapted: Callable[[Anatomy, Any], Anatomy] = lambda parts, config: parts


_VIT = Anatomy(
    layers="layers",
    embed="embeddings",
    final_norm="layernorm",
    attention="attention",
    mlp="mlp",
    attn_out="attention",
    mlp_out="mlp",
    norm1="layernorm_before",
    norm2="layernorm_after",
    query="q_proj",
    key="k_proj",
    value="v_proj",
    output="o_proj",
    mlp_output="fc2",
)
_DINOV2 = replace(
    _VIT, layers="encoder.layer", norm1="norm1", norm2="norm2", attn_out="layer_scale1", mlp_out="layer_scale2"
)
_DINOV3 = replace(_DINOV2, layers="model.layer", final_norm="norm", mlp_output="down_proj", rotary=True)
_CLIP = replace(
    _VIT,
    layers="encoder.layers",
    embed="pre_layrnorm",
    final_norm="",  # it reads the class token alone
    attention="self_attn",
    attn_out="self_attn",
    norm1="layer_norm1",
    norm2="layer_norm2",
    output="out_proj",
)
_SIGLIP = replace(_CLIP, embed="embeddings", final_norm="post_layernorm")


def _gated_mlp(parts: Anatomy, config: Any) -> Anatomy:
    return replace(parts, mlp_output="down_proj") if getattr(config, "use_swiglu_ffn", False) else parts


def _beit(parts: Anatomy, config: Any) -> Anatomy:
    if config.use_mean_pooling:
        parts = replace(parts, final_norm="")  # it reads the mean of the patches
    if config.layer_scale_init_value > 0:  # a factor outside any module: what joins the stream cannot be read
        parts = replace(parts, attn_out="", mlp_out="")
    return parts


#: `config.model_type` → family.
FAMILIES: dict[str, VisionFamily] = {
    "vit": VisionFamily(_VIT, "vit"),
    "deit": VisionFamily(_VIT, "deit", ("cls", "distillation")),
    "ijepa": VisionFamily(_VIT, "ijepa", ()),
    "dinov2": VisionFamily(_DINOV2, "dinov2", any_size=True, adapted=_gated_mlp),
    "dinov2_with_registers": VisionFamily(_DINOV2, "dinov2_with_registers", any_size=True, adapted=_gated_mlp),
    "dinov3_vit": VisionFamily(_DINOV3, "", any_size=True),
    "clip": VisionFamily(_CLIP, "vision_model"),
    "clip_vision_model": VisionFamily(_CLIP, "vision_model"),
    "siglip": VisionFamily(_SIGLIP, "vision_model", ()),
    "siglip_vision_model": VisionFamily(_SIGLIP, "vision_model", ()),
    "beit": VisionFamily(_VIT, "beit", any_size=True, adapted=_beit),
}
#: `config.model_type` → why its heads are out of reach.
OUT_OF_REACH: dict[str, str] = {
    name: "it attends within windows, which it folds into the batch, and its heads differ from stage to stage"
    for name in ("swin", "swinv2", "maskformer-swin", "donut-swin")
}
#: Ends of the names of transformers' classes: classifiers, whose logits are read, and encoders, which give a feature.
CLASSIFIERS = ("ForImageClassification", "ForImageClassificationWithTeacher")
ENCODERS = ("Model", "VisionModel", "VisionModelWithProjection")
#: Models of images and texts, and the base of every class.
NEITHER = ("CLIPModel", "SiglipModel", "PreTrainedModel")


def family_of(hf: Any) -> VisionFamily:
    """The family of a Hugging Face model.

    Raises:
        UnsupportedModel: none that is known, or a model that gives neither logits of classes nor one feature.
    """
    kind, name = getattr(hf.config, "model_type", None), type(hf).__name__
    if kind in OUT_OF_REACH:
        raise UnsupportedModel(f"{name} (model_type {kind!r}) is out of reach: {OUT_OF_REACH[kind]}.")
    if kind not in FAMILIES:
        raise UnsupportedModel(
            f"{name} (model_type {kind!r}) is of no family that HookedViT knows ({', '.join(FAMILIES)}). Hook it with "
            "a class of your own (docs/howto/any-model.md)."
        )
    family = FAMILIES[kind]
    if not _is_one_of(hf, (*CLASSIFIERS, *ENCODERS)):
        inner = encoder_name(hf, family)
        do = f" Hook its encoder: wb.HookedViT(hf.{inner})." if inner else ""
        raise UnsupportedModel(f"{name} is neither a classifier of images nor an encoder that gives one feature.{do}")
    return family


def is_classifier(hf: Any) -> bool:
    """Whether a model gives logits of classes."""
    return _is_one_of(hf, CLASSIFIERS) and getattr(hf.config, "num_labels", 1) > 0


def _is_one_of(hf: Any, ends: tuple[str, ...]) -> bool:
    """Whether its class, or one that it extends, has such a name."""
    names = [base.__name__ for base in type(hf).__mro__]
    return any(name.endswith(ends) and not name.endswith(NEITHER) for name in names)


def encoder_name(hf: nn.Module, family: VisionFamily) -> str:
    """Where the encoder is; empty where it is the model itself."""
    return family.encoder if family.encoder and find(hf, family.encoder) is not None else ""


def parts_of(hf: Any, family: VisionFamily, config: Any) -> Anatomy:
    """Where one model has its parts."""
    parts, inner = family.adapted(family.parts, config), encoder_name(hf, family)
    places = {name: getattr(parts, name) for name in ("layers", "embed", "final_norm")}
    return replace(parts, **{name: f"{inner}.{place}" if inner and place else place for name, place in places.items()})


def added_tokens(family: VisionFamily, config: Any) -> tuple[str, ...]:
    """The names of the positions before the patches."""
    registers = int(getattr(config, "num_register_tokens", None) or 0)
    return (*family.added, *(f"register {i}" for i in range(registers)))
