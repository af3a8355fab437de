"""`check_metric`: what every metric must do, as messages for its author."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from workbench.errors import WorkbenchError
from workbench.patching.metric import Example, Metric
from workbench.registry import METRICS
from workbench.testing.problems import raise_problems, run_in_order

#: Logits of so many rows over a vocabulary of so many tokens, which may be a square image.
ROWS, VOCABULARY = 20, 36


def check_metric(metric: Metric | str) -> None:
    """Check a metric, on random logits, as the test suite checks those of ``workbench/patching/metrics``.

    It has a name and a unit; it gives one number for each row, each from its own row; it names every token whose logits
    it reads.

    Args:
        metric: a metric, or the name of one.

    Raises:
        AssertionError: everything that is wrong, each with what to write instead.

    Examples:
        >>> wb.testing.check_metric("logit_difference")
    """
    if isinstance(metric, str):
        metric = METRICS[metric]
    if not isinstance(metric, Metric):
        raise AssertionError(f"check_metric takes a metric or the name of one, not {type(metric).__name__}.")
    checks = (partial(_describes_itself, metric), partial(_scores_rows, metric), partial(_names_its_tokens, metric))
    raise_problems(f"The metric {metric.name!r}", run_in_order(checks))


def _example() -> tuple[torch.Tensor, Example]:
    logits = torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(0))
    return logits, Example(0, answer=(3, 7), wrong=(11,), options=(3, 7, 11, 19), reference=logits[0])


def _describes_itself(metric: Metric) -> Iterator[str]:
    for name, value, example in (("name", metric.name, "the name of its file"), ("units", metric.units, "'logits'")):
        if not isinstance(value, str) or not value:
            yield f"{name} is empty. Write {example}."


def _scores_rows(metric: Metric) -> Iterator[str]:
    logits, example = _example()
    try:
        scores = replace(metric, tokens=None)(logits, example)
    except (WorkbenchError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        yield f"score(logits [{ROWS}, {VOCABULARY}], example, columns) raises {type(error).__name__}: {error}"
        return
    alone = torch.cat([replace(metric, tokens=None)(row[None], example) for row in logits])
    if not torch.allclose(scores.double(), alone.double(), atol=1e-5, equal_nan=True):
        yield "a row's score depends on the other rows. They are other cells of a sweep: use each row alone."


def _names_its_tokens(metric: Metric) -> Iterator[str]:
    logits, example = _example()
    required = metric.required_tokens(example)
    if required is None:
        return
    on_all = replace(metric, tokens=None)(logits, example)
    try:
        on_required = metric(logits[:, list(required)], example)
    except WorkbenchError as error:
        yield str(error)
        return
    if not torch.allclose(on_all.double(), on_required.double(), atol=1e-5, equal_nan=True):
        yield "its score depends on logits that tokens does not name. Name those tokens, or leave tokens out."
