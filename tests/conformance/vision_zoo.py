"""Tiny random vision transformers of transformers, one for each class that `HookedViT` takes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import transformers as t
from torch import Tensor, nn

import workbench as wb

SIDE, PATCH, CLASSES, LAYERS, HEADS, D_HEAD = 16, 4, 7, 3, 4, 8
SIZES: dict[str, Any] = {
    "hidden_size": HEADS * D_HEAD,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 48,
    "image_size": SIDE,
    "patch_size": PATCH,
    "num_channels": 3,
}
Sizes = dict[str, Any]
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "vocab_size": 50,
}
TOKENS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LABELS: dict[str, Any] = {"num_labels": CLASSES}
BIAS: dict[str, Any] = {"use_relative_position_bias": True}
OUTPUTS = ("o_proj", "out_proj")
SHARED_BIAS: dict[str, Any] = {
    "use_shared_relative_position_bias": True,
    "use_absolute_position_embeddings": True,
    "layer_scale_init_value": 0,
    "use_mean_pooling": False,
}


def dino(sizes: Sizes) -> Sizes:
    return {name: size for name, size in sizes.items() if name != "intermediate_size"} | {"mlp_ratio": 2}


def towers(sizes: Sizes) -> Sizes:
    return {"vision_config": sizes, "text_config": TEXT | TOKENS}


DINO = dino(SIZES)


#: Name → the model of such sizes, made anew, and the names of the positions that it adds.
ZOO: dict[str, tuple[Callable[[Sizes], Any], tuple[str, ...]]] = {
    "ViT classifier": (lambda s: t.ViTForImageClassification(t.ViTConfig(**s, **LABELS)), ("cls",)),
    "ViT": (lambda s: t.ViTModel(t.ViTConfig(**s)), ("cls",)),
    "ViT without a pooler": (lambda s: t.ViTModel(t.ViTConfig(**s), add_pooling_layer=False), ("cls",)),
    "DeiT classifier": (
        lambda s: t.DeiTForImageClassification(t.DeiTConfig(**s, **LABELS)),
        ("cls", "distillation"),
    ),
    "DeiT with a teacher": (
        lambda s: t.DeiTForImageClassificationWithTeacher(t.DeiTConfig(**s, **LABELS)),
        ("cls", "distillation"),
    ),
    "DINOv2": (lambda s: t.Dinov2Model(t.Dinov2Config(**dino(s))), ("cls",)),
    "DINOv2 classifier, gated": (
        lambda s: t.Dinov2ForImageClassification(t.Dinov2Config(**dino(s), **LABELS, use_swiglu_ffn=True)),
        ("cls",),
    ),
    "DINOv2 with registers": (
        lambda s: t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**dino(s), num_register_tokens=2)),
        ("cls", "register 0", "register 1"),
    ),
    "DINOv2 classifier with registers": (
        lambda s: t.Dinov2WithRegistersForImageClassification(
            t.Dinov2WithRegistersConfig(**dino(s), **LABELS, num_register_tokens=2)
        ),
        ("cls", "register 0", "register 1"),
    ),
    "DINOv3": (lambda s: t.DINOv3ViTModel(t.DINOv3ViTConfig(**s, num_register_tokens=1)), ("cls", "register 0")),
    "DINOv3, gated": (lambda s: t.DINOv3ViTModel(t.DINOv3ViTConfig(**s, use_gated_mlp=True)), ("cls",)),
    "I-JEPA": (lambda s: t.IJepaModel(t.IJepaConfig(**s)), ()),
    "I-JEPA classifier": (lambda s: t.IJepaForImageClassification(t.IJepaConfig(**s, **LABELS)), ()),
    "CLIP tower": (lambda s: t.CLIPVisionModel(t.CLIPVisionConfig(**s)), ("cls",)),
    "CLIP tower with its projection": (
        lambda s: t.CLIPVisionModelWithProjection(t.CLIPVisionConfig(**s, projection_dim=24)),
        ("cls",),
    ),
    "CLIP classifier": (lambda s: t.CLIPForImageClassification(t.CLIPConfig(**towers(s), **LABELS)), ("cls",)),
    "SigLIP tower without its head": (
        lambda s: t.SiglipVisionModel(t.SiglipVisionConfig(**s, vision_use_head=False)),
        (),
    ),
    "SigLIP classifier": (lambda s: t.SiglipForImageClassification(t.SiglipConfig(**towers(s), **LABELS)), ()),
    "BEiT classifier": (lambda s: t.BeitForImageClassification(t.BeitConfig(**s, **LABELS)), ("cls",)),
    "BEiT with a bias in each layer": (
        lambda s: t.BeitForImageClassification(t.BeitConfig(**s, **LABELS, **BIAS)),
        ("cls",),
    ),
    "BEiT with one bias": (lambda s: t.BeitModel(t.BeitConfig(**s, **SHARED_BIAS)), ("cls",)),
}


def random_sizes(name: str) -> Sizes:
    """Sizes that differ from class to class: 2, 3 or 5 heads, 2 to 4 layers, 9, 16 or 25 patches."""
    draw = random.Random(name)
    heads, d_head, patch = draw.choice([2, 3, 5]), draw.choice([4, 8, 12]), draw.choice([2, 4])
    return SIZES | {
        "hidden_size": heads * d_head,
        "num_attention_heads": heads,
        "num_hidden_layers": draw.choice([2, 3, 4]),
        "intermediate_size": draw.choice([20, 36]),
        "patch_size": patch,
        "image_size": patch * draw.choice([3, 4, 5]),
    }


def make(name: str, implementation: str = "sdpa", sizes: Sizes = SIZES) -> Any:
    """A model whose heads and positions matter: random weights of transformers' size move nothing."""
    torch.manual_seed(0)
    model = ZOO[name][0](sizes).eval()
    model.set_attn_implementation(implementation)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = parameter.data * 4 + 0.02 * noise if parameter.ndim > 1 else parameter.data + 0.2 * noise
    return model.requires_grad_(False)  # as `wb.load` has it


def pixels(n: int, seed: int, side: int = SIDE) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def outputs(model: Any, images: Tensor) -> Tensor:
    """The classes' logits or the feature, as a user of transformers has them."""
    with torch.no_grad():
        output = model(pixel_values=images)
    for name in ("logits", "image_embeds", "pooler_output"):
        if getattr(output, name, None) is not None:
            return getattr(output, name)
    stream = output.last_hidden_state
    return stream.mean(1) if "IJepa" in type(model).__name__ or "Siglip" in type(model).__name__ else stream[:, 0]


def projections(model: nn.Module) -> list[nn.Module]:
    """The output projection of each layer, found by name alone."""
    return [part for attention in attentions(model) for name, part in attention.named_children() if name in OUTPUTS]


def attentions(model: nn.Module) -> list[nn.Module]:
    """The attention of each layer, found by the name of its output projection alone."""
    vision = [(name, part) for name, part in model.named_modules() if "text" not in name and "head" not in name]
    return [part for _, part in vision if any(name in OUTPUTS for name, _ in part.named_children())]


def first_two(outputs: Tensor, example: object) -> Tensor:
    return outputs[:, 0] - outputs[:, 1]


def image_pairs(model: wb.HookedViT, n: int = 3, side: int = SIDE) -> tuple[Tensor, Tensor, wb.PairedInputs]:
    """Images, others, and both as pairs; logits answer class 0 rather than 1."""
    clean, corrupt = pixels(n, 2, side), pixels(n, 3, side)
    first, second = (tuple(model.pixels_to_inputs(images)) for images in (clean, corrupt))
    return clean, corrupt, wb.PairedInputs("images", first, second, ((0,),) * n, ((1,),) * n)
