"""A small random vision transformer with an image processor, and pictures for it."""

from __future__ import annotations

import numpy as np
import torch
from transformers import ViTConfig, ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

import workbench as wb

SIDE, PATCH = 16, 4
NAMES = ("zebra", "lion", "owl", "crab", "newt")
CLASSES = len(NAMES)


def small_vit(channels: int = 3, attention: str = "sdpa") -> wb.HookedViT:
    """Random, large weights, so that edits move something."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=SIDE,
        patch_size=PATCH,
        num_channels=channels,
        id2label=dict(enumerate(NAMES)),
        label2id={name: i for i, name in enumerate(NAMES)},
    )
    config._attn_implementation = attention
    hf = ViTForImageClassification(config).eval()
    for parameter in hf.parameters():
        parameter.data.mul_(5).add_(0.01)
    mean = [0.5] * channels
    processor = ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_mean=mean, image_std=mean)
    return wb.HookedViT(hf, processor)


def pictures(n: int = 6, rows: int = 24, columns: int = 20, channels: int = 3, seed: int = 0) -> list[np.ndarray]:
    """Blotches of colour."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 6, 5, channels), dtype=np.uint8)
    return list(coarse.repeat(-(-rows // 6), 1).repeat(-(-columns // 5), 2)[:, :rows, :columns])
