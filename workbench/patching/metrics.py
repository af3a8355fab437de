"""What an edit is measured by: one number for each example, from the logits of the last position.

A metric is one entry of `METRICS`, or a callable of your own ``f(logits [row, d_vocab], example) -> [row]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import BadInput, UnknownName, UsageError
from workbench.inputs.paired import PairedInputs


@dataclass(frozen=True)
class Example:
    """What a metric may know of one example besides the logits."""

    index: int
    answer: tuple[int, ...]
    wrong: tuple[int, ...]
    options: tuple[int, ...]
    reference: Float[Tensor, "d_vocab"] | None = None


@dataclass(frozen=True)
class Metric:
    """A named measure of one example.

    Attributes:
        name, units: for people.
        score: ``f(logits [row, n], example, at) -> [row]`` where ``at`` maps a token id to its column.
        tokens: the ids whose logits are needed, or None when all of them are.
        reference: whether the clean run's logits are needed.
    """

    name: str
    units: str
    score: Callable[[Float[Tensor, "row n"], Example, Callable[[tuple[int, ...]], Tensor]], Float[Tensor, "row"]]
    tokens: Callable[[Example], tuple[int, ...]] | None = None
    reference: bool = False

    def required_tokens(self, example: Example) -> tuple[int, ...] | None:
        """Ids whose logits the metric needs, sorted, or None for the whole vocabulary."""
        return None if self.tokens is None else tuple(sorted(set(self.tokens(example))))

    def __call__(self, logits: Float[Tensor, "row n"], example: Example) -> Float[Tensor, "row"]:
        wanted = self.required_tokens(example)

        def at(ids: tuple[int, ...]) -> Tensor:
            columns = ids if wanted is None else [wanted.index(i) for i in ids]
            return torch.tensor(columns, device=logits.device)

        scores = self.score(logits, example, at)
        if not isinstance(scores, Tensor) or scores.shape != logits.shape[:1]:
            found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise UsageError(
                f"The metric {self.name!r} gave {found} for {logits.shape[0]} rows of logits: expected one number a "
                f"row, a tensor of shape ({logits.shape[0]},)."
            )
        return scores


def _logit_difference(logits: Tensor, example: Example, at: Callable) -> Tensor:
    return logits[:, at(example.answer)].mean(-1) - logits[:, at(example.wrong)].mean(-1)


def _answer_probability(logits: Tensor, example: Example, at: Callable) -> Tensor:
    return logits.softmax(-1)[:, at(example.answer)].sum(-1)


def _answer_log_probability(logits: Tensor, example: Example, at: Callable) -> Tensor:
    return logits.log_softmax(-1)[:, at(example.answer)].logsumexp(-1)


def _accuracy(logits: Tensor, example: Example, at: Callable) -> Tensor:
    return torch.isin(logits.argmax(-1), at(example.answer)).to(logits.dtype)


def _options_of(example: Example) -> tuple[int, ...]:
    return tuple(dict.fromkeys(example.options or (*example.answer, *example.wrong)))


def _accuracy_among_options(logits: Tensor, example: Example, at: Callable) -> Tensor:
    options = _options_of(example)
    best = logits[:, at(options)].argmax(-1)
    right = torch.tensor([option in example.answer for option in options], device=logits.device)
    return right[best].to(logits.dtype)


def _kl(logits: Tensor, example: Example, at: Callable) -> Tensor:
    if example.reference is None:
        raise BadInput("The KL divergence needs the clean run's logits.")
    clean = example.reference.log_softmax(-1)
    return (clean.exp() * (clean - logits.log_softmax(-1))).sum(-1)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        # mean logit of the answers minus mean logit of the wrong answers
        Metric("logit_difference", "logits", _logit_difference, lambda e: (*e.answer, *e.wrong)),
        # 1 when the largest logit of the whole vocabulary is an answer's
        Metric("accuracy", "fraction right", _accuracy),
        # 1 when the largest logit among the options is an answer's
        Metric("accuracy_among_options", "fraction right", _accuracy_among_options, _options_of),
        # summed softmax probability of the answers
        Metric("answer_probability", "probability", _answer_probability),
        Metric("answer_log_probability", "nats", _answer_log_probability),
        # KL(clean ‖ edited) of the next-token distribution
        Metric("kl_divergence", "nats", _kl, reference=True),
    )
}


def metric_of(metric: str | Metric | Callable[[Tensor, Example], Tensor]) -> Metric:
    """The metric of that name, or a callable ``f(logits [row, d_vocab], example) -> [row]`` as one.

    Raises:
        UnknownName: no metric of that name; the nearest are suggested.
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        if metric not in METRICS:
            raise UnknownName("metric", metric, METRICS)
        return METRICS[metric]
    name = getattr(metric, "__name__", "metric")
    return Metric(name, name, lambda logits, example, _: metric(logits, example))


def check_metric(metric: str | Metric | Callable[..., Tensor], inputs: PairedInputs) -> Metric:
    """The metric, once it is clear that these inputs can be measured by it.

    Raises:
        UnknownName: no metric of that name.
        UsageError: it is one of ours that compares answers, and the inputs have none.
    """
    found = metric_of(metric)
    if isinstance(metric, str) and not found.reference and not all(inputs.answer):
        raise UsageError(f"{metric} needs answers, and texts have none: use wb.task(name) or wb.pairs(...).")
    return found
