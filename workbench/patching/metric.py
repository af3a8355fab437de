"""What a metric is: one number for each example, from a model's outputs: the logits of a text's last position or of
classes, or an image's feature.

Each file of `workbench.patching.metrics` is a metric; a callable ``f(logits [row, d_vocab], example) -> [row]`` of your
own is one, too. Logits in half precision reach a metric in float32: what it computes is not rounded to their precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench import arguments
from workbench.errors import UsageError
from workbench.inputs.paired import PairedInputs
from workbench.models.precision import at_least_float32
from workbench.registry import METRICS, TASKS

#: From token ids to their columns among the logits that a metric receives.
Columns = Callable[[tuple[int, ...]], Tensor]


@dataclass(frozen=True)
class Example:
    """What a metric receives of one example besides the logits; `reference` is at least in float32, like these."""

    index: int
    answer: tuple[int, ...]
    wrong: tuple[int, ...]
    options: tuple[int, ...]
    reference: Float[Tensor, "d_vocab"] | None = None

    def __post_init__(self) -> None:
        if self.reference is not None:
            object.__setattr__(self, "reference", at_least_float32(self.reference))


@dataclass(frozen=True)
class Metric:
    """A named measure of one example.

    Attributes:
        name, units: for people; the name is that of the file.
        score: ``f(logits [row, n], example, columns) -> [row]`` where ``columns(ids)`` are the columns of token ids.
            The logits are the model's own, in float32 if the model is in half precision.
        tokens: the ids whose logits are needed, or None when all of them are.
        reference: whether the clean run's logits are needed.
        answers: whether it reads the example's answers.
        wrong: whether it compares them with its wrong answers or options.
        reads: what it reads, which the model's outputs have to be.
        also_reads: what else they may be.
    """

    name: str
    units: str
    score: Callable[[Float[Tensor, "row n"], Example, Columns], Float[Tensor, "row"]]
    tokens: Callable[[Example], tuple[int, ...]] | None = None
    reference: bool = False
    answers: bool = True
    wrong: bool = False
    reads: str = "logits"
    also_reads: tuple[str, ...] = ()

    def can_read(self, outputs: str) -> bool:
        """Whether a model's outputs may be these."""
        return outputs == self.reads or outputs in self.also_reads

    def required_tokens(self, example: Example) -> tuple[int, ...] | None:
        """Ids whose logits the metric needs, sorted, or None for the whole vocabulary."""
        return None if self.tokens is None else tuple(sorted(set(self.tokens(example))))

    def __call__(self, logits: Float[Tensor, "row n"], example: Example) -> Float[Tensor, "row"]:
        required = self.required_tokens(example)

        def columns(ids: tuple[int, ...]) -> Tensor:
            if required is not None and (unnamed := set(ids) - set(required)):
                raise UsageError(
                    f"metric={self.name}: score reads the logit of token {min(unnamed)}, which tokens does not "
                    "return. Return it there."
                )
            return torch.tensor(ids if required is None else [required.index(i) for i in ids], device=logits.device)

        scores = self.score(at_least_float32(logits), example, columns)
        if not isinstance(scores, Tensor) or scores.shape != logits.shape[:1]:
            expected = f"one number per row, a tensor of shape ({logits.shape[0]},)"
            raise UsageError(f"metric={self.name}: returned {arguments.as_typed(scores)}, expected {expected}.")
        return scores


def resolve_metric(metric: str | Metric | Callable[[Tensor, Example], Tensor]) -> Metric:
    """The metric of that name, or a callable ``f(logits [row, d_vocab], example) -> [row]`` as one; the logits that it
    receives are at least in float32.

    Raises:
        UnknownName: no metric of that name; the nearest are suggested.
    """
    if isinstance(metric, Metric):
        return metric
    do = "A function f(logits, example) of your own is a metric too."
    if not callable(metric):
        return METRICS[arguments.one_of("metric", metric, METRICS.names(), do=do)]
    arguments.function_of(
        "metric", metric, 2, "a function of the logits and the example", do="Write f(logits, example)."
    )
    name = getattr(metric, "__name__", "metric")
    return Metric(name, name, lambda logits, example, _: metric(logits, example), answers=False)


def default_metric(inputs: PairedInputs, outputs_are: str = "logits", modality: str = "") -> str:
    """The metric where none is named: the distance from the clean run's image or features where a model's outputs are
    these; of classified samples what their classes allow; else the logit difference."""
    if outputs_are == "logits" and modality == "diffusion" and not all(inputs.wrong):
        return "answer_probability" if all(inputs.answer) else "kl_divergence"
    readers = (name for name in ("image_distance", "feature_cosine") if METRICS[name].can_read(outputs_are))
    return "logit_difference" if outputs_are == "logits" else next(readers, "logit_difference")


def metric_for(
    metric: str | Metric | Callable[..., Tensor] | None,
    inputs: PairedInputs,
    model: Any = None,
    argument: str = "task",
    outputs_are: str = "logits",
) -> Metric:
    """The metric, once it is clear that these inputs, and the model if there is one, can be measured by it; for None
    the `default_metric`. `outputs_are` is what a model's outputs are that is not at hand.

    Raises:
        UnknownName: no metric of that name.
        UsageError: the model's outputs are not what it reads; or it compares answers, and the inputs have none.
    """
    outputs = getattr(model, "outputs_are", outputs_are)
    if metric is None:
        metric = default_metric(inputs, outputs, getattr(model, "modality", ""))
    resolved = resolve_metric(metric)
    if isinstance(metric, str | Metric) and not resolved.can_read(outputs):
        why = f"the model's outputs are {outputs}"
        names = [name for name in METRICS.names() if METRICS[name].can_read(outputs)]
        do = f"Use {arguments.listing(names)}, or a function." if names else ""
        raise arguments.refusal("metric", resolved.name, f"a metric that reads {outputs}", do, because=why)
    if resolved.answers and not all(inputs.answer):
        typed: Any = [clean for clean, _ in inputs.texts] or inputs
        typed = typed[0] if isinstance(typed, list) and len(typed) == 1 else typed
        why, do = f"metric={resolved.name!r} compares them", "Use wb.task(name) or wb.pairs(...)."
        if getattr(model, "modality", "") == "vision":
            do = "Give answer=[...] to wb.images, or use pairs.answered_by(model)."
        if getattr(model, "modality", "") == "diffusion":
            do = "Give classes to wb.latents, or use another metric."
        if typed in TASKS.names():
            do = f"{typed!r} is a text here: use wb.task({typed!r})."
        raise arguments.refusal(argument, typed, "pairs with answers", do, because=why)
    if resolved.wrong and not all(a or b for a, b in zip(inputs.wrong, inputs.options, strict=True)):
        why, do = f"metric={resolved.name!r} compares answers with them", "Give wrong, or use another metric."
        if getattr(model, "modality", "") == "diffusion":
            do = "Give another class as other to wb.latents, or use another metric."
        raise arguments.refusal(argument, inputs, "pairs with wrong answers", do, because=why)
    size = getattr(model, "n_outputs", None)
    if size is not None and (
        beyond := [i for ids in (*inputs.answer, *inputs.wrong, *inputs.options) for i in ids if not 0 <= i < size]
    ):
        what = f"answers from 0 to {size - 1}, the model's outputs"
        raise arguments.refusal(argument, inputs, what, because=f"one of these is {beyond[0]}")
    return resolved
