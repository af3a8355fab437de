"""The four stages of path patching of the reuse study (Merullo et al. 2024, arXiv 2310.08744, section 3).

1. ``logits``: heads → final residual, at the end. Heads that work for the answer are the movers.
2. ``mover-value``: heads → value input of the movers, where the task says.
3. ``mover-query``: heads → query input of the movers, at the end: the inhibition heads.
4. ``earlier``: heads → value input of the inhibition heads, where the task says.

Corrupt values are inserted into the clean run ("noise"), and the other heads are frozen at the patched position.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from workbench import statistics
from workbench.core import Head
from workbench.errors import UsageError
from workbench.findings import Study
from workbench.inputs.paired import PairedInputs
from workbench.patching.path import path_patch
from workbench.patching.progress import Progress
from workbench.results.sweep import Sweep


@dataclass(frozen=True)
class Step:
    """One stage: into which input, and of which heads: those of the stage `receivers`, or the logits for None."""

    name: str
    into: Literal["q", "k", "v"] = "q"
    receivers: str | None = None


STEPS: tuple[Step, ...] = (
    Step("logits"),
    Step("mover-value", "v", "logits"),
    Step("mover-query", "q", "logits"),
    # Values, not keys: at the inhibition heads the signal of a repeated name travels in the values (Wang et al. 2022).
    Step("earlier", "v", "mover-query"),
)


@dataclass(frozen=True)
class Stage:
    """One stage of one task: the sweep over senders, who received, and the named position of the senders."""

    task: str
    name: str
    position: str
    receivers: tuple[Head, ...] | None
    sweep: Sweep

    @property
    def effect(self) -> Float[np.ndarray, "layer head"]:
        """Mean effect of every sender, ``mean(delta) / mean(source − base)``; NaN for heads that are none.

        Positive: corrupting the head moves the metric towards the corrupt run. The gate has seen to it that the
        denominator is not 0.
        """
        gap = self.sweep.gap
        if gap is None:
            raise UsageError("A stage of path patching has a source run; this sweep has none.")
        return self.sweep.mean_delta / gap.mean()


@dataclass(frozen=True)
class Stages:
    """The stages of one task that were run, in their order, and why others were not."""

    task: str
    done: Mapping[str, Stage]
    left_out: Mapping[str, str]

    @property
    def scores(self) -> dict[str, Float[np.ndarray, "layer head example"]]:
        """The change of the metric of each example, by stage: what overlaps are resampled from."""
        return {name: np.asarray(stage.sweep.delta) for name, stage in self.done.items()}


def top_receivers(stage: Stage, percent: float) -> tuple[Head, ...]:
    """The heads that receive in a later stage: the ``max(1, round(percent · L · H))`` largest *positive* effects.

    As many as a stage's in-circuit heads, but of one sign: movers and not negative movers, as in the study. Heads of
    layer 0 receive from nobody and are passed over.
    """
    effect = stage.effect
    count = statistics.top_count(percent, effect.size)
    heads = [Head(layer, index) for layer, index in np.ndindex(*effect.shape)]
    usable = [h for h in heads if h.layer > 0 and effect[h.layer, h.index] > 0]
    return tuple(sorted(usable, key=lambda h: -effect[h.layer, h.index])[:count])


#: Path patching of one stage into some receivers.
Patch = Callable[[Step, "tuple[Head, ...] | None"], Sweep]


def run_stages(
    model: Any,
    inputs: PairedInputs,
    positions: Mapping[str, str],
    percent: float,
    *,
    progress: Callable[[str, int], object] = lambda stage, examples: None,
    ready: Callable[[Stage], None] | None = None,
) -> Stages:
    """Run the stages that a task has.

    Args:
        positions: stage → the named position at which its senders are patched (`Task.stages`).
        percent: how many heads become receivers, see `top_receivers`.
        progress: called with the stage's name and how many examples of it are finished.
        ready: called with each stage as soon as it is finished.
    """

    def patch(step: Step, receivers: tuple[Head, ...] | None) -> Sweep:
        def tell(finished: int, *_: object) -> None:
            progress(step.name, finished)

        return patched(model, inputs, step, receivers, positions[step.name], tell)

    return search(inputs.name, positions, percent, patch, ready)


def stages_of(study: Study, pairs: PairedInputs, percent: float, only: Collection[str] | None = None) -> Stages:
    """`run_stages` of a task's own stages (or of those named in `only`), with the study's progress."""

    def tell(stage: str, prompts: int) -> None:
        study.progress(prompts, len(pairs), f"path patching on {pairs.name}: {stage}")

    declared = study.task(pairs.name, len(pairs)).stages
    positions = {stage: position for stage, position in declared.items() if only is None or stage in only}
    return run_stages(study.model, pairs, positions, percent, progress=tell)


def patched(
    model: Any,
    inputs: PairedInputs,
    step: Step,
    receivers: tuple[Head, ...] | None,
    position: str,
    progress: Progress | None = None,
) -> Sweep:
    """One stage: the effect of every head along its direct paths to the receivers."""
    return path_patch(
        model,
        inputs,
        receivers,
        into=step.into if receivers is not None else None,
        position=position,
        direction="noise",
        freeze="position",
        progress=progress,
    )


def search(
    task: str,
    positions: Mapping[str, str],
    percent: float,
    patch: Patch,
    ready: Callable[[Stage], None] | None = None,
) -> Stages:
    """The stages that a task has, each one's top heads received by the next; `patch` runs one."""
    done: dict[str, Stage] = {}
    left_out: dict[str, str] = {}
    for step in STEPS:
        if step.name not in positions:
            left_out[step.name] = "not applicable to this task"
            continue
        receivers = None
        if step.receivers is not None:
            if step.receivers not in done:
                left_out[step.name] = f"the stage {step.receivers!r} was not run"
                continue
            receivers = top_receivers(done[step.receivers], percent)
            if not receivers:
                left_out[step.name] = (
                    f"the stage {step.receivers!r} found no head above layer 0 that works for the answer"
                )
                continue
        done[step.name] = Stage(task, step.name, positions[step.name], receivers, patch(step, receivers))
        if ready:
            ready(done[step.name])
    return Stages(task, done, left_out)


def work(inputs: PairedInputs, positions: Mapping[str, str], n_layers: int, n_heads: int) -> dict[str, int]:
    """A rough amount of work of each stage, for the time left: sender rows × layers × positions, over all examples."""
    rows = n_heads * n_layers * n_layers // 2
    amounts = {}
    for step in STEPS:
        if step.name in positions:
            carried = sum(
                len(ids) - at[positions[step.name]] for ids, at in zip(inputs.clean, inputs.positions, strict=True)
            )
            amounts[step.name] = rows * carried * (1 if step.receivers is None else 2)
    return amounts
