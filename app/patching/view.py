"""What the page Patching shows: its parts are given this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.part import Part
from app.patching.circuit_builder import Roles
from app.patching.manual_edits import EditedPrompt
from app.patching.pairs_input import PairsState
from workbench.core import Edit, Head
from workbench.registry import Registry
from workbench.results.sweep import Sweep

#: The parts of the page, by name.
PARTS: Registry[Part[PatchingView]] = Registry("app.patching.parts", "part")


@dataclass(frozen=True, eq=False)
class PatchingView:
    """A sweep, and a set of heads that is edited on one prompt.

    Attributes:
        model_name: the model's name in the explorer.
        head: the open head.
        pairs: what is swept, or why it cannot be.
        arguments: of the sweep.
        sweep: None until it is computed.
        heads: of the set, each with its role.
        edited: the prompt that the set is edited on; None where there is none.
        edits: of the set and of the forced rows.
        description: of the edits, in a few words.
    """

    model_name: str
    model: Any
    head: Head
    pairs: PairsState
    arguments: Mapping[str, Any]
    sweep: Sweep | None
    heads: Roles
    edited: EditedPrompt | None
    edits: tuple[Edit, ...] = ()
    description: str = ""
