"""Where the cache is, how large it may grow, and whether there is one at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import platformdirs

from workbench.errors import UsageError

#: The default budget: this many bytes, or a fifth of the disk's free space if that is less.
MOST = 20 * 10**9

#: What ``WORKBENCH_CACHE`` may say.
ON, OFF = ("", "on", "1", "yes", "true"), ("off", "0", "no", "false")

_OFF: ContextVar[bool] = ContextVar("workbench_cache_off", default=False)


def user_folder() -> Path:
    """``$WORKBENCH_CACHE_DIR``, else the platform's user cache directory of the workbench."""
    setting = os.environ.get("WORKBENCH_CACHE_DIR")
    return Path(setting or platformdirs.user_cache_dir("attention-workbench", appauthor=False)).expanduser()


def default() -> Path:
    """The folder of activations and results, unless another is named."""
    return user_folder() / "activations"


def switched_off() -> bool:
    """Whether ``WORKBENCH_CACHE=off`` or `off` says that calls which name no cache have none."""
    return _OFF.get() or switched_off_everywhere()


def switched_off_everywhere() -> bool:
    """Whether ``WORKBENCH_CACHE=off`` says that nothing is written to the user's folder.

    Raises:
        UsageError: the variable says neither on nor off.
    """
    setting = os.environ.get("WORKBENCH_CACHE", "").lower()
    if setting not in (*ON, *OFF):
        raise UsageError(
            f"WORKBENCH_CACHE={setting!r}: expected on or off. Use WORKBENCH_CACHE_DIR to name the folder."
        )
    return setting in OFF


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
