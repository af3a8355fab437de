"""The arguments of one call that set its numbers, checked once. All of them are in the cache key, so that a new one
cannot be forgotten there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypedDict

import numpy as np
from torch import Tensor

from workbench.arguments import (
    each_once,
    flag,
    number,
    one_of,
    position,
    refusal,
    sequence,
    text,
    texts,
    whole_number,
)
from workbench.cache.keys import digest, hash_inputs
from workbench.core import (
    ARGUMENT_OF,
    EDIT_KINDS,
    check_edit_function,
    check_edit_kind,
    check_site,
    checked_argument,
    vector_hash,
)
from workbench.inputs.paired import PairedInputs
from workbench.patching.metric import Metric

AXES = ("step", "layer", "head", "position")
#: Arguments that belong to one kind of edit, and are refused with any other.
ONLY_FOR = {name: kind for kind, (name, _, _) in ARGUMENT_OF.items()} | {"mean_over": "mean"}


@dataclass(frozen=True, eq=False)
class Settings:
    """Base of the settings of one call."""

    @property
    def is_cacheable(self) -> bool:
        """Whether every setting is a name or a value: the user's own function has no hash."""
        return not any(callable(getattr(self, field.name)) for field in fields(self))

    def cache_key(self) -> tuple[Any, ...]:
        """Every field, by name."""
        return tuple((field.name, _hashable(getattr(self, field.name))) for field in fields(self))


class SweepArguments(TypedDict, total=False):
    """The keywords that set the numbers of `workbench.sweep`, for those who pass them on."""

    site: str
    by: str | Sequence[str]
    edit: str | Callable[[Tensor], Tensor]
    direction: str | None
    metric: str | Metric | Callable[..., Tensor] | None
    layers: Sequence[int] | int | None
    heads: Sequence[int] | int | None
    positions: Sequence[int | str] | int | str | None
    attend_to: Any
    factor: float | None
    vector: Tensor | None
    u: float | None
    mean_over: Any
    steps: Sequence[int] | int | None
    where: np.ndarray | None
    seed: int
    memory_gb: float


@dataclass(frozen=True, eq=False)
class SweepSettings(Settings):
    """What `workbench.sweep` is called with, see there; `by` and `direction` as they take effect.

    Raises:
        UnknownName: no such axis, edit or direction.
        UsageError: an argument of another type, or one that belongs to another edit.
    """

    site: str = "z"
    by: Any = "head"
    edit: Any = "patch"
    direction: Any = None
    metric: Any = None
    layers: Any = None
    heads: Any = None
    positions: Any = None
    attend_to: Any = None
    mean_over: Any = None
    where: Any = None
    seed: int = 0
    memory_gb: float = 1.0
    steps: Any = None
    factor: Any = None
    vector: Any = None
    u: Any = None

    def __post_init__(self) -> None:
        check_site("site", text("site", self.site), "layers=[{}]")
        if callable(self.edit):
            check_edit_function("edit", self.edit)
        else:
            check_edit_kind("edit", self.edit, EDIT_KINDS)
        if isinstance(self.by, str) and "," in self.by:
            names = [axis.strip() for axis in self.by.split(",")]
            raise refusal("by", self.by, "an axis, or a list of axes", f"Use by={names!r}.")
        axes = {one_of("by", axis, AXES) for axis in texts("by", self.by, "axes")} | {"layer"}
        one_of("direction", self.direction, ("denoise", "noise"), optional=True)
        if self.direction == "denoise" and self.edit != "patch":
            raise refusal(
                "direction",
                self.direction,
                "'noise' or None",
                "Leave it out.",
                because="denoising inserts clean values, which is edit='patch'",
            )
        if self.positions is not None:
            object.__setattr__(self, "positions", _positions(self.positions))
        _check_arguments_of(self, self.edit, ONLY_FOR)
        whole_number("seed", self.seed, at_least=0)
        number("memory_gb", self.memory_gb, above=0)
        object.__setattr__(self, "by", tuple(axis for axis in AXES if axis in axes))
        object.__setattr__(self, "direction", self.direction or ("denoise" if self.edit == "patch" else "noise"))

    def as_info(self) -> dict[str, Any]:
        """What a result reports of them, JSON-able."""
        info: dict[str, Any] = {
            "site": self.site,
            "edit": self.edit if isinstance(self.edit, str) else getattr(self.edit, "__name__", "function"),
            "direction": self.direction,
            "positions": list(self.positions) if isinstance(self.positions, list | tuple) else self.positions,
            "memory_gb": self.memory_gb,
        }
        if self.edit == "mean":
            over = self.mean_over
            info["mean_over"] = over if over is None or isinstance(over, str) else f"{over.name} (n = {len(over)})"
        if self.edit == "resample":
            info["resample_seed"] = self.seed
        if self.attend_to is not None:
            info["attend_to"] = str(self.attend_to)
        return info | _numbers_of(self)


@dataclass(frozen=True, eq=False)
class PathSettings(Settings):
    """What `workbench.path_patch` is called with besides its receivers, see there.

    Raises:
        UnknownName, UsageError: an argument is none of its choices.
    """

    into: Any = None
    position: Any = None
    direction: str = "noise"
    freeze: str = "position"
    mlps: str = "recompute"
    share_kv: bool = False
    metric: Any = None
    by: Any = "head"
    steps: Any = None

    def __post_init__(self) -> None:
        axes = {one_of("by", axis, ("head", "step")) for axis in texts("by", self.by, "axes")}
        object.__setattr__(self, "by", "head" if axes == {"head"} else ("step", "head"))
        one_of("into", self.into, ("q", "k", "v"), optional=True)
        object.__setattr__(self, "into", self.into or "q")
        position("position", self.position, optional=True)
        one_of("direction", self.direction, ("noise", "denoise"))
        one_of("freeze", self.freeze, ("position", "all"))
        one_of("mlps", self.mlps, ("recompute", "freeze"))
        flag("share_kv", self.share_kv)

    def as_info(self) -> dict[str, Any]:
        """What a result reports of them, JSON-able."""
        own = {"metric", "by", "steps"}  # a result has entries of its own for these
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in own}


@dataclass(frozen=True, eq=False)
class SetSettings(Settings):
    """What `workbench.sweep_sets` is called with besides its sets, see there.

    Raises:
        UnknownName, UsageError: an argument is none of its choices, or of another type.
    """

    edit: str = "mean"
    base: str = "clean"
    metric: Any = None
    mean_over: Any = None
    seed: int = 0
    memory_gb: float = 1.0
    factor: Any = None
    vector: Any = None

    def __post_init__(self) -> None:
        check_edit_kind("edit", self.edit, ("mean", "zero", "resample", "patch", "scale", "add"), do="")
        _check_arguments_of(self, self.edit, ("factor", "vector"))
        one_of("base", self.base, ("clean", "corrupt"))
        whole_number("seed", self.seed, at_least=0)
        number("memory_gb", self.memory_gb, above=0)

    def as_info(self) -> dict[str, Any]:
        """What a result reports of them, JSON-able."""
        info: dict[str, Any] = {"edit": self.edit, "base": self.base, "memory_gb": self.memory_gb}
        return info | _numbers_of(self)


def _check_arguments_of(settings: Any, edit: Any, names: Collection[str]) -> None:
    """Check the arguments that belong to one kind of edit: that of this edit is there, and no other's."""
    for kind, (name, expected, use) in ARGUMENT_OF.items():
        if name not in names:
            continue
        if getattr(settings, name) is not None:
            object.__setattr__(settings, name, checked_argument(name, getattr(settings, name)))
        elif edit == kind:
            raise refusal(name, None, expected, because=f"edit={kind!r} {use}")
    for name in names:
        value, kind = getattr(settings, name), ONLY_FOR[name]
        if value is not None and edit != kind:
            raise refusal(name, value, "None", "Leave it out.", because=f"it is only for edit={kind!r}")


def _numbers_of(settings: Any) -> dict[str, Any]:
    """The number or vector that belongs to the edit, as a result reports it."""
    numbers: dict[str, Any] = {
        name: value for name in ("factor", "u") if (value := getattr(settings, name, None)) is not None
    }
    if settings.vector is not None:
        numbers["vector"] = {"shape": list(settings.vector.shape), "hash": vector_hash(settings.vector)}
    return numbers


def _positions(positions: Any) -> Any:
    """``"all"``, one position, or a list of them, each once."""
    if isinstance(positions, str) or not hasattr(positions, "__len__"):
        return position("positions", positions)
    entries = sequence("positions", positions, "a position or a list of them", do="Leave it out for every position.")
    if not entries:
        raise refusal("positions", positions, "at least one position", "Leave it out for every position.")
    entries = [position("positions", entry) for entry in entries]
    each_once("positions", positions, entries, "position")
    return entries


def _hashable(value: Any) -> Any:
    if isinstance(value, PairedInputs):
        return hash_inputs(value).hex()
    if isinstance(value, Tensor):
        return digest(value).hex()
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), digest(value.tobytes()).hex()]
    if isinstance(value, Mapping):
        return sorted(value.items(), key=str)  # 0 and "0" are two positions
    if isinstance(value, range):
        return list(value)
    return value
