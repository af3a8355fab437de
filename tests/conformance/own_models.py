"""Models that the workbench does not know, hooked in this file alone: an unmodified vision transformer of transformers,
and plain torch modules that call PyTorch's attention function. All in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViTConfig, ViTForImageClassification

import workbench as wb
from tests.oracle.plain_hooks import edited

SIDE, PATCH, CHANNELS, CLASSES = 12, 4, 3, 6
LAYERS, HEADS, D_HEAD = 3, 4, 8
SIZES = wb.Sizes(LAYERS, HEADS, HEADS, D_HEAD, HEADS * D_HEAD)
KINDS = ("vit", "net", "causal net", "conditioned net")


class HookedViT(wb.HookedModel):
    """Positions: CLS, a row of zeros, then the patches, each its pixels in one row."""

    modality = "vision"
    parts = wb.Anatomy(
        layers="vit.layers",
        embed="vit.embeddings",
        final_norm="vit.layernorm",
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

    def outputs(self, inputs: Tensor) -> Tensor:
        pixels = F.fold(inputs[:, 1:].mT, SIDE, PATCH, stride=PATCH)
        return self.hf(pixel_values=pixels).logits

    def trial(self) -> Tensor:
        return pictures(2, seed=9)

    def identity_facts(self) -> dict[str, Any]:
        return {}

    def labels(self, inputs: Tensor) -> tuple[str, ...]:
        side = SIDE // PATCH
        return ("cls", *(f"{i // side},{i % side}" for i in range(side * side)))


class Attention(nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.causal, width = causal, HEADS * D_HEAD
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        z = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(z.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        width = HEADS * D_HEAD
        self.norm1, self.norm2, self.attn = nn.LayerNorm(width), nn.LayerNorm(width), Attention(causal)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Net(nn.Module):
    """A plain torch transformer: causal, read at its last position; or not, read as the mean over positions."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        width = HEADS * D_HEAD
        self.causal, self.enter, self.norm = causal, nn.Linear(PATCH**2 * CHANNELS, width), nn.LayerNorm(width)
        self.places = nn.Parameter(torch.randn(16, width))
        self.blocks = nn.ModuleList(Block(causal) for _ in range(LAYERS))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x) + self.places[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, -1] if self.causal else x.mean(1)) * 3  # a scale that no table of families knows


class ConditionedBlock(Block):
    """Scaled by a condition with one entry per input, as a diffusion transformer's blocks are."""

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x) * (1 + condition[:, None]))
        return x + self.mlp(self.norm2(x))


class ConditionedNet(Net):
    def __init__(self) -> None:
        super().__init__(causal=False)
        self.blocks = nn.ModuleList(ConditionedBlock(causal=False) for _ in range(LAYERS))

    def forward(self, x: Tensor) -> Tensor:
        condition, x = self.enter(x).mean(1), self.enter(x) + self.places[: x.shape[1]]
        for block in self.blocks:
            x = block(x, condition)
        return self.head(self.norm(x).mean(1) * condition)


class HookedNet(wb.HookedModel):
    parts = wb.Anatomy(
        layers="blocks",
        embed="enter",
        final_norm="norm",
        attention="attn",
        mlp="mlp",
        attn_out="attn",
        mlp_out="mlp",
        norm1="norm1",
        norm2="norm2",
        fused="qkv",
        output="out",
        mlp_output="2",
    )

    def identity_facts(self) -> dict[str, Any]:
        return {}

    def sizes(self) -> wb.Sizes:
        return SIZES

    def outputs(self, inputs: Tensor) -> Tensor:
        return self.hf(inputs)

    def trial(self) -> Tensor:
        return pictures(2, seed=9)


def pictures(n: int, seed: int) -> Tensor:
    shape, generator = (n, 1 + (SIDE // PATCH) ** 2, PATCH**2 * CHANNELS), torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x[:, 0] = 0
    return x


@dataclass(frozen=True)
class Case:
    """A hooked model, and the same module with the ends that plain hooks need."""

    model: wb.HookedModel
    project: Callable[[int], nn.Module]

    def outputs(self, inputs: Tensor, *edits: tuple[int, Callable[[Tensor], Tensor]]) -> Tensor:
        """The outputs with z of some layers edited, by plain hooks on the output projections."""
        with torch.no_grad(), edited(*((self.project(layer), "input", change) for layer, change in edits)):
            return type(self.model).outputs(self.model, inputs)

    def z(self, inputs: Tensor) -> list[Tensor]:
        seen: dict[int, Tensor] = {}

        def reading(layer: int) -> Callable[[Tensor], Tensor]:
            return lambda x: seen.setdefault(layer, x.clone())

        self.outputs(inputs, *((layer, reading(layer)) for layer in range(LAYERS)))
        return [seen[layer] for layer in range(LAYERS)]


def make(kind: str) -> Case:
    torch.manual_seed(0)
    if kind == "vit":
        config = ViTConfig(
            hidden_size=HEADS * D_HEAD,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=64,
            image_size=SIDE,
            patch_size=PATCH,
            num_channels=CHANNELS,
        )
        config.num_labels = CLASSES
        vit = ViTForImageClassification(config).eval().double()
        for parameter in vit.parameters():  # random weights of that size move nothing
            parameter.data.mul_(8).add_(0.01)
        return Case(HookedViT(vit), lambda layer: vit.get_submodule(f"vit.layers.{layer}.attention.o_proj"))
    net = (ConditionedNet() if kind == "conditioned net" else Net(causal=kind == "causal net")).eval().double()
    return Case(HookedNet(net), lambda layer: net.get_submodule(f"blocks.{layer}.attn.out"))


def pairs(n: int = 5) -> wb.PairedInputs:
    """Pictures that differ in one patch, another one in each."""
    clean = pictures(n, seed=1)
    corrupt, other = clean.clone(), pictures(n, seed=2)
    for i in range(n):
        corrupt[i, 2 + i] = other[i, 2 + i]
    answer, wrong = (tuple((((i + shift) % CLASSES),) for i in range(n)) for shift in (0, 2))
    last = {"cls": 0, "end": clean.shape[1] - 1}
    return wb.PairedInputs("pictures", tuple(clean), tuple(corrupt), answer, wrong, positions=(last,) * n)


def differences(outputs: Tensor, inputs: wb.PairedInputs) -> np.ndarray:
    rows = zip(outputs.double(), inputs.answer, inputs.wrong, strict=True)
    return np.array([float(row[answer[0]] - row[wrong[0]]) for row, answer, wrong in rows])


def stacked(rows: Any) -> Tensor:
    return torch.stack(list(rows))
