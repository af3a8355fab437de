"""The user's own folder, in which the cache, models, runs and uploads are."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from workbench.errors import UsageError

#: What ``WORKBENCH_CACHE`` may say.
ON, OFF = ("", "on", "1", "yes", "true"), ("off", "0", "no", "false")


def user_folder() -> Path:
    """``$WORKBENCH_CACHE_DIR``, else the platform's user cache directory of the workbench."""
    setting = os.environ.get("WORKBENCH_CACHE_DIR")
    return Path(setting or platformdirs.user_cache_dir("attention-workbench", appauthor=False)).expanduser()


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
