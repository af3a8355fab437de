"""What ``workbench patch`` answers: computed, or read from the cache, where no model is needed for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from workbench.cli.image_options import ImageRequest
from workbench.cli.latent_options import LatentRequest
from workbench.cli.progress import Display

if TYPE_CHECKING:
    from workbench.results.sweep import Sweep


@dataclass(frozen=True)
class Patched:
    """A sweep, with what is text_fields of it.

    Attributes:
        document: what `Sweep.json` gives.
        task_check: `workbench.cli.task_check.TaskCheck` as a mapping.
        warning: of the task check.
        screened: of a screen, what it was and its cells.
    """

    sweep: Sweep
    document: dict[str, Any]
    task_check: dict[str, Any]
    warning: str
    screened: dict[str, Any]


def read_or_compute(
    model: str,
    operators: Mapping[str, str],
    inputs: Any,
    arguments: Mapping[str, Any],
    screen: str | None,
    confirm: float,
    display: Display,
) -> Patched:
    """The answer from the cache where it was given before.

    Args:
        inputs: a task, pairs, an `ImageRequest` or a `LatentRequest`.
        arguments: those of `workbench.sweep`; a metric of None is chosen by what the model's outputs are.
        screen: the method of a screen, None for none.
        confirm: the share of cells that a screen runs exactly.
    """
    from workbench.cache import store_of
    from workbench.cli.stored_answer import StoredAnswer
    from workbench.results.sweep import Sweep

    facts = ["patch", arguments, operators, screen, confirm, _written(inputs)]
    classifier = inputs.classifier if isinstance(inputs, LatentRequest) else None
    stored = StoredAnswer(store_of(None), facts, model, *([classifier] if classifier else []))
    if (earlier := stored.read()) is not None:
        answer, arrays = earlier
        display.say("From the cache: the whole answer.")
        return Patched(Sweep(**{"source": None, **arrays}, **answer.pop("sweep")), **answer)
    with stored.noting_warnings():
        result = _compute(model, operators, inputs, arguments, screen, confirm, display)
    sweep = result.sweep
    arrays = {name: x for name in ("values", "base", "source") if (x := getattr(sweep, name)) is not None}
    fields = {name: getattr(sweep, name) for name in ("axes", "labels", "info")}
    text_fields = {name: value for name, value in vars(result).items() if name != "sweep"}
    stored.write({"sweep": fields, **text_fields}, arrays)
    return result


def _compute(
    model: str,
    operators: Mapping[str, str],
    inputs: Any,
    arguments: Mapping[str, Any],
    screen: str | None,
    confirm: float,
    display: Display,
) -> Patched:
    import workbench as wb
    from workbench.cli.task_check import TaskCheck, check_task, choices_of
    from workbench.io.files import jsonable

    loaded, screened = wb.load(model, operators=operators or None, progress=display), {}
    is_text = False
    if isinstance(inputs, ImageRequest):
        arguments, inputs = _for_images(loaded, arguments, inputs)
    elif isinstance(inputs, LatentRequest):
        loaded = inputs.resampled(loaded, arguments["steps"], display)
        arguments, inputs = _for_samples(loaded, arguments, inputs)
    else:
        is_text = True
    if screen is None:
        sweep = wb.sweep(loaded, inputs, progress=display, **arguments)
    else:
        result = wb.screen(loaded, inputs, method=screen, confirm=confirm, progress=display, **arguments)
        sweep = result.exact
        screened = {"screen": result.words, "cells": jsonable(result.table().to_dict("records"))}
    if is_text:
        check = check_task(sweep, inputs.examples(loaded.tokenizer))
    elif "answers" in sweep.info["inputs"]:  # the model's own, which it prefers by definition
        check = TaskCheck()
    else:
        check = check_task(sweep, choices_of(loaded.prepare(inputs)))
    return Patched(sweep, sweep.json(), asdict(check), check.warning, screened)


def _for_images(model: Any, arguments: Mapping[str, Any], request: ImageRequest) -> tuple[dict[str, Any], Any]:
    """The arguments with a metric, and the images with answers where the metric compares some."""
    from workbench.registry import METRICS

    outputs = getattr(model, "outputs_are", "logits")
    metric = arguments["metric"] or ("logit_difference" if outputs == "logits" else "feature_cosine")
    needs_answers = METRICS[metric].answers and METRICS[metric].can_read(outputs)
    return {**arguments, "metric": metric}, request.for_model(model, needs_answers)


def _for_samples(model: Any, arguments: Mapping[str, Any], request: LatentRequest) -> tuple[dict[str, Any], Any]:
    """The arguments with a metric, and what is sampled, prepared once."""
    from workbench.patching.metric import default_metric

    inputs = model.prepare(request.latents(model))
    metric = arguments["metric"] or default_metric(inputs, model.outputs_are, model.modality)
    return {**arguments, "metric": metric}, inputs


def _written(inputs: Any) -> list[Any]:
    """A task, pairs or images, JSON-able. What a task draws is in our own files."""
    if isinstance(inputs, ImageRequest | LatentRequest):
        return inputs.written()
    from workbench.inputs.pairs import Task

    if isinstance(inputs, Task):
        return ["task", inputs.name, inputs.n, inputs.seed, dict(inputs.settings)]
    return ["pairs", asdict(inputs)]
