"""How a diffusion model is sampled: sampler, steps, guidance, and what is read of the sample."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench import arguments
from workbench.models.diffusion.dit import DiT
from workbench.models.diffusion.readout import Readout, readout_of
from workbench.models.diffusion.schedule import LONGEST_TIME, SAMPLERS, Step, sampler_for
from workbench.models.precision import at_least_float32
from workbench.models.resumable import NotFinite

#: Steps where none are given.
STEPS = 25


@dataclass(frozen=True, eq=False)
class Sampling:
    """How one model is sampled.

    Attributes:
        sampler: ``"euler"`` or ``"ddim"``.
        steps: of the sampler.
        guidance: g of classifier-free guidance, ``p = p_none + g (p_label − p_none)`` (Ho and Salimans, 2022); None for
            one pass a step, with the label.
        readout: what metrics read.
    """

    sampler: str
    steps: int
    guidance: float | None
    readout: Readout

    @classmethod
    def of(cls, config: Any, sampler: Any, steps: Any, guidance: Any, readout: Any) -> Sampling:
        """Checked settings for a model of that configuration.

        Raises:
            UnknownName: no such sampler.
            UsageError: a setting that is not possible.
        """
        sampler = sampler_for(sampler, config.prediction)
        steps = STEPS if steps is None else arguments.whole_number("steps", steps, at_least=1, at_most=LONGEST_TIME)
        guidance = arguments.number("guidance", guidance, optional=True)
        SAMPLERS[sampler][1](steps)
        return cls(sampler, steps, guidance, readout_of(readout, config.prediction, steps, config.image_shape))

    @property
    def branches(self) -> int:
        """How many passes a step takes: two under guidance."""
        return 1 if self.guidance is None else 2

    @cached_property
    def schedule(self) -> tuple[Step, ...]:
        """The steps that are run: up to the one whose prediction is read, if one is."""
        steps = SAMPLERS[self.sampler][1](self.steps)
        return steps if self.readout.step is None else steps[: self.readout.step + 1]

    def changed(self, config: Any, **changes: Any) -> Sampling:
        """The same with other settings, as `of` takes them."""
        fields = {"sampler": self.sampler, "steps": self.steps, "guidance": self.guidance, "readout": self.readout}
        new = Sampling.of(config, **(fields | changes))
        if new.readout.step is not None and new.readout.step >= new.steps:
            why = f"readout={new.readout.name!r} is read"
            raise arguments.refusal("steps", new.steps, f"more than {new.readout.step}", because=why)
        return new

    def info(self) -> dict[str, Any]:
        """What results report (JSON-able)."""
        return {
            "sampler": self.sampler,
            "sampler_steps": self.steps,
            "guidance": self.guidance,
            "readout": self.readout.name,
        }

    def facts(self) -> dict[str, Any] | None:
        """What numbers depend on, for cache keys; None where the readout has no hash."""
        readout = self.readout.facts()
        return None if readout is None else {**self.info(), "readout": readout}

    def guided(self, prediction: Float[Tensor, "pass pos n"]) -> Float[Tensor, "row pos n"]:
        """The prediction of each row, of its passes (labelled first)."""
        prediction = at_least_float32(prediction).unflatten(0, (-1, self.branches))
        if self.guidance is None:
            return prediction[:, 0]
        labelled, unlabelled = prediction[:, 0], prediction[:, 1]
        return unlabelled + self.guidance * (labelled - unlabelled)

    def after_step(
        self, step: int, latent: Float[Tensor, "row pos n"], prediction: Float[Tensor, "pass pos m"]
    ) -> Float[Tensor, "row pos n"]:
        """The latent after a step; after the step whose prediction is read, that prediction.

        Raises:
            NotFinite: a number of it is NaN or infinite.
        """
        guided = self.guided(prediction)[..., : latent.shape[-1]]  # behind it is a variance, which these leave alone
        if step == self.readout.step:
            after = guided
        else:
            of_step = self.schedule[step]
            after = of_step.keep * latent + of_step.add * guided
        if not (finite := torch.isfinite(after)).all():
            raise NotFinite(step, int((~finite.flatten(1).all(1)).nonzero()[0]))
        return after

    def estimate(
        self, step: int, latent: Float[Tensor, "row pos n"], prediction: Float[Tensor, "pass pos m"]
    ) -> Float[Tensor, "row pos n"]:
        """The image that a step's prediction, after guidance, points at: the finished sample, were it right."""
        of_step, guided = self.schedule[step], self.guided(prediction)[..., : latent.shape[-1]]
        return of_step.last_keep * latent + of_step.last_add * guided


@torch.no_grad()
def sample(
    model: DiT,
    noise: Float[Tensor, "batch channel *size"],
    class_labels: Int[Tensor, "batch"],
    *,
    sampler: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
) -> Float[Tensor, "batch channel *size"]:
    """Images from noise, without any hooks.

    Args:
        noise: of a standard normal distribution, in at least float32.
        class_labels: classes, or the number of classes for none.
        sampler: ``"euler"`` or ``"ddim"``; the one for what the model predicts by default.
        steps: of the sampler, at most 1000; 25 by default.
        guidance: g of classifier-free guidance, or None.

    Raises:
        UsageError: settings that are not possible, or noise of another shape.
        HookError: sampling gave NaN or infinity.
    """
    sampling = Sampling.of(model.config, sampler, steps, guidance, None)
    latent = model.patchify(noise)
    none = torch.full_like(class_labels, model.config.n_classes)
    labels = torch.stack([class_labels, none][: sampling.branches], 1).flatten()
    for i, step in enumerate(sampling.schedule):
        patches = latent.repeat_interleave(sampling.branches, 0).to(model.dtype)
        time = torch.full((len(patches),), step.time, device=latent.device)
        latent = sampling.after_step(i, latent, model.predict(patches, time, labels))
    return model.unpatchify(latent)
