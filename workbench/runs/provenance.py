"""Where numbers come from: versions, machine, git commit, peak memory. No environment variable is recorded."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

#: Distributions whose version can change a number.
PACKAGES = ("attention-workbench", "torch", "transformers", "transformer-lens", "numpy", "scipy", "pandas")


def provenance() -> dict[str, Any]:
    """Versions, platform and commit, JSON-able. Reads the packages' metadata and imports none of them."""
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": _torch_threads(),
        "git": git_state(),
    }


def versions() -> dict[str, str | None]:
    """The version of Python and of each of `PACKAGES`; None where it is not installed."""
    installed: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = None
    return installed


def git_state(folder: str | os.PathLike[str] = ".") -> dict[str, Any] | None:
    """``{"commit": …, "dirty": …}`` of the repository around `folder`; None without git or a commit.

    Dirty means that tracked files differ from the commit.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def peak_memory() -> int | None:
    """Largest resident size of this process so far, in bytes; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _torch_threads() -> int | None:
    torch = sys.modules.get("torch")
    return None if torch is None else torch.get_num_threads()


def _git(folder: str | os.PathLike[str], *arguments: str) -> str | None:
    # Optional locks off: reading the state must not write into somebody's repository.
    command = ["git", "--no-optional-locks", "-C", os.fspath(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
