"""A writer of notes, as a function and as a process: ``python -m tests.workbench.head_notes.writer FOLDER LAYER``."""

from __future__ import annotations

import sys
from pathlib import Path

from workbench.head_notes.notes import Notes
from workbench.head_notes.subject import Subject


def some_notes(folder: Path, name: str = "m", weights: str = "0" * 40) -> Notes:
    """Those of a model of 8 layers of 8 heads that does not exist."""
    return Notes(Subject(name, lambda: (weights, ""), {}, 8, 8), folder)


def write(folder: Path, layer: int) -> None:
    """Give tags to the heads of a layer, and write two heads that others write, too."""
    notes = some_notes(folder)
    for i in range(40):
        notes.tag(f"{layer}.{i % 8}", f"tag {i}")
        notes.write("7.7", f"{layer} {i}")
        notes.tag("7.6", f"of {layer}")


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
