"""Every metric of ``workbench/patching/metrics`` passes `wb.testing.check_metric`, each in a test of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from workbench.patching.metric import Metric
from workbench.registry import METRICS
from workbench.testing import check_metric


@pytest.mark.parametrize("name", METRICS.names())
def test_a_metric_passes_its_checks(name: str) -> None:
    check_metric(name)


@pytest.mark.parametrize(
    ("score", "tokens", "message"),
    [
        (lambda logits, e, columns: logits[:, columns(e.wrong)[0]], lambda e: e.answer, "which tokens does not"),
        (lambda logits, e, columns: logits.sum(-1), lambda e: e.answer, "depends on logits that tokens does not name"),
        (lambda logits, e, columns: logits[:, 3] - logits[:, 3].mean(), None, "depends on the other rows"),
        (lambda logits, e, columns: logits[:, 3:5], None, "returned .*, expected one number per row"),
        (lambda logits, e, columns: logits[:, e.nonsense], None, "raises AttributeError"),
    ],
)
def test_what_is_wrong_with_a_metric_is_said_to_its_author(
    score: Callable[..., torch.Tensor], tokens: Callable[..., tuple[int, ...]] | None, message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        check_metric(Metric("mine", "logits", score, tokens))


def test_a_metric_without_a_unit_is_found() -> None:
    with pytest.raises(AssertionError, match=r"units is empty. Write 'logits'"):
        check_metric(Metric("mine", "", lambda logits, e, columns: logits[:, 0]))
