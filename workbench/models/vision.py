"""`HookedViT`: an unmodified Hugging Face vision transformer with hooks by TransformerLens's classic names."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from workbench import arguments
from workbench.arguments import refusal
from workbench.inputs.paired import PairedInputs
from workbench.models.anatomy import Anatomy
from workbench.models.hooked import HookedModel
from workbench.models.patches import Patches, pair
from workbench.models.resumable_layers import LayersRun
from workbench.models.vision_families import added_tokens, family_of, is_classifier, parts_of
from workbench.models.vision_readout import choose_readout

#: Rows and columns of patches of the check at load time, where a family takes images of any size.
TRIAL_SIDE = 4


class HookedViT(HookedModel):
    """A Hugging Face vision transformer whose every head can be recorded and edited: ViT, DeiT, DINOv2 (with registers
    too), DINOv3, I-JEPA, BEiT, and the vision towers of CLIP and SigLIP.

    With no active hook a call is the Hugging Face model's own forward. An image is a sequence of positions,
    ``[pos, channel · row · column]``: rows of zeros for the tokens that the model adds (class, distillation,
    registers), then the patches, row by row, each its pixels (`pixels_to_inputs`). Metrics read the logits of classes,
    or of a model without a classifier its feature (`feature`).

    Args:
        hf: a classifier of images or an encoder in memory; it is not modified.
        processor: its image processor, in the form that works with PIL, or None for a model that gets tensors only.
        provenance: where the weights come from (JSON-able), reported in every result.
        check: run the load-time self-check (`workbench.models.self_check.check`). It uses few patches where a family
            takes images of any size; a sweep then proves the size in use, once.

    Attributes:
        outputs_are: ``"logits"`` of classes, or ``"features"``.
        feature: what is read of a model without a classifier: ``"projection"`` (CLIP's, into the space that it shares
            with texts), ``"pooler"`` (what its own pooler gives), ``"cls"`` (the class token after the last norm), or
            ``"mean"`` (of the patches). ``""`` for a classifier.
        added_positions: the names of the positions before the patches: ``("cls", "register 0", ...)``.

    The other attributes are those of `workbench.models.hooked.HookedModel`.

    Raises:
        UnsupportedModel: another family, or the self-check failed; the message gives the reason.

    Examples:
        >>> import torch
        >>> from transformers import ViTConfig, ViTForImageClassification
        >>> sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=4)
        >>> model = wb.HookedViT(ViTForImageClassification(ViTConfig(**sizes)).eval())
        >>> inputs = model.pixels_to_inputs(torch.rand(2, 3, 16, 16))
        >>> inputs.shape, model.labels(inputs[0])[:3]
        (torch.Size([2, 17, 48]), ('cls', '0,0', '0,1'))
        >>> model(inputs).shape  # logits of the configuration's two classes
        torch.Size([2, 2])
    """

    modality: ClassVar[str] = "vision"
    where_parts_are_named: ClassVar[str] = "Its parts may need an entry in workbench.models.vision_families.FAMILIES."

    def __init__(
        self,
        hf: nn.Module,
        processor: Any = None,
        provenance: Mapping[str, Any] | None = None,
        *,
        check: bool = True,
    ) -> None:
        if not isinstance(hf, nn.Module) or not hasattr(hf, "config"):
            raise refusal("hf", hf, "a Hugging Face vision transformer", "To load one by name: wb.load(name).")
        if processor is not None and not (callable(processor) and hasattr(processor, "preprocess")):
            raise refusal("processor", processor, "a Hugging Face image processor, or None")
        if getattr(processor, "backend", "pil") != "pil":
            do = 'Load it with AutoImageProcessor.from_pretrained(name, backend="pil").'
            raise refusal("processor", processor, "its form that works with PIL", do)
        check = arguments.flag("check", check)
        family, config = family_of(hf), _vision_config(hf)
        self._family = family
        self.added_positions = added_tokens(family, config)
        self._patches = Patches(
            size=pair(config.patch_size),
            channels=int(config.num_channels),
            image=pair(config.image_size),
            added=len(self.added_positions),
            any_size=family.any_size,
        )
        self.outputs_are = "logits" if is_classifier(hf) else "features"
        self.feature = "" if self.outputs_are == "logits" else _feature_of(hf, self.added_positions)
        self._names: dict[int, Mapping[str, int]] = {}
        own = set(vars(self))
        super().__init__(hf, processor, provenance, check=check)
        self.first_attributes |= own

    # --- images as positions --------------------------------------------------------------------------------------

    def pixels_to_inputs(self, pixels: Tensor) -> Float[Tensor, "image pos n"]:
        """Images ``[image, channel, height, width]``, as an image processor gives them, as inputs: a row of zeros for
        each of `added_positions`, then the patches, row by row, each its pixels ``[channel, row, column]`` flattened.

        What is left over at the edges of an image whose sides are no multiples of a patch is left out: the model does
        not read it.

        Raises:
            UsageError: images of a size or with channels that the model does not take, or numbers that are not finite.
        """
        return self._patches.to_inputs(pixels)

    def inputs_to_pixels(self, inputs: Tensor) -> Shaped[Tensor, "image channel height width"]:
        """Inputs ``[image, pos, n]`` as images: what `pixels_to_inputs` undoes.

        Raises:
            UsageError: inputs that are none of this model.
        """
        return self._patches.to_pixels(inputs)

    def patch_grid(self, n_positions: int) -> tuple[int, int]:
        """Rows and columns of patches of an input with that many positions: those of the configured image, or else a
        square.

        Raises:
            UsageError: the model has no input of that length.
        """
        n_positions = arguments.whole_number("n_positions", n_positions, at_least=1)
        grid = self._patches.grid_of(n_positions)
        if grid is None:
            rows, columns = self._patches.grid
            added = f"{len(self.added_positions)} + " if self.added_positions else ""
            other = ", or with another square of patches" if self._patches.any_size else ""
            expected = f"{self._patches.added + rows * columns} ({added}{rows} × {columns} patches){other}"
            raise refusal("n_positions", n_positions, expected)
        return grid

    def labels(self, inputs: Shaped[Tensor, "pos n"]) -> tuple[str, ...]:
        """``"cls"``, ``"register 0"`` and the like, then ``"row,column"`` of each patch."""
        rows, columns = self.patch_grid(len(inputs))
        return (*self.added_positions, *(f"{row},{column}" for row in range(rows) for column in range(columns)))

    def named_positions(self, n_positions: int) -> Mapping[str, int]:
        """The names of an input's positions, which are its labels. Every input that the engine gets has them."""
        if n_positions not in self._names:
            labels = self.labels(torch.empty(n_positions, 0))
            self._names[n_positions] = MappingProxyType({label: i for i, label in enumerate(labels)})
        return self._names[n_positions]

    def regions(self, n_positions: int) -> Mapping[str, tuple[int, ...]]:
        """``"patches"``, all patches, and ``"registers"``, all registers where there are some."""
        registers = tuple(i for i, label in enumerate(self.added_positions) if label.startswith("register"))
        regions = {"registers": registers, "patches": tuple(range(self._patches.added, n_positions))}
        return {name: indices for name, indices in regions.items() if indices}

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the classes, by the configuration's ``id2label``; of a feature, the numbers of its entries."""
        names = getattr(self.hf.config, "id2label", None) or {}
        if self.outputs_are != "logits" or len(names) != self.n_outputs:
            return tuple(map(str, range(self.n_outputs)))
        return tuple(str(names[i]) for i in range(self.n_outputs))

    def forward(self, input: Tensor) -> Float[Tensor, "batch n_outputs"]:
        """The outputs for images ``[image, channel, height, width]``, or for inputs ``[image, pos, n]``, with the
        active hooks applied.

        Raises:
            UsageError: what `pixels_to_inputs` refuses, or inputs that are none of this model.
        """
        if not isinstance(input, Tensor) or input.ndim not in (3, 4):
            raise refusal("input", input, "images [image, channel, height, width], or inputs [image, position, n]")
        if input.ndim == 4:
            input = self._patches.to_inputs(input, "input")
        return super().forward(input)

    # --- what the engine needs of a vision model ----------------------------------------------------------------------

    @property
    def config(self) -> Any:
        """The configuration of the vision tower."""
        return _vision_config(self.hf)

    def parts_of(self, hf: Any) -> tuple[Anatomy, bool]:
        return parts_of(hf, self._family, self.config), True

    def outputs(self, inputs: Shaped[Tensor, "batch_or_1 pos n"]) -> Float[Tensor, "batch n_outputs"]:
        """The logits of the classes, or the feature. One input is enough where the layers are left out."""
        output = self.hf(pixel_values=self.inputs_to_pixels(inputs).to(self.device, self.dtype))
        if self.outputs_are == "logits":
            return output.logits
        if self.feature == "projection":
            return output.image_embeds
        if self.feature == "pooler":
            return output.pooler_output
        stream = output.last_hidden_state
        return stream[:, 0] if self.feature == "cls" else stream.mean(1)

    def read_out(
        self,
        inputs: Shaped[Tensor, "row_or_1 pos width"],
        stream: Float[Tensor, "row some_pos d_model"],
        entries: Shaped[Tensor, "n"] | None = None,
        rest: tuple[Any, ...] | None = None,
    ) -> Float[Tensor, "row n"]:
        return super().read_out(inputs[:1] if self.embeds_one else inputs, stream, entries, rest)

    def choose_readout(self, base: LayersRun) -> None:
        choose_readout(self, base)

    def trial(self) -> Float[Tensor, "two pos n"]:
        rows, columns = self._patches.grid
        if self._patches.any_size and rows * columns > TRIAL_SIDE**2:
            rows = columns = TRIAL_SIDE
        return self._random_images(rows * columns)

    def shortest_trial(self) -> Float[Tensor, "one pos n"]:
        return self.trial()[:1]

    def _random_images(self, n_patches: int) -> Float[Tensor, "two pos n"]:
        """Two images of noise, in float32 whatever the model's precision is, as image processors give them."""
        shape, generator = (2, self._patches.added + n_patches, self._patches.width), torch.Generator().manual_seed(0)
        images = torch.randn(shape, generator=generator)
        images[:, : self._patches.added] = 0
        return images.to(self.device)

    def proof_inputs(self, length: int, rows: Sequence[Tensor]) -> Float[Tensor, "two pos n"]:
        return self._random_images(length - self._patches.added)

    def check_content(self, name: str, inputs: Shaped[Tensor, "pos n"]) -> None:
        """As every model does; also refuse an input of no grid of patches, one with something where the model puts a
        token of its own, and numbers that are not finite."""
        super().check_content(name, inputs)
        added = self._patches.added
        if self._patches.grid_of(len(inputs)) is None:
            expected = f"an input of {self._patches.expected()}"
            raise refusal(name, inputs, expected, "Make it with pixels_to_inputs.")
        if bool(inputs[:added].any()):
            why = f"the model puts its own tokens there ({', '.join(self.added_positions)})"
            raise refusal(name, inputs, f"zeros in the first {added} positions", because=why)
        if not bool(torch.isfinite(inputs).all()):
            raise refusal(name, inputs, "finite numbers", because="some are not")

    def prepare(self, task: Any, argument: str = "task") -> PairedInputs:
        """As every model does, with names for positions and regions beside those that the inputs have."""
        inputs = super().prepare(task, argument)
        own = inputs.regions or ({},) * len(inputs)
        positions, regions = [], []
        for row, names, of_regions in zip(inputs.clean, inputs.positions, own, strict=True):
            known = {name: i for name, i in self.named_positions(len(row)).items() if name not in of_regions}
            positions.append({**known, **names})
            regions.append({**{k: v for k, v in self.regions(len(row)).items() if k not in names}, **of_regions})
        return replace(inputs, positions=tuple(positions), regions=tuple(regions))

    def identity_facts(self) -> dict[str, Any]:
        """None besides those of every model: the modules are transformers', and pixels are hashed with the inputs."""
        return {}


def _vision_config(hf: Any) -> Any:
    return getattr(hf.config, "vision_config", hf.config)


def _feature_of(hf: Any, added: Sequence[str]) -> str:
    """What is read of a model without a classifier."""
    if "WithProjection" in type(hf).__name__:
        return "projection"
    head = getattr(hf, "head", None)
    if any(isinstance(part, nn.MultiheadAttention) for part in (head or nn.Identity()).modules()):
        warnings.warn(
            f"{type(hf).__name__}: its pooling head attends by torch.nn.MultiheadAttention; the heads in it are out of "
            "reach, and count as part of the readout.",
            stacklevel=3,
        )
        return "pooler"
    if getattr(hf, "pooler", None) is not None or hf.config.model_type == "clip_vision_model":
        return "pooler"
    return "cls" if "cls" in added else "mean"
