"""`DiffusersDiT`: diffusers' ``DiTTransformer2DModel``, unmodified, as `HookedDiT` calls a model.

Its blocks and its forward are called as they are, with patches folded into images and back; nothing is converted.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

from jaxtyping import Float, Int, Num
from torch import Tensor, nn, stack
from torch.nn import functional as F

from workbench.errors import UnsupportedModel
from workbench.models.anatomy import Anatomy
from workbench.models.diffusion.dit_config import DiTConfig
from workbench.models.diffusion.schedule import SAMPLERS


@dataclass
class DiffusersConfig:
    """The sizes of such a model, by the names of `workbench.models.diffusion.dit_config.DiTConfig`."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    image_size: int
    patch_size: int
    num_channels: int
    out_channels: int
    prediction: str
    id2label: dict[int, str]
    model_type: str = "DiTTransformer2DModel"
    num_frames: int = 1

    check_sizes, n_classes = DiTConfig.check_sizes, DiTConfig.n_classes
    grid, image_shape = DiTConfig.grid, DiTConfig.image_shape


class DiffusersDiT(nn.Module):
    """diffusers' ``DiTTransformer2DModel`` with the methods of a `workbench.models.diffusion.dit.DiT`.

    A condition is the time and the label: each block embeds them itself. Gates are applied inline, so that there is no
    ``attn_out``, ``resid_mid`` or ``mlp_out``.

    Args:
        model: the model. It is not modified.
        sampler: the sampler that it is for, which says what it predicts: noise by default, as the published DiTs do.

    Raises:
        UnsupportedModel: another kind of layer than adaLN-zero.
        UsageError: sizes that do not divide.
    """

    parts: ClassVar[Anatomy] = Anatomy(
        layers="model.transformer_blocks",
        embed="model.pos_embed",
        final_norm="model.norm_out",
        attention="attn1",
        mlp="ff",
        norm1="norm1.norm",
        norm2="norm3",
        query="to_q",
        key="to_k",
        value="to_v",
        output="to_out.0",
        mlp_output="net.2",
    )

    def __init__(self, model: Any, sampler: str | None = None) -> None:
        super().__init__()
        settings, kind = model.config, type(model).__name__
        if settings.norm_type != "ada_norm_zero":
            raise UnsupportedModel(f"{kind} has norm_type={settings.norm_type!r}: expected 'ada_norm_zero'.")
        self.model = model
        self.config = DiffusersConfig(
            **sizes_of(settings),
            prediction=SAMPLERS.get(str(sampler), ("noise", None))[0],
            id2label={i: f"LABEL_{i}" for i in range(settings.num_embeds_ada_norm)},
        )
        self.config.check_sizes()
        self.train(model.training)
        self.name_or_path = str(getattr(model, "name_or_path", "") or kind)

    def facts(self) -> dict[str, Any]:
        """What numbers depend on besides the modules (JSON-able)."""
        return {"diffusers": version("diffusers"), "prediction": self.config.prediction}

    @property
    def to_patch(self) -> Any:
        """The projection whose outputs are a patch's predictions."""
        return self.model.proj_out_2

    def predict(
        self,
        patches: Float[Tensor, "batch pos n"],
        timestep: Num[Tensor, "batch"],
        class_labels: Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch pos m"]:
        """The model's own forward, in patches."""
        images = self.unpatchify(patches)
        return self.patchify(self._evaluated()(images, timestep=timestep, class_labels=class_labels).sample)

    def embed(self, patches: Float[Tensor, "batch pos n"]) -> Float[Tensor, "batch pos d_model"]:
        """What enters the first layer."""
        return self.model.pos_embed(self.unpatchify(patches))

    def condition(self, timestep: Num[Tensor, "batch"], class_labels: Int[Tensor, "batch"]) -> Float[Tensor, "batch 2"]:
        """Times and labels."""
        return stack([timestep.float(), class_labels.float()], -1)

    def through(
        self, layer: int, x: Float[Tensor, "batch pos d_model"], condition: Float[Tensor, "batch 2"]
    ) -> Float[Tensor, "batch pos d_model"]:
        """A layer."""
        time, labels = condition.unbind(-1)
        return self._evaluated().transformer_blocks[layer](x, timestep=time, class_labels=labels.long())

    def prediction(
        self, hidden_states: Float[Tensor, "batch pos d_model"], condition: Float[Tensor, "batch 2"]
    ) -> Float[Tensor, "batch pos m"]:
        """The prediction for a residual stream that leaves the last layer: the model's own forward on a shallow copy
        that has one stand-in for its layers, so that no layer, and no hook of one, is called."""
        rest = copy.copy(self._evaluated())
        first = rest.transformer_blocks[0]
        rest._modules = {
            **rest._modules,
            "pos_embed": nn.Identity(),
            "transformer_blocks": nn.ModuleList([_StandIn(first.norm1, hidden_states)]),
        }
        time, labels = condition.unbind(-1)
        shape = (len(hidden_states), *self.config.image_shape)
        return self.patchify(rest(hidden_states.new_zeros(shape), timestep=time, class_labels=labels.long()).sample)

    def patchify(self, images: Float[Tensor, "batch channel row column"]) -> Float[Tensor, "batch pos n"]:
        """Images as patches, ``[channel, row, column]`` flattened."""
        return F.unfold(images, self.config.patch_size, stride=self.config.patch_size).mT

    def unpatchify(self, patches: Float[Tensor, "batch pos n"]) -> Float[Tensor, "batch channel row column"]:
        """The inverse of `patchify`, of any number of channels."""
        return F.fold(patches.mT, self.config.image_size, self.config.patch_size, stride=self.config.patch_size)

    def _evaluated(self) -> Any:
        """The model, in evaluation mode.

        Raises:
            UnsupportedModel: it is in training mode.
        """
        if self.model.training:
            raise UnsupportedModel("DiTTransformer2DModel drops labels at random in training mode: call model.eval().")
        return self.model


def sizes_of(settings: Any) -> dict[str, Any]:
    """The sizes in a diffusers model's configuration, by the names of `DiTConfig`."""
    return {
        "hidden_size": settings.num_attention_heads * settings.attention_head_dim,
        "num_hidden_layers": settings.num_layers,
        "num_attention_heads": settings.num_attention_heads,
        "image_size": settings.sample_size,
        "patch_size": settings.patch_size,
        "num_channels": settings.in_channels,
        "out_channels": settings.out_channels or settings.in_channels,
    }


class _StandIn(nn.Module):
    """A block that gives the stream that it was made for, with the first block's embedders."""

    def __init__(self, norm1: nn.Module, stream: Tensor) -> None:
        super().__init__()
        self.norm1, self.stream = norm1, stream

    def forward(self, *_: Any, **__: Any) -> Tensor:
        return self.stream


def as_called(model: Any, sampler: str | None) -> Any:
    """A ``DiTTransformer2DModel`` as `HookedDiT` calls it; anything else as it is."""
    is_one = isinstance(model, nn.Module) and any(
        kind.__name__ == "DiTTransformer2DModel" for kind in type(model).__mro__
    )
    return DiffusersDiT(model, sampler) if is_one else model
