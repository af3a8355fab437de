"""Weights of diffusers' ``DiTTransformer2DModel`` as a `workbench.models.diffusion.dit.DiT`, and back.

Nothing of diffusers is imported but by `to_diffusers`. Its blocks hold copies of the embedders of time and label, which
have to be equal; its output patches are ``[row, column, channel]`` where ours are ``[channel, row, column]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from workbench import arguments
from workbench.errors import UnsupportedModel
from workbench.models.diffusion.diffusers_dit import sizes_of
from workbench.models.diffusion.dit import DiT
from workbench.models.diffusion.dit_config import DiTConfig

_EMBEDDER = "transformer_blocks.{}.norm1.emb."
#: Ours → diffusers', each with a weight and a bias.
_NAMES = {"patch_embed": "pos_embed.proj", "modulation": "proj_out_1", "to_patch": "proj_out_2"}
_OF_EMBEDDER = {"time_embed.0": "timestep_embedder.linear_1", "time_embed.2": "timestep_embedder.linear_2"}
_LABELS = "class_embedder.embedding_table.weight"
_OF_BLOCK = {
    "modulation": "norm1.linear",
    "attn.q_proj": "attn1.to_q",
    "attn.k_proj": "attn1.to_k",
    "attn.v_proj": "attn1.to_v",
    "attn.o_proj": "attn1.to_out.0",
    "mlp.0": "ff.net.0.proj",
    "mlp.2": "ff.net.2",
}
#: Settings of diffusers' model that ours has in one form.
_REQUIRED = {"norm_type": "ada_norm_zero", "activation_fn": "gelu-approximate", "norm_elementwise_affine": False}


def from_diffusers(
    model: nn.Module, prediction: Literal["noise", "velocity"] = "noise", id2label: Mapping[int, str] | None = None
) -> DiT:
    """The same model as a `DiT`, in evaluation mode; weights are copied.

    Args:
        model: diffusers' ``DiTTransformer2DModel``.
        prediction: what it was trained to predict, ``"noise"`` or ``"velocity"``; its configuration does not say.
        id2label: the classes' names.

    Raises:
        UsageError: another kind of model.
        UnsupportedModel: a setting that ours does not have, or copies of the embedders that differ.
    """
    kind = type(model).__name__
    if kind != "DiTTransformer2DModel":
        raise arguments.refusal("model", model, "diffusers' DiTTransformer2DModel")
    arguments.one_of("prediction", prediction, ("noise", "velocity"))
    settings: Any = model.config
    for name, value in _REQUIRED.items():
        if getattr(settings, name) != value:
            raise UnsupportedModel(f"{kind} has {name}={getattr(settings, name)!r}: expected {value!r}.")
    n_classes = settings.num_embeds_ada_norm
    names = {i: f"LABEL_{i}" for i in range(n_classes)} if id2label is None else dict(id2label)
    if len(names) != n_classes:
        raise arguments.refusal("id2label", names, f"a name for each of {n_classes} classes")
    config = DiTConfig(
        **sizes_of(settings),
        qkv_bias=settings.attention_bias,
        norm2_eps=settings.norm_eps,
        prediction=prediction,
        id2label=names,
    )
    state = dict(model.state_dict())
    _require_equal_copies(kind, state, settings.num_layers)
    dtype = next(model.parameters()).dtype
    converted = DiT(config)
    nn.Module.to(converted, next(model.parameters()).device, dtype)
    renamed = {name: state.pop(other) for name, other in _names(config).items() if other in state}
    renamed["patch_embed.weight"] = renamed["patch_embed.weight"].flatten(1)
    for name in ("to_patch.weight", "to_patch.bias"):
        renamed[name] = _channels_first(renamed[name], config)
    converted.load_state_dict(renamed)
    _require_same_positions(kind, model, converted.position_embed.table)
    return converted.eval()


def to_diffusers(model: DiT) -> Any:
    """The same model as diffusers' ``DiTTransformer2DModel``, in evaluation mode; weights are copied.

    Raises:
        UsageError: a model of videos, or one with another width of MLP than diffusers has.
    """
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    config = arguments.instance("model", model, DiT, "a DiT").config
    if config.num_frames > 1 or config.mlp_ratio != 4:
        what = f"num_frames={config.num_frames}, mlp_ratio={config.mlp_ratio}"
        raise arguments.refusal("model", model, "a model of images with mlp_ratio=4", because=f"it has {what}")
    other = DiTTransformer2DModel(
        num_attention_heads=config.num_attention_heads,
        attention_head_dim=config.hidden_size // config.num_attention_heads,
        in_channels=config.num_channels,
        out_channels=config.out_channels,
        num_layers=config.num_hidden_layers,
        attention_bias=config.qkv_bias,
        sample_size=config.image_size,
        patch_size=config.patch_size,
        num_embeds_ada_norm=config.n_classes,
        norm_eps=config.norm2_eps,
    )
    nn.Module.to(other, model.device, model.dtype)
    state, weights = {}, dict(model.state_dict())
    size = config.patch_size
    weights["patch_embed.weight"] = rearrange(weights["patch_embed.weight"], "d (c y x) -> d c y x", y=size, x=size)
    for name in ("to_patch.weight", "to_patch.bias"):
        weights[name] = rearrange(weights[name], "(c y x) ... -> (y x c) ...", y=size, x=size)
    for name, own in _names(config).items():
        if name in weights:
            state[own] = weights[name]
    for name, x in list(state.items()):
        if name.startswith(first := _EMBEDDER.format(0)):
            rest = name.removeprefix(first)
            state |= {_EMBEDDER.format(i) + rest: x for i in range(config.num_hidden_layers)}
    other.load_state_dict(state)
    return other.eval()


def _names(config: DiTConfig) -> dict[str, str]:
    """Parameter of ours → diffusers', of the embedders those of the first block."""
    first = _EMBEDDER.format(0)
    names = {**_NAMES, **{name: first + own for name, own in _OF_EMBEDDER.items()}}
    for i in range(config.num_hidden_layers):
        names |= {f"blocks.{i}.{name}": f"transformer_blocks.{i}.{own}" for name, own in _OF_BLOCK.items()}
    both = {f"{name}.{kind}": f"{own}.{kind}" for name, own in names.items() for kind in ("weight", "bias")}
    return both | {"label_embed.weight": first + _LABELS}


def _channels_first(x: Tensor, config: DiTConfig) -> Tensor:
    """Rows of the output projection, or its bias, with channels before rows and columns."""
    size = config.patch_size
    return rearrange(x, "(y x c) ... -> (c y x) ...", y=size, x=size)


def _require_equal_copies(kind: str, state: Mapping[str, Tensor], n_layers: int) -> None:
    """Every block's copy of the embedders has to be the first block's."""
    first = _EMBEDDER.format(0)
    for name in [name for name in state if name.startswith(first)]:
        for layer in range(1, n_layers):
            copy = _EMBEDDER.format(layer) + name.removeprefix(first)
            if not torch.equal(state[name], state[copy]):
                raise UnsupportedModel(
                    f"{kind}: {copy} differs from {name}, and a DiT has one embedder for all layers. Copy the first "
                    "one into every block."
                )


def _require_same_positions(kind: str, model: nn.Module, own: Tensor) -> None:
    """diffusers' table of positions, which is in no checkpoint, has to be ours up to rounding."""
    table = dict(model.named_buffers())["pos_embed.pos_embed"]
    if table.shape != own.shape or float((table - own).abs().max()) > 1e-5 + torch.finfo(own.dtype).eps:
        raise UnsupportedModel(f"{kind}: its position embeddings are not sines and cosines of rows and columns.")
