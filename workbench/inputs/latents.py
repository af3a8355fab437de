"""Inputs of a diffusion model: the noise that sampling starts from, and the classes to sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench import arguments
from workbench.inputs.classes import unknown_class

if TYPE_CHECKING:
    from torch import Tensor

#: More than anybody samples; a larger number is a mistake.
MOST = 100_000
_EXPECTED = "a class by name or index, None for no class, or a list of these"


@dataclass(frozen=True)
class Latents:
    """Noise and classes, made by `latents`; a model turns them into its inputs.

    Attributes:
        classes, other: the classes of the clean and of the corrupt runs; `other` is None where nothing is paired.
        seed, other_seed: of their noise; sample i is drawn with ``seed + i``.

    Examples:
        >>> pairs = wb.latents(["3", "5"], other="8", n=4)
        >>> pairs.classes, pairs.other
        (('3', '5', '3', '5'), ('8', '8', '8', '8'))
    """

    classes: tuple[str | int | None, ...]
    other: tuple[str | int | None, ...] | None
    seed: int
    other_seed: int

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def is_paired(self) -> bool:
        """Whether the corrupt runs are others than the clean ones."""
        return self.other is not None or self.other_seed != self.seed

    def labels(self, run: str, names: Mapping[str, int], n_classes: int) -> list[int]:
        """The labels of the clean or the corrupt runs: indices of classes, and their number for none.

        Raises:
            UnknownName: a name of no class.
            UsageError: an index of none.
        """
        if run == "corrupt" and self.other is not None:
            return [_label("other", value, names, n_classes) for value in self.other]
        return [_label("classes", value, names, n_classes) for value in self.classes]

    def sources(self, run: str, labels: Sequence[int], names: Mapping[str, int]) -> list[dict[str, Any]]:
        """What each clean or corrupt run is made of, for results: its class by name, None for none, and the seed of its
        noise."""
        by_index = {index: name for name, index in names.items()}
        seed = self.other_seed if run == "corrupt" else self.seed
        return [{"class": by_index.get(label), "seed": seed + i} for i, label in enumerate(labels)]

    def noise(self, run: str, shape: Sequence[int]) -> Tensor:
        """The noise of the clean or the corrupt runs, ``[sample, *shape]``: sample i is
        ``torch.randn(shape, generator=torch.Generator().manual_seed(seed + i))``."""
        import torch

        seed = self.other_seed if run == "corrupt" else self.seed
        generators = [torch.Generator().manual_seed((seed + i) % 2**63) for i in range(len(self))]
        return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])


def latents(
    classes: Any,
    other: Any = None,
    *,
    n: int | None = None,
    seed: int = 0,
    other_seed: int | None = None,
) -> Latents:
    """Inputs of a diffusion model: noise, and the class that is sampled from it.

    With `other` they are pairs: the same noise, and another class in the corrupt run. With `other_seed` the corrupt run
    has other noise. Sample i starts from the noise of seed ``seed + i``, as diffusers draws it for
    ``generator=[torch.Generator().manual_seed(seed + i), ...]``.

    Args:
        classes: a class by name or index, None for no class, or a list of these.
        other: the classes of the corrupt runs: one, or as many as `classes`; ``[None]`` for no class.
        n: how many samples; the classes are repeated in turn. By default one for each class.
        seed: of the noise.
        other_seed: of the corrupt runs' noise; the same noise by default.

    Raises:
        UsageError: no classes, or another number of `other`. Whether a model has these classes is checked when it gets
            them.

    Examples:
        >>> pairs = wb.latents(3, other=8, n=16, seed=0)
        >>> len(pairs), pairs.is_paired
        (16, True)
    """
    chosen = _classes("classes", classes)
    size: int = len(chosen) if n is None else arguments.whole_number("n", n, at_least=1, at_most=MOST)
    seed = arguments.whole_number("seed", seed, at_least=0)
    other_seed = arguments.whole_number("other_seed", other_seed, at_least=0, optional=True)
    others = None if other is None else _classes("other", other)
    if others is not None and len(others) not in (1, len(chosen)):
        raise arguments.refusal(
            "other", other, f"one class, or {len(chosen)}", because=f"there are {len(chosen)} classes"
        )
    return Latents(
        _repeated(chosen, size),
        None if others is None else _repeated(others, size),
        seed,
        seed if other_seed is None else other_seed,
    )


def _classes(name: str, value: Any) -> tuple[str | int | None, ...]:
    entries = value if isinstance(value, list | tuple | range) else [value]
    if not entries:
        raise arguments.refusal(name, value, f"{_EXPECTED}, at least one")
    for entry in entries:
        if isinstance(entry, str):
            arguments.text(name, entry, "the name of a class")
        elif entry is not None:
            arguments.whole_number(name, entry, at_least=0, do=f"Give {_EXPECTED}.")
    return tuple(entry if entry is None or isinstance(entry, str) else int(entry) for entry in entries)


def _repeated(values: Sequence[Any], n: int) -> tuple[Any, ...]:
    return tuple(values[i % len(values)] for i in range(n))


def _label(argument: str, value: str | int | None, names: Mapping[str, int], n_classes: int) -> int:
    if value is None:
        return n_classes
    if isinstance(value, str):
        if value not in names:
            raise unknown_class(argument, value, names, n_classes)
        return names[value]
    if value >= n_classes:
        why = f"the model has {n_classes} classes"
        raise arguments.refusal(argument, value, f"a class from 0 to {n_classes - 1}", because=why)
    return value
