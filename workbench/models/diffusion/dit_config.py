"""The configuration of a `workbench.models.diffusion.dit.DiT`."""

# No annotations of the future here: `strict` reads the fields' types from them.
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from workbench.errors import UsageError


@strict
class DiTConfig(PreTrainedConfig):
    """The sizes of a `DiT`, and what it was trained to predict.

    Attributes:
        image_size: height and width of its images, in pixels (of a latent, for models behind an autoencoder).
        num_frames: frames of a video; 1 for images.
        num_channels, out_channels: of images, and of predictions: as many, or twice as many where a variance is
            predicted as well. None for as many.
        mlp_ratio: width of the MLP, in widths of the model.
        qkv_bias: whether queries, keys and values have biases.
        norm2_eps: the epsilon of the norms before MLPs; the other norms have 1e-6.
        prediction: ``"velocity"`` (noise − image, for rectified flow) or ``"noise"`` (for DDPM and DDIM).
        num_labels, id2label: the classes; the label after the last of them stands for none.
    """

    model_type = "workbench_dit"

    hidden_size: int = 64
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    image_size: int = 8
    patch_size: int = 2
    num_frames: int = 1
    num_channels: int = 1
    out_channels: int | None = None
    mlp_ratio: int = 4
    qkv_bias: bool = True
    norm2_eps: float = 1e-6
    initializer_range: float = 0.02
    prediction: Literal["velocity", "noise"] = "velocity"

    def __post_init__(self, **kwargs: Any) -> None:
        if self.id2label is None and "num_labels" not in kwargs:
            kwargs["num_labels"] = 10
        if self.out_channels is None:
            self.out_channels = self.num_channels
        super().__post_init__(**kwargs)

    def check_sizes(self) -> None:
        """Refuse sizes that do not divide.

        Raises:
            UsageError: the image by the patch, the width by the heads and by 4, or other output channels.
        """
        if self.image_size % self.patch_size:
            raise UsageError(
                f"image_size={self.image_size}: expected a multiple of the patch size, because patch_size is "
                f"{self.patch_size}."
            )
        if self.hidden_size % self.num_attention_heads or self.hidden_size % 4:
            raise UsageError(
                f"hidden_size={self.hidden_size}: expected a multiple of 4 and of the number of heads, because "
                f"num_attention_heads is {self.num_attention_heads}."
            )
        if self.out_channels not in (self.num_channels, 2 * self.num_channels):
            raise UsageError(
                f"out_channels={self.out_channels}: expected {self.num_channels}, or {2 * self.num_channels} with a "
                f"variance, because num_channels is {self.num_channels}."
            )

    @property
    def n_classes(self) -> int:
        """How many classes there are, and the label of none of them."""
        return len(self.id2label or ())

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches along each axis: rows and columns, of a video frames before them."""
        side = self.image_size // self.patch_size
        return (side, side) if self.num_frames == 1 else (self.num_frames, side, side)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """``(channel, row, column)``, of a video ``(channel, frame, row, column)``."""
        frames = () if self.num_frames == 1 else (self.num_frames,)
        return (self.num_channels, *frames, self.image_size, self.image_size)
