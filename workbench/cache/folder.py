"""Where the cache is, how large it may grow, and whether there is one at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from workbench.errors import UsageError
from workbench.io.user_folder import switched_off_everywhere, user_folder

#: The default budget: this many bytes, or a fifth of the disk's free space if that is less.
MOST = 20 * 10**9

_OFF: ContextVar[bool] = ContextVar("workbench_cache_off", default=False)


def default() -> Path:
    """The folder of activations and results, unless another is named."""
    return user_folder() / "activations"


def switched_off() -> bool:
    """Whether ``WORKBENCH_CACHE=off`` or `off` says that calls which name no cache have none."""
    return _OFF.get() or switched_off_everywhere()


@contextmanager
def off() -> Iterator[None]:
    """Within the block, calls that name no cache have none."""
    token = _OFF.set(True)
    try:
        yield
    finally:
        _OFF.reset(token)


def budget(folder: Path, used: int) -> int:
    """Bytes that `folder` may hold: ``$WORKBENCH_CACHE_GB``, else `MOST` or a fifth of the free disk.

    Args:
        used: bytes that it holds now; they count as free.

    Raises:
        UsageError: the variable holds no number.
    """
    setting = os.environ.get("WORKBENCH_CACHE_GB")
    if setting:
        try:
            size = float(setting)
        except ValueError:
            size = -1.0
        if not 0 <= size < float("inf"):
            raise UsageError(f"WORKBENCH_CACHE_GB={setting!r}: expected a number of gigabytes, 0 or more.")
        return int(size * 1e9)
    return min(MOST, (shutil.disk_usage(folder).free + used) // 5)
