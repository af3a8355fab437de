"""Every operator of ``workbench/attention/operators`` passes `wb.testing.check_operator`: as by default, with each flag
and word changed, and with sizes small enough that a few positions show what they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from workbench.attention.operator import operator
from workbench.errors import UsageError
from workbench.registry import OPERATORS
from workbench.testing import check_operator

#: Sizes that show in a few positions, and the smallest; by operator.
SIZES: Mapping[str, list[dict[str, Any]]] = {
    "bi-level-routing": [{"regions": 2, "top_k": 1}, {"regions": 2, "top_k": 3}],
    "block-mixture": [{"block": 4, "top_k": 2}, {"block": 3, "top_k": 1}, {"block": 1, "top_k": 2}],
    "delta": [{"beta": 1.0}],
    "gated-delta": [{"beta": 1.0, "decay": 0.7}, {"decay": 1.0}],
    "neighbourhood": [
        {"window": 3},
        {"window": 4, "stride": 2},
        {"window": 4, "stride": 4},
        {"window": 3, "dilation": 2},
        {"window": 2, "causal": True},
    ],
    "sliding-window": [{"window": 3}, {"window": 1}, {"window": 4, "sinks": 2}, {"window": 1, "sinks": 1}],
    "video-block-mixture": [{"select": "top-k", "top_k": 1}, {"threshold": 0}],
}


def variants(name: str) -> Iterator[dict[str, Any]]:
    """The defaults; each flag the other way; each other word; the sizes above."""
    bound = operator(name)
    yield {}
    for key, setting in bound.operator.settings.items():
        words = [word for word in setting.choices if word != setting.default]
        for value in [not setting.default] if setting.kind == "flag" else words:
            try:
                operator(name, **{key: value})
            except UsageError:  # it goes together with another setting alone
                continue
            yield {key: value}
    yield from SIZES.get(name, [])


def names() -> list[str]:
    return [str(operator(name, **settings)) for name in OPERATORS.names() for settings in variants(name)]


@pytest.mark.parametrize("name", names())
def test_an_operator_passes_its_checks(name: str) -> None:
    check_operator(name)
