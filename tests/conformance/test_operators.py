"""Every operator of ``workbench/attention/operators`` passes `wb.testing.check_operator`: as by default, with each flag
and word changed, and with sizes small enough that a few positions show what they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from workbench.attention.operator import operator
from workbench.errors import UsageError
from workbench.registry import OPERATORS
from workbench.testing import check_operator
from workbench.testing.operator_case import LONG

#: Sizes that show in a few positions, and the smallest; by operator.
SIZES: Mapping[str, list[dict[str, Any]]] = {
    "bi-level-routing": [{"regions": 2, "top_k": 1}, {"regions": 2, "top_k": 3}],
    "alternating-subregion": [{"groups": 2}, {"groups": 3, "run": 2}, {"groups": 2, "stream": 2}],
    "block-linear": [{"block": 4}, {"block": 1}, {"block": 5, "rotary": "numerator"}],
    "block-mixture": [{"block": 4, "top_k": 2}, {"block": 3, "top_k": 1}, {"block": 1, "top_k": 2}],
    "context-causal": [{"block": 4}, {"block": 4, "context": 3}, {"block": 1, "context": 0}],
    "delta": [{"beta": 1.0}],
    "gated-delta": [{"beta": 1.0, "decay": 0.7}, {"decay": 1.0}],
    "joint-block": [{"top_k": 2}, {"top_k": 1, "scope": "all"}],
    "memora": [{"eta": 2.0, "total": 3.0}],
    "moneta": [{"p": 2, "q": 2}, {"q": 1.5, "retention": "mirror"}, {"p": 1, "q": 1.5}],
    "neighbourhood": [
        {"window": 3},
        {"window": 4, "stride": 2},
        {"window": 4, "stride": 4},
        {"window": 3, "dilation": 2},
        {"window": 2, "causal": True},
    ],
    "pattern-reordered": [{"block": 4}],
    "proxy-heads": [{"block": 4}],
    "pyramid-sparse": [{"query_block": 8, "key_block": 4, "tile": 4}],
    "recurrent-chunks": [{"chunk": 4}, {"chunk": 1}, {"chunk": 200}],
    "simplified-linear": [{"kernel": 1}, {"kernel": 3}],
    "sliding-window": [{"window": 3}, {"window": 1}, {"window": 4, "sinks": 2}, {"window": 1, "sinks": 1}],
    "yaad": [{"delta": None}],
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


def long() -> list[str]:
    return [name for name in OPERATORS.names() if operator(name).check_length > LONG]


@pytest.mark.parametrize("name", long())
def test_an_operator_of_many_positions_passes_its_checks_with_small_ones_by_default(name: str) -> None:
    """What it declares not to be so is tried with defaults alone, and those do not show in few positions."""
    small, original = SIZES[name][0], OPERATORS[name]
    settings = {
        key: replace(setting, default=small.get(key, setting.default)) for key, setting in original.settings.items()
    }
    changed = replace(original, settings=settings)
    assert changed.with_settings().check_length <= LONG
    check_operator(changed)


@pytest.mark.parametrize("grid", [(12,), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize("settings", [{"window": 2}, {"window": 3, "causal": True}], ids=str)
def test_neighbourhoods_pass_their_checks_on_grids(grid: tuple[int, ...], settings: dict[str, Any]) -> None:
    on_grid = replace(OPERATORS["neighbourhood"], trial=lambda batch, length: {"grid": grid, "before": 1})
    check_operator(on_grid, **settings)
