"""A cache that is asked for is never silently left out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import workbench as wb
from tests.families import hooked, paired
from workbench.errors import UsageError


@pytest.mark.parametrize("call", [wb.sweep, wb.path_patch, wb.record])
def test_a_cache_is_refused_until_there_is_one(call: Callable[..., object]) -> None:
    with pytest.raises(UsageError, match="not cached on disk yet"):
        call(hooked("llama"), paired(), cache="somewhere")
