"""The sample that the page is about, and how it is made: widgets, whose values are in the URL."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

import workbench as wb
from app import models, url_widgets
from app.work.sampling import sampled_by
from workbench.errors import UsageError
from workbench.models.diffusion.schedule import SAMPLERS

CLASS, OTHER, SEED = "sample-class", "sample-other", "sample-seed"
SAMPLER, STEPS, GUIDED, GUIDANCE = "sampler", "sample-steps", "sample-guided", "sample-guidance"
#: What stands for no class.
NO_CLASS = "no class"
#: Steps at most, and by default; the factor of guidance by default, and its magnitude at most.
MOST_STEPS, USUAL_STEPS, USUAL_GUIDANCE, MOST_GUIDANCE = 100, 10, 2.0, 50.0
MOST_SEED = 999_999
OTHER_HELP = "The class of the run that patches take their values from: the same noise, sampled as this class."
GUIDANCE_HELP = (
    "g of classifier-free guidance: in each step the model predicts with the class and without it, and "
    "p = p_without + g (p_with − p_without) is used. Without guidance there is one pass, with the class."
)
STEPS_HELP = "How often the model is asked. Every head runs in every step."


@dataclass(frozen=True)
class Settings:
    """A sample, in plain data: where it starts and how it is made.

    Attributes:
        label, other: names of classes, or `NO_CLASS`.
        guidance: g, or None for one pass a step.
    """

    label: str
    other: str
    seed: int
    sampler: str
    steps: int
    guidance: float | None

    def check_other(self) -> None:
        """That there is another class to patch from, or to compare with.

        Raises:
            UsageError: it is the sample's own.
        """
        if self.other == self.label:
            raise UsageError(
                f"Other class {self.other}: expected another class than the sample’s, because the noise is the same. "
                "Select another class."
            )

    @property
    def of_other(self) -> Settings:
        """The sample that patches come from: the other class, from the same noise."""
        return replace(self, label=self.other)

    @property
    def sampling(self) -> dict[str, Any]:
        """How it is made, as `workbench.HookedDiT.resampled` takes it."""
        return {"sampler": self.sampler, "steps": self.steps, "guidance": self.guidance}

    def prompts(self, n: int = 1) -> dict[str, Any]:
        """Where it starts, as `app.work.prompts.load_prompts` takes it; of n samples, from the seed on."""
        label, other = (None if name == NO_CLASS else name for name in (self.label, self.other))
        return {"latents": {"classes": label, "other": [other], "n": n, "seed": self.seed}}

    def latents(self, n: int = 1) -> wb.Latents:
        """Where it starts."""
        return wb.latents(**self.prompts(n)["latents"])

    @property
    def details(self) -> tuple[tuple[str, str], ...]:
        """The sample, as figures and downloads name it."""
        guidance = "none" if self.guidance is None else f"{self.guidance:g}"
        made = (("sampler", self.sampler), ("steps", str(self.steps)), ("guidance", guidance))
        return (("class", self.label), ("seed", str(self.seed)), *made)


def class_name(label: str) -> str:
    """``class 3``, or `NO_CLASS`."""
    return label if label == NO_CLASS else f"class {label}"


def settings_widgets(model: Any) -> Settings:
    """The widgets."""
    names = [*map(str, (model.hf.config.id2label or {}).values()), NO_CLASS]
    columns = iter(st.columns([2, 2, 2, 2, 2, 2], vertical_alignment="bottom"))
    with next(columns):
        label = url_widgets.select("Class", names, CLASS)
    with next(columns):
        other = url_widgets.select("Other class", names, OTHER, default=names[min(1, len(names) - 1)], help=OTHER_HELP)
    with next(columns):
        seed = url_widgets.number("Seed of the noise", 0, MOST_SEED, SEED, 0)
    with next(columns):
        options = [name for name, (predicted, _) in SAMPLERS.items() if predicted == model.hf.config.prediction]
        sampler = url_widgets.select("Sampler", options, SAMPLER)
    with next(columns):
        steps = url_widgets.number("Steps", 1, MOST_STEPS, STEPS, USUAL_STEPS, help=STEPS_HELP)
    with next(columns):
        on = url_widgets.toggle("Guidance", GUIDED, True, help=GUIDANCE_HELP)
        options = {"label_visibility": "collapsed", "disabled": not on}
        factor = url_widgets.decimal("Guidance", -MOST_GUIDANCE, MOST_GUIDANCE, GUIDANCE, USUAL_GUIDANCE, **options)
    return Settings(label, other, seed, sampler, steps, factor if on else None)


def sampled_model(model_name: str, model: Any, settings: Settings, readout: str = "") -> Any:
    """The model, sampled so; with a classifier of that name as its readout."""
    classifier = models.load(readout) if readout else None
    return _sampled(model_name, settings.sampler, settings.steps, settings.guidance, readout, model, classifier)


@models.cleared_on_release
@st.cache_resource(max_entries=4, show_spinner=False)
def _sampled(
    model_name: str, sampler: str, steps: int, guidance: float | None, readout: str, _model: Any, _classifier: Any
) -> Any:
    sampling = {"sampler": sampler, "steps": steps, "guidance": guidance}
    return sampled_by(_model, sampling, _classifier)
