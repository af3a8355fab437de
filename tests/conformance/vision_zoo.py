"""Tiny random vision transformers of transformers, one for each class that `HookedViT` takes."""

from __future__ import annotations

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
DINO: dict[str, Any] = {name: size for name, size in SIZES.items() if name != "intermediate_size"} | {"mlp_ratio": 2}
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "vocab_size": 50,
}
TOKENS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
TOWERS: dict[str, Any] = {"vision_config": SIZES, "text_config": TEXT | TOKENS}
LABELS: dict[str, Any] = {"num_labels": CLASSES}
BIAS: dict[str, Any] = {"use_relative_position_bias": True}
SHARED_BIAS: dict[str, Any] = {
    "use_shared_relative_position_bias": True,
    "use_absolute_position_embeddings": True,
    "layer_scale_init_value": 0,
    "use_mean_pooling": False,
}

#: Name → the model, made anew, and the names of the positions that it adds.
ZOO: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "ViT classifier": (lambda: t.ViTForImageClassification(t.ViTConfig(**SIZES, **LABELS)), ("cls",)),
    "ViT": (lambda: t.ViTModel(t.ViTConfig(**SIZES)), ("cls",)),
    "ViT without a pooler": (lambda: t.ViTModel(t.ViTConfig(**SIZES), add_pooling_layer=False), ("cls",)),
    "DeiT classifier": (
        lambda: t.DeiTForImageClassification(t.DeiTConfig(**SIZES, **LABELS)),
        ("cls", "distillation"),
    ),
    "DeiT with a teacher": (
        lambda: t.DeiTForImageClassificationWithTeacher(t.DeiTConfig(**SIZES, **LABELS)),
        ("cls", "distillation"),
    ),
    "DINOv2": (lambda: t.Dinov2Model(t.Dinov2Config(**DINO)), ("cls",)),
    "DINOv2 classifier, gated": (
        lambda: t.Dinov2ForImageClassification(t.Dinov2Config(**DINO, **LABELS, use_swiglu_ffn=True)),
        ("cls",),
    ),
    "DINOv2 with registers": (
        lambda: t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**DINO, num_register_tokens=2)),
        ("cls", "register 0", "register 1"),
    ),
    "DINOv2 classifier with registers": (
        lambda: t.Dinov2WithRegistersForImageClassification(
            t.Dinov2WithRegistersConfig(**DINO, **LABELS, num_register_tokens=2)
        ),
        ("cls", "register 0", "register 1"),
    ),
    "DINOv3": (lambda: t.DINOv3ViTModel(t.DINOv3ViTConfig(**SIZES, num_register_tokens=1)), ("cls", "register 0")),
    "DINOv3, gated": (lambda: t.DINOv3ViTModel(t.DINOv3ViTConfig(**SIZES, use_gated_mlp=True)), ("cls",)),
    "I-JEPA": (lambda: t.IJepaModel(t.IJepaConfig(**SIZES)), ()),
    "I-JEPA classifier": (lambda: t.IJepaForImageClassification(t.IJepaConfig(**SIZES, **LABELS)), ()),
    "CLIP tower": (lambda: t.CLIPVisionModel(t.CLIPVisionConfig(**SIZES)), ("cls",)),
    "CLIP tower with its projection": (
        lambda: t.CLIPVisionModelWithProjection(t.CLIPVisionConfig(**SIZES, projection_dim=24)),
        ("cls",),
    ),
    "CLIP classifier": (lambda: t.CLIPForImageClassification(t.CLIPConfig(**TOWERS, **LABELS)), ("cls",)),
    "SigLIP tower without its head": (
        lambda: t.SiglipVisionModel(t.SiglipVisionConfig(**SIZES, vision_use_head=False)),
        (),
    ),
    "SigLIP classifier": (lambda: t.SiglipForImageClassification(t.SiglipConfig(**TOWERS, **LABELS)), ()),
    "BEiT classifier": (lambda: t.BeitForImageClassification(t.BeitConfig(**SIZES, **LABELS)), ("cls",)),
    "BEiT with a bias in each layer": (
        lambda: t.BeitForImageClassification(t.BeitConfig(**SIZES, **LABELS, **BIAS)),
        ("cls",),
    ),
    "BEiT with one bias": (lambda: t.BeitModel(t.BeitConfig(**SIZES, **SHARED_BIAS)), ("cls",)),
}


def make(name: str, implementation: str = "sdpa") -> Any:
    """A model whose heads and positions matter: random weights of transformers' size move nothing."""
    torch.manual_seed(0)
    model = ZOO[name][0]().eval()
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
    vision = [(name, part) for name, part in model.named_modules() if "text" not in name and "head" not in name]
    return [part for name, part in vision if name.endswith(("o_proj", "out_proj"))]


def first_two(outputs: Tensor, example: object) -> Tensor:
    return outputs[:, 0] - outputs[:, 1]


def image_pairs(model: wb.HookedViT, n: int = 3, side: int = SIDE) -> tuple[Tensor, Tensor, wb.PairedInputs]:
    """Images, others, and both as pairs; logits answer class 0 rather than 1."""
    clean, corrupt = pixels(n, 2, side), pixels(n, 3, side)
    first, second = (tuple(model.pixels_to_inputs(images)) for images in (clean, corrupt))
    return clean, corrupt, wb.PairedInputs("images", first, second, ((0,),) * n, ((1,),) * n)
