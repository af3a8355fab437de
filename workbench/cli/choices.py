"""Options that several verbs share, and checks of names before anything slow is imported or loaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.errors import UnknownName
from workbench.models import catalog

Model = Annotated[
    str, typer.Option("--model", metavar="M", help="Name (workbench models list), directory, .gguf file or hub id.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="S", min=0, help="Seed of every draw.")]


def check_name(kind: str, given: str, known: Iterable[str], hint: str = "") -> str:
    """`given` when it is known; `UnknownName`, with the nearest names, otherwise."""
    known = list(known)
    if given not in known:
        raise UnknownName(kind, given, known, hint)
    return given


def check_model(name: str) -> str:
    """Refuse at once a plain word that is no name in the catalogue and nothing on the disk."""
    if "/" in name or name.endswith(".gguf") or Path(name).exists():
        return name
    return check_name("model", name, catalog.entries(), "A directory, a .gguf file or a hub id (owner/name) works too.")


def words(text: str | None) -> list[str]:
    """``"S1, end"`` as ``["S1", "end"]``."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def place(word: str) -> Any:
    """A position: an index where it is a number, else a name."""
    return int(word) if word.lstrip("-").isdecimal() else word
