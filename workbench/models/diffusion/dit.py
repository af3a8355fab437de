"""`DiT`: a class-conditional diffusion transformer with adaLN-zero, as a Hugging Face model.

Peebles and Xie, "Scalable Diffusion Models with Transformers" (2023). Attention goes through transformers'
``AttentionInterface``, so that hooks and operators reach it as they reach any other model's. What joins the residual
stream leaves a module of its own (`Gate`), so that branch outputs have a place to be read. Weights of diffusers'
``DiTTransformer2DModel`` map onto it and back (`workbench.models.diffusion.diffusers_weights`).

A patch is one row of its pixels, ``[channel, row, column]`` flattened; patches come in the order of frames, rows and
columns.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Float, Int, Num
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, initialization
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from workbench.errors import UsageError
from workbench.models.diffusion.dit_config import DiTConfig

#: Frequencies of the time's sinusoid, and what their exponents are divided by (one less, as in diffusers).
FREQUENCIES = 128


def eager_attention_forward(
    module: nn.Module,
    query: Float[Tensor, "batch head pos d_head"],
    key: Float[Tensor, "batch head pos d_head"],
    value: Float[Tensor, "batch head pos d_head"],
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Float[Tensor, "batch pos head d_head"], Float[Tensor, "batch head pos pos"]]:
    """Attention with its pattern; the implementation ``"eager"``."""
    scores = query @ key.mT * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    pattern = F.dropout(scores.softmax(-1, dtype=torch.float32).to(query.dtype), dropout, module.training)
    return (pattern @ value).transpose(1, 2).contiguous(), pattern


class DiTAttention(nn.Module):
    """Attention in both directions."""

    is_causal = False

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config, width = config, config.hidden_size
        self.head_dim = width // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width, bias=config.qkv_bias) for _ in range(3))
        self.o_proj = nn.Linear(width, width)

    def forward(self, hidden_states: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        q, k, v = (
            projection(hidden_states).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation or "eager", eager_attention_forward
        )
        z, _ = attend(self, q, k, v, None, scaling=self.scaling, dropout=0.0)
        return self.o_proj(z.flatten(2))


class Gate(nn.Module):
    """What a branch adds to the residual stream: its output times a gate."""

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], gate: Float[Tensor, "batch d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        return gate[:, None] * x


class DiTBlock(nn.Module):
    """``x += gate₁ · attn(norm(x)(1 + scale₁) + shift₁)``, then the same with the MLP; shifts, scales and gates are
    linear in SiLU(condition)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.hidden_size * config.mlp_ratio
        self.modulation = nn.Linear(width, 6 * width)
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn, self.gate1 = DiTAttention(config), Gate()
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=config.norm2_eps)
        self.mlp, self.gate2 = nn.Sequential(nn.Linear(width, inner), nn.GELU("tanh"), nn.Linear(inner, width)), Gate()

    def forward(
        self, hidden_states: Float[Tensor, "batch pos d_model"], condition: Float[Tensor, "batch d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(condition)).chunk(6, -1)
        x = hidden_states + self.gate1(self.attn(_modulated(self.norm1(hidden_states), shift1, scale1)), gate1)
        return x + self.gate2(self.mlp(_modulated(self.norm2(x), shift2, scale2)), gate2)


class PositionEmbedding(nn.Module):
    """Sines and cosines of the column (the first half of the channels) and of the row; of a video, those of the frame
    (all channels) are added."""

    table: Tensor

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.width, self.grid = config.hidden_size, config.grid
        self.register_buffer("table", self.computed(), persistent=False)

    def computed(self) -> Float[Tensor, "one pos d_model"]:
        """The table, in float32; it is in no checkpoint."""
        *frames, rows, columns = self.grid
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        table = torch.cat([_sinusoid(x.flatten(), self.width // 2) for x in (column, row)], -1)
        for n_frames in frames:
            table = (_sinusoid(torch.arange(n_frames), self.width)[:, None] + table).flatten(0, 1)
        return table[None].float()

    def forward(self) -> Float[Tensor, "one pos d_model"]:
        return self.table


class DiT(PreTrainedModel):
    """A diffusion transformer: predicts velocity or noise of noisy images.

    Examples:
        >>> from workbench.models.diffusion.dit import DiT, DiTConfig
        >>> dit = DiT(DiTConfig(num_labels=10)).eval()
        >>> images, time, labels = torch.randn(3, 1, 8, 8), torch.full((3,), 1000.0), torch.tensor([3, 5, 10])
        >>> dit(images, time, labels).shape  # label 10 is none
        torch.Size([3, 1, 8, 8])
    """

    config_class = DiTConfig
    config: DiTConfig
    base_model_prefix, main_input_name = "", "hidden_states"
    _supports_sdpa = _supports_attention_backend = True
    _no_split_modules: ClassVar[list[str]] = ["DiTBlock"]

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(config)
        config.check_sizes()
        width, area = config.hidden_size, config.patch_size**2
        self.patch_embed, self.position_embed = nn.Linear(area * config.num_channels, width), PositionEmbedding(config)
        self.time_embed = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.label_embed = nn.Embedding(config.n_classes + 1, width)
        self.blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        self.to_patch = nn.Linear(width, area * (config.out_channels or config.num_channels))
        self.post_init()

    def forward(
        self,
        hidden_states: Float[Tensor, "batch channel *size"],
        timestep: Num[Tensor, "batch"],
        class_labels: Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch out_channel *size"]:
        """The prediction for noisy images.

        Args:
            hidden_states: images as `DiTConfig.image_shape` says.
            timestep: from 0 (the image) to 1000 (noise alone).
            class_labels: a class, or the number of classes for none. No label is dropped, in training mode either.
        """
        return self.unpatchify(self.predict(self.patchify(hidden_states), timestep, class_labels))

    def predict(
        self,
        patches: Float[Tensor, "batch pos n"],
        timestep: Num[Tensor, "batch"],
        class_labels: Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch pos m"]:
        """The same in patches."""
        x, condition = self.embed(patches), self.condition(timestep, class_labels)
        for block in self.blocks:
            x = block(x, condition)
        return self.prediction(x, condition)

    def embed(self, patches: Float[Tensor, "batch pos n"]) -> Float[Tensor, "batch pos d_model"]:
        """What enters the first layer."""
        return self.patch_embed(patches) + self.position_embed()

    def condition(
        self, timestep: Num[Tensor, "batch"], class_labels: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch d_model"]:
        """What every layer is modulated by."""
        # In this order of operations: at time 999 a last bit of a frequency is 6e-5 of an angle.
        exponent = -math.log(10000) * torch.arange(FREQUENCIES, dtype=torch.float32, device=timestep.device)
        angle = timestep[:, None].float() * torch.exp(exponent / (FREQUENCIES - 1))[None]
        return self.time_embed(torch.cat([angle.cos(), angle.sin()], -1).to(self.dtype)) + self.label_embed(
            class_labels
        )

    def through(
        self, layer: int, x: Float[Tensor, "batch pos d_model"], condition: Float[Tensor, "batch d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        """A layer."""
        return self.blocks[layer](x, condition)

    def prediction(
        self, hidden_states: Float[Tensor, "batch pos d_model"], condition: Float[Tensor, "batch d_model"]
    ) -> Float[Tensor, "batch pos m"]:
        """The prediction, in patches, for a residual stream that leaves the last layer."""
        shift, scale = self.modulation(F.silu(condition)).chunk(2, -1)
        return self.to_patch(_modulated(self.norm(hidden_states), shift, scale))

    def patchify(self, images: Float[Tensor, "batch channel *size"]) -> Float[Tensor, "batch pos n"]:
        """Images as patches."""
        if images.shape[1:] != self.config.image_shape:
            raise UsageError(
                f"images={list(images.shape[1:])}: expected {list(self.config.image_shape)}, the model's image_shape."
            )
        size = self.config.patch_size
        return rearrange(
            images.reshape(*images.shape[:2], -1, *images.shape[-2:]),
            "batch channel frame (row y) (column x) -> batch (frame row column) (channel y x)",
            y=size,
            x=size,
        )

    def unpatchify(self, patches: Float[Tensor, "batch pos n"]) -> Float[Tensor, "batch channel *size"]:
        """The inverse of `patchify`, of any number of channels."""
        *_, rows, columns = self.config.grid
        size = self.config.patch_size
        images = rearrange(
            patches,
            "batch (frame row column) (channel y x) -> batch channel frame (row y) (column x)",
            row=rows,
            column=columns,
            y=size,
            x=size,
        )
        return images.squeeze(2) if self.config.num_frames == 1 else images

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Modulations and the prediction begin at 0, so that every block begins as the identity (adaLN-zero)."""
        std = self.config.initializer_range
        if isinstance(module, PositionEmbedding):
            initialization.copy_(module.table, module.computed())
        elif isinstance(module, nn.Embedding):
            initialization.normal_(module.weight, std=std)
        elif isinstance(module, nn.Linear):
            if any(module is zero for zero in (self.modulation, self.to_patch, *(b.modulation for b in self.blocks))):
                initialization.zeros_(module.weight)
            elif any(module is layer for layer in self.time_embed):
                initialization.normal_(module.weight, std=std)
            else:
                initialization.xavier_uniform_(module.weight)
            if module.bias is not None:
                initialization.zeros_(module.bias)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale[:, None]) + shift[:, None]


def _sinusoid(positions: Int[Tensor, "pos"], width: int) -> Float[Tensor, "pos width"]:
    """Sines, then cosines, of ``position · 10000^(−2i / width)``."""
    angle = positions[:, None].double() / 10000 ** (torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    return torch.cat([angle.sin(), angle.cos()], -1)
