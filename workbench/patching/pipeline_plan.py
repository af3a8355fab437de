"""A sweep of a pipeline, resolved: its edits, its runs, and the proof that they may enter at the edited step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench import arguments
from workbench.core import Edit, check_kind_of_site
from workbench.errors import HookError, UsageError
from workbench.io.local_names import local_name
from workbench.models.diffusion.in_place import HookedDiffusers
from workbench.models.diffusion.replay import RecordedCalls
from workbench.models.precision import same_tensor
from workbench.models.steps import resolve_steps
from workbench.patching.metric import Metric, resolve_metric
from workbench.patching.pipeline_images import Images, images_of, scores_of
from workbench.patching.resolve import resolve_layers
from workbench.patching.settings import SweepSettings

Run = Callable[[torch.Generator], Any]


@dataclass(eq=False)
class PipelinePlan:
    """A sweep of a pipeline, resolved.

    Attributes:
        resumes: whether runs enter at the edited step.
        cells: the edits, once the number of steps is known.
    """

    model: HookedDiffusers
    settings: SweepSettings
    metric: Metric | Callable[[Tensor], Tensor]
    layers: tuple[int, ...]
    heads: tuple[int | None, ...]
    resumes: bool = True
    n_steps: int = 0
    cells: tuple[Edit, ...] = ()
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: HookedDiffusers, settings: SweepSettings, metric: Any) -> PipelinePlan:
        """Checked arguments."""
        if "position" in settings.by:
            raise arguments.refusal("by", settings.by, "'step', 'head' or 'layer'")
        check_kind_of_site(settings.edit, settings.site, "edit")
        stack = model.hook_name(settings.site, 0).partition(".")[0]
        layers = resolve_layers(settings.layers, model.n_layers[stack])
        names = [model.hook_name(settings.site, layer) for layer in layers]
        heads: tuple[int | None, ...] = (None,)
        if "head" in settings.by:
            if not model.has_heads(names[0]):
                raise arguments.refusal("by", "head", "'layer' or 'step'", because=f"{names[0]} has no heads")
            heads = tuple(range(model.n_heads))
            if settings.heads is not None:
                heads = arguments.indices("heads", settings.heads, model.n_heads, "head")
        elif settings.heads is not None:
            why = "this sweep has no head axis"
            raise arguments.refusal("heads", settings.heads, "None", "Sweep with by='head'.", because=why)
        if isinstance(metric, str | Metric):
            metric = resolve_metric(metric)
            if metric.reads != "pixels":
                raise arguments.refusal("metric", metric.name, "a metric of pixels, or a function of the images")
        elif callable(metric):
            arguments.function_of("metric", metric, 1, "a function of the images", do="Write f(images).")
        else:
            resolve_metric(metric)
        measured: Any = metric
        return cls(model, settings, measured, layers, heads)

    def resolve_steps(self, calls: RecordedCalls) -> None:
        """The cells, from the steps of a run."""
        if self.n_steps and calls.n_steps != self.n_steps:
            raise UsageError(f"run: two seeds have {self.n_steps} and {calls.n_steps} steps. Take one schedule.")
        if not calls.calls:
            raise UsageError("run: expected a call of the model's transformer, and there was none.")
        if self.cells:
            return
        settings, self.n_steps = self.settings, calls.n_steps
        selected, apart = resolve_steps("steps", settings.steps, self.n_steps), "step" in settings.by
        self.labels = {"step": tuple(map(str, selected))} if apart else {}
        self.labels["layer"] = tuple(map(str, self.layers))
        if "head" in settings.by:
            self.labels["head"] = tuple(map(str, self.heads))
        own = {"kind": settings.edit, "factor": settings.factor, "vector": settings.vector, "u": settings.u}
        self.cells = tuple(
            Edit(settings.site, layer, head, step=step, **own)
            for step, layer, head in product(selected if apart else [selected], self.layers, self.heads)
        )

    # --- runs ---------------------------------------------------------------------------------------------------------

    def recorded(self, run: Run, seed: int) -> tuple[Images, RecordedCalls]:
        """An unedited run, and the transformer's calls in it."""
        calls, model = RecordedCalls(), self.model
        before = model.sampling

        def record(forward: Callable[[], Any], named: Any, step: int) -> Any:
            return calls.record(forward, named, model.step)

        with model.answered_by(record):
            images = images_of(run(_generator(seed)))
            if model.sampling > before + 1:
                raise UsageError("run: expected one sampling, and there were several. Call the pipeline once.")
        return images, calls

    def of_source(self, source: Run, seed: int) -> tuple[Images, dict[str, Tensor]]:
        """The source's images, and its activations at the edited sites."""
        names = sorted({self.model.hook_name(self.settings.site, layer) for layer in self.layers})
        steps = sorted({step for cell in self.cells for step in _steps_of(cell)})
        with self.model.recording(names, steps=steps) as activations:
            images = images_of(source(_generator(seed)), "source")
            if self.model.step + 1 != self.n_steps:
                raise UsageError(
                    f"source: it has {self.model.step + 1} steps, and run {self.n_steps}. Take one schedule."
                )
        return images, activations

    def edited(self, run: Run, seed: int, cell: Edit, calls: RecordedCalls, source: Any) -> Images:
        """A run with one edit."""
        start = min(_steps_of(cell)) if self.resumes else 0
        with self.model.answered_by(calls.until(start)), self.model.hooks([cell], source=source):
            return images_of(run(_generator(seed)))

    def prove(self, run: Run, seed: int, images: Images, calls: RecordedCalls) -> None:
        """Find out whether runs that enter at the edited steps give the same images.

        Raises:
            UsageError: two whole runs do not.
        """
        starts = sorted({min(_steps_of(cell)) for cell in self.cells} - {0})
        try:
            for start in starts:
                with self.model.answered_by(calls.until(start)):
                    self.resumes = self.resumes and same_tensor(images_of(run(_generator(seed))), images)
        except HookError:
            self.resumes = False
        if self.resumes and starts:
            return
        if not same_tensor(self.recorded(run, seed)[0], images):
            do = "Pass the generator on to the pipeline, and draw nothing elsewhere."
            raise UsageError(f"run: expected the same images from the same seed, and two runs differ. {do}")
        if not self.resumes:
            kind = type(self.model.pipeline or self.model.hf).__name__
            warnings.warn(
                f"{kind}: a run that enters at a step gives other images, so the sweep makes whole runs (exact, but "
                "slower).",
                stacklevel=4,
            )

    # --- results ------------------------------------------------------------------------------------------------------

    def scores(self, images: Images, reference: Images) -> Float[np.ndarray, " image"]:
        """The metric of each image."""
        return scores_of(self.metric, images, reference)

    def info(self) -> dict[str, Any]:
        """What the result reports."""
        model, metric = self.model, self.metric
        name = metric.name if isinstance(metric, Metric) else getattr(metric, "__name__", "metric")
        scheduler = getattr(model.pipeline, "scheduler", None)
        names = ("torch", "diffusers")
        return {
            **self.settings.as_info(),
            "model": local_name(str(getattr(model.pipeline, "name_or_path", None) or type(model.hf).__name__)),
            "task": type(model.pipeline).__name__ if model.pipeline is not None else "pipeline",
            "by": list(self.labels),
            "metric": name,
            "units": metric.units if isinstance(metric, Metric) else name,
            "scheduler": None if scheduler is None else type(scheduler).__name__,
            "steps": sorted({step for cell in self.cells for step in _steps_of(cell)}),
            "n_steps": self.n_steps,
            "exact": "resumed at the step" if self.resumes else "full runs",
            "versions": {name: version(name) for name in names},
        }


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _steps_of(cell: Edit) -> tuple[int, ...]:
    return cell.step if isinstance(cell.step, tuple) else () if cell.step is None else (cell.step,)
