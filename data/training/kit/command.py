"""What ``workbench train NAME`` does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from workbench.errors import UsageError

from . import card
from .recipe import Recipe
from .training import STEPS, Progress, train


def train_into(recipe: Recipe, folder: Path, progress: Progress) -> dict[str, Any]:
    """Train a model into a folder, from the newest checkpoint there, and write its card; what the command answers.

    Raises:
        UsageError: the folder holds a finished model, other files, or checkpoints of another recipe.
    """
    if card.finished(folder) is not None:
        raise UsageError(f"--into={folder}: it holds a trained model. Delete it, or train into another folder.")
    if folder.exists() and (not folder.is_dir() or any(path.name != STEPS for path in folder.glob("[!.]*"))):
        raise UsageError(f"--into={folder}: expected a new folder, or one with the checkpoints of an earlier run.")
    network = train(recipe, folder, progress)
    assert network is not None
    progress(0, 0, f"measuring {recipe.name}")
    result = card.write(recipe, network, folder)
    shutil.rmtree(folder / STEPS, ignore_errors=True)
    measured = [
        {"measure": name, "value": one.value, "at_least": one.at_least, "what": one.what}
        for name, one in result.measured.items()
    ]
    return {
        "model": recipe.name,
        "folder": str(folder),
        "sha256": result.sha256,
        "parameters": result.parameters,
        "measured": measured,
    }
