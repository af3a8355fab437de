"""What metrics read of a finished sample: its pixels, a classifier's logits, numbers of one's own; or a prediction on
the way there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench import arguments
from workbench.cache.keys import digest
from workbench.errors import UsageError
from workbench.io.local_names import local_name
from workbench.models.fingerprint import Fingerprint, NoFingerprint
from workbench.models.hooked import HookedModel
from workbench.models.tensor_hash import hash_tensors, sample

Images = Float[Tensor, "row channel *size"]
_EXPECTED = "None, a classifier of images, a function of images, or a prediction such as 'velocity@3'"


@dataclass(frozen=True, eq=False)
class Readout:
    """What metrics read.

    Attributes:
        name: for results.
        reads: what it gives: ``"pixels"``, ``"logits"``, ``"numbers"`` or a prediction.
        read: images → ``[row, n]``; None for the images' own numbers.
        step: the step whose prediction is read, None for the finished sample.
    """

    name: str = "pixels"
    reads: str = "pixels"
    read: Any = None
    step: int | None = None
    _last: dict[str, Any] = field(default_factory=dict, repr=False)

    def __call__(self, images: Images) -> Float[Tensor, "row n"]:
        """The readout of images ``[row, channel, (frame,) row, column]``.

        Raises:
            UsageError: the classifier or function does not give a tensor ``[row, n]``.
        """
        if self.read is None:
            return images.flatten(1)
        shape = list(images.shape[1:])
        try:
            out = self._outputs(images)
        except UsageError as error:  # of a hooked classifier, which says what it takes
            raise UsageError(f"readout={self.name}: does not take images of shape {shape}. {error}") from error
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise UsageError(f"readout={self.name}: failed on images of shape {shape} ({error}).") from error
        if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != len(images) or not out.is_floating_point():
            raise UsageError(f"readout={self.name}: gave {arguments.as_typed(out)}, expected [image, number].")
        return out

    def _outputs(self, images: Images) -> Any:
        read = self.read
        if isinstance(read, HookedModel):
            to_inputs: Any = getattr(read, "pixels_to_inputs", None)
            images = images.to(read.device, read.dtype)
            return read.outputs(images if to_inputs is None else to_inputs(images))
        if isinstance(read, nn.Module):
            first = next(read.parameters(), images)
            out = read(images.to(first.device, first.dtype))
            return getattr(out, "logits", out)
        return read(images)

    def facts(self) -> dict[str, Any] | None:
        """What its numbers depend on (JSON-able), weights by their hash; None where that cannot be said."""
        facts: dict[str, Any] = {"readout": self.name, "step": self.step}
        if self.read is None:
            return facts
        try:
            if isinstance(self.read, HookedModel):
                identity = self.read.identity.current()
                return None if identity is None else {**facts, "identity": identity.hex()}
            module = self.read if isinstance(self.read, nn.Module) else nn.Identity()
            fingerprint = Fingerprint(module, () if module is self.read else (self.read,))
        except NoFingerprint:
            return None
        state = sample(fingerprint.tensors, 2)
        if self._last.get("state") != state:
            self._last.update(state=state, weights=hash_tensors(fingerprint.tensors).hex())
        return {**facts, "identity": digest(fingerprint.digest, self._last["weights"]).hex()}

    def require_evaluation(self) -> None:
        """Refuse a classifier in training mode.

        Raises:
            UsageError: it is.
        """
        module = self.read.hf if isinstance(self.read, HookedModel) else self.read
        if isinstance(module, nn.Module) and module.training:
            raise UsageError(f"readout={self.name}: is in training mode, where outputs may differ. Call its eval().")


def readout_of(
    readout: Any, prediction: str, steps: int, image_shape: tuple[int, ...], classes: int | None = None
) -> Readout:
    """The readout that an argument names.

    Args:
        readout: None for pixels; a hooked vision model or a module, whose outputs on images are logits; a function
            ``f(images [row, channel, ...]) -> [row, n]``; or ``"velocity@3"``, the prediction at a step (after
            guidance; sampling ends there).
        prediction: what the model predicts.
        steps: of the sampler.
        image_shape: of an image.

    Raises:
        UsageError: something else, or a step beyond the schedule.
    """
    if isinstance(readout, Readout):
        return readout
    if readout is None:
        kind = {1: "pixels", 3: "pixels"}.get(image_shape[0], "latents") if len(image_shape) == 3 else "video"
        return Readout(kind, kind)
    if isinstance(readout, str):
        name, at, step = readout.partition("@")
        if name != prediction or not at or not step.isdecimal():
            raise arguments.refusal("readout", readout, _EXPECTED, because=f"the model predicts {prediction}")
        if int(step) >= steps:
            why = f"there are {steps} steps"
            raise arguments.refusal("readout", readout, f"a step from 0 to {steps - 1}", because=why)
        return Readout(readout, prediction, None, int(step))
    if isinstance(readout, HookedModel):
        if readout.modality != "vision":
            raise arguments.refusal("readout", readout, _EXPECTED, because=f"this is a {readout.modality} model")
        return Readout(str(readout.provenance.get("name") or "classifier"), readout.outputs_are, readout)
    if isinstance(readout, nn.Module):
        own = local_name(str(getattr(readout, "name_or_path", "") or type(readout).__name__))
        return Readout(own, "logits", readout)
    if not callable(readout):
        raise arguments.refusal("readout", readout, _EXPECTED)
    arguments.function_of("readout", readout, 1, "a function of images")
    return Readout(getattr(readout, "__name__", type(readout).__name__), "numbers", readout)


@torch.no_grad()
def n_outputs(
    readout: Callable[[Images], Tensor], image_shape: tuple[int, ...], dtype: torch.dtype, device: Any
) -> int:
    """How many numbers a readout gives for an image."""
    generator = torch.Generator().manual_seed(0)
    return readout(torch.randn(2, *image_shape, generator=generator).to(device, dtype)).shape[1]
