"""Samples of a diffusion model on the command line: what is sampled, and how. Checked as far as that goes before a
model is loaded."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.choices import check_model, check_name
from workbench.cli.image_options import no_prompts
from workbench.core import in_steps
from workbench.errors import UsageError
from workbench.inputs.classes import unknown_class

if TYPE_CHECKING:
    from workbench.inputs.latents import Latents
    from workbench.models.diffusion.hooked import HookedDiT

Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="CLASS",
        help="A class for a diffusion model to sample, by name or index, or none. Repeat it for several, in turn.",
    ),
]
Others = Annotated[
    list[str] | None,
    typer.Option(
        "--other",
        metavar="CLASS",
        help="With --label: the class of the corrupt runs, one for all or one for each label. The noise is the same.",
    ),
]
Samples = Annotated[
    int | None,
    typer.Option("--samples", metavar="N", min=1, help="With --label: number of samples (default: 8)."),
]
OtherSeed = Annotated[
    int | None,
    typer.Option("--other-seed", metavar="S", min=0, help="With --label: seed of other noise for the corrupt runs."),
]
Steps = Annotated[
    int | None, typer.Option("--steps", metavar="N", help="With --label: number of sampling steps (default: 25).")
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        metavar="G",
        help="With --label: g of classifier-free guidance, p_none + g (p_label − p_none); a negative g steers away "
        "from the class, where pipelines of diffusers guide only above 1 (default: none).",
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        "--sampler", metavar="NAME", help="With --label: euler or ddim (default: by what the model predicts)."
    ),
]
ReadoutOption = Annotated[
    str | None,
    typer.Option(
        "--readout",
        metavar="R",
        help="With --label: what the metric reads, a classifier of images such as digits-vit, or a prediction such as "
        "velocity@3, the one in step 3 (default: the finished image).",
    ),
]
AtSteps = Annotated[
    str | None,
    typer.Option(
        "--at-steps",
        metavar="I,J-K",
        help="With --label: the sampling steps that are edited, such as 0,4-7 (default: all).",
    ),
]
SampleSeed = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="S",
        min=0,
        help="Seed of what is drawn at random: prompts of a task, regions of corrupt images; with --label the noise "
        "(sample i, from 0, has seed S + i).",
    ),
]
#: Samples where no number is given.
SAMPLES = 8
NONE = "none"


@dataclass(frozen=True)
class LatentRequest:
    """Samples of a command.

    Attributes:
        labels, other: classes as they were typed.
        samples: how many.
        seed, other_seed: of their noise.
        sampler, steps, guidance, readout: how the model is sampled, and what is read; None for its defaults.
    """

    labels: tuple[str, ...]
    other: tuple[str, ...] = ()
    samples: int = SAMPLES
    seed: int = 0
    other_seed: int | None = None
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    readout: str | None = None

    @property
    def is_paired(self) -> bool:
        """Whether the corrupt runs are others than the clean ones."""
        return bool(self.other) or self.other_seed is not None

    @property
    def classifier(self) -> str | None:
        """The model that reads the samples."""
        return None if self.readout is None or _is_prediction(self.readout) else self.readout

    def resampled(self, model: Any, at_steps: Sequence[int] | None = None, progress: Any = None) -> HookedDiT:
        """The model, sampled as the options say.

        Args:
            at_steps: steps that it has to have.

        Raises:
            UsageError: it is no diffusion model, a setting is not possible for it, or a step beyond the schedule.
        """
        import workbench as wb

        if model.modality != "diffusion":
            raise UsageError(f"--label is for diffusion models, and this is a {model.modality} model. Leave it out.")
        readout: Any = self.readout
        if self.classifier is not None:
            readout = wb.load(self.classifier, progress=progress)
            if (modality := getattr(readout, "modality", "")) != "vision":
                raise UsageError(f"--readout {self.readout}: expected a vision model. This is a {modality} model.")
        settings = {"sampler": self.sampler, "steps": self.steps, "guidance": self.guidance, "readout": readout}
        resampled = model.resampled(**{name: value for name, value in settings.items() if value is not None})
        if at_steps is not None and max(at_steps) >= resampled.n_steps:
            raise UsageError(f"--at-steps: step {max(at_steps)} is beyond the {resampled.n_steps} steps that are run.")
        return resampled

    def latents(self, model: HookedDiT) -> Latents:
        """What `wb.sweep` takes.

        Raises:
            UnknownName, UsageError: a class that the model does not have.
        """
        import workbench as wb

        config = model.hf.config
        names = {str(name): i for i, name in (config.id2label or {}).items()}
        labels = [_class("--label", text, names, config.n_classes) for text in self.labels]
        other = [_class("--other", text, names, config.n_classes) for text in self.other]
        if self.other and self.other_seed is None and labels == (other * len(labels) if len(other) == 1 else other):
            raise UsageError(
                f"--other {self.other[0]}: expected another class than that of --label, because the noise is the same. "
                "Give another class, or --other-seed S."
            )
        return wb.latents(labels, other or None, n=self.samples, seed=self.seed, other_seed=self.other_seed)

    def written(self) -> list[Any]:
        """Everything that the samples depend on besides the models (JSON-able)."""
        return ["latents", *vars(self).items()]


def latent_request(
    labels: Sequence[str],
    other: Sequence[str] | None = None,
    samples: int | None = None,
    seed: int = 0,
    other_seed: int | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    readout: str | None = None,
) -> LatentRequest:
    """The samples of a command's options.

    Raises:
        UnknownName, UsageError: whatever can be told without the model.
    """
    n = max(SAMPLES, len(labels)) if samples is None else samples
    if n < len(labels):
        raise UsageError(f"--samples {n}: expected at least one for each of {len(labels)} labels. Give {len(labels)}.")
    if other and len(other) not in (1, len(labels)):
        raise UsageError(f"--other: {len(other)} classes for {len(labels)} labels. Give one for all, or one for each.")
    if other_seed == seed and not other:
        raise UsageError(f"--other-seed {other_seed}: expected another seed than --seed. Give one, or --other CLASS.")
    if readout is not None and not _is_prediction(readout):
        check_model(readout, ("vision",), hint="A prediction, such as velocity@3, works too.", option="--readout")
    if sampler is not None or steps is not None:
        from workbench.models.diffusion.schedule import LONGEST_TIME, SAMPLERS

        if sampler is not None:
            check_name("sampler", sampler, SAMPLERS)
        if steps is not None and not 1 <= steps <= LONGEST_TIME:
            raise UsageError(f"--steps {steps}: expected 1 to {LONGEST_TIME} sampling steps.")
    if guidance is not None and not math.isfinite(guidance):
        raise UsageError(f"--guidance {guidance}: expected a finite number.")
    return LatentRequest(tuple(labels), tuple(other or ()), n, seed, other_seed, sampler, steps, guidance, readout)


def check_latent_options(labels: Any, **options: Any) -> None:
    """Refuse options that belong to samples where there are none.

    Raises:
        UsageError: the first of them.
    """
    if labels:
        return
    for name, value in options.items():
        if value is not None and value != []:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is only for samples of a diffusion model. Give --label CLASS, or leave it out.")


def check_sources(
    task: str | None, pairs: Path | None, n: int | None, skip: bool, images: Sequence[Path] | None, labels: Any
) -> None:
    """Refuse inputs of two modalities: prompts, images or samples.

    Raises:
        UsageError: options of another one.
    """
    if images and labels:
        raise UsageError("--label is for samples, and --images for images. Leave one of them out.")
    if images or labels:
        no_prompts(task, pairs, n, skip, "images" if images else "samples")


def sampled_as(info: Mapping[str, Any], axes: Collection[str]) -> str:
    """How the samples of a result were made and in which steps they were edited; empty for other inputs."""
    if "sampler" not in info:
        return ""
    guidance = "no guidance" if info["guidance"] is None else f"guidance {info['guidance']:g}"
    steps = f"{info['sampler_steps']} step{'s' * (info['sampler_steps'] != 1)}"
    edited = f"Edited {where}. " if (where := in_steps(info, axes)) else ""
    return f"Sampled by {info['sampler']} in {steps}, {guidance}. {edited}"


def _is_prediction(readout: str) -> bool:
    return "@" in readout and not Path(readout).exists()


def _class(option: str, text: str, names: Mapping[str, int], n_classes: int) -> int | None:
    """A class that was typed, as its index; None for no class.

    Raises:
        UnknownName: no such class.
        UsageError: an index of none, or what names two.
    """
    named, number = names.get(text), int(text) if text.isdecimal() else None
    if named is not None:
        if text == NONE or (number is not None and number < n_classes and number != named):
            other = "no class" if text == NONE else f"class {number} by index"
            raise UsageError(
                f"{option} {text}: class {named} has this name, and it stands for {other} too. Use Python."
            )
        return named
    if text == NONE:
        return None
    if number is None:
        raise unknown_class(option.removeprefix("--"), text, names, n_classes)
    if number >= n_classes:
        raise UsageError(f"{option} {text}: expected a class from 0 to {n_classes - 1}, or its name.")
    return number
