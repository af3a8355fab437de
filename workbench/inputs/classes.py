"""Classes of images: from names and indices to a model's outputs, and the classes that a model finds likeliest."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from workbench import arguments
from workbench.errors import UnknownName

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


#: Classes that a refusal lists; of more it names the nearest.
MOST_LISTED = 12


def class_names(model: Any) -> dict[int, str]:
    """Index → name of a model's classes; empty for a model without a classifier."""
    if getattr(model, "outputs_are", "") != "logits":
        return {}
    names = getattr(getattr(model.hf, "config", None), "id2label", None) or {}
    return {int(i): str(name) for i, name in names.items() if 0 <= int(i) < model.n_outputs}


def class_ids(model: Any, name: str, rows: Sequence[tuple[str | int, ...]]) -> tuple[tuple[int, ...], ...]:
    """The classes of each image as indices of the model's outputs.

    Args:
        name: the argument that they were given for.

    Raises:
        UsageError: an index beyond the model's classes, or a model without any.
        UnknownName: a name that none of its classes has; the nearest are suggested.
    """
    if not rows:
        return ()
    if getattr(model, "outputs_are", "") != "logits":
        why = f"the model's outputs are {model.outputs_are}, not classes"
        raise arguments.refusal(name, list(rows), "no classes", "Leave them out.", because=why)
    names = class_names(model)
    by_name: dict[str, int] = {}
    for i, label in names.items():
        if by_name.setdefault(label, i) != i:
            by_name[label] = -1
    return tuple(tuple(_class_id(model, name, entry, by_name) for entry in row) for row in rows)


def _class_id(model: Any, name: str, entry: str | int, by_name: dict[str, int]) -> int:
    if isinstance(entry, int):
        return arguments.index(name, entry, model.n_outputs, "class")
    if entry not in by_name:
        raise unknown_class(name, entry, by_name, model.n_outputs)
    if by_name[entry] < 0:
        raise arguments.refusal(name, entry, "a class by its index", because="several classes have this name")
    return by_name[entry]


def unknown_class(argument: str, value: str, names: Collection[str], n_classes: int) -> UnknownName:
    """The error of a name that no class has: all classes where they are few, else the nearest."""
    hint = ""
    if not names:
        hint = f"Its classes have no names: give an index from 0 to {n_classes - 1}."
    elif len(names) <= MOST_LISTED:
        hint = f"Its classes: {', '.join(names)}."
    elif not difflib.get_close_matches(value, names, cutoff=0.4):  # else the error suggests those
        nearest = difflib.get_close_matches(value, names, n=3, cutoff=0)
        hint = f"The nearest by name of {n_classes}: {', '.join(map(repr, nearest))}."
    return UnknownName("class", value, names, hint, argument=argument, expected="a class of this model")


def likeliest(model: Any, logits: Float[Tensor, "image n_outputs"]) -> list[list[int]]:
    """The classes of each image, the likeliest first.

    Raises:
        UsageError: the model has fewer than two classes.
    """
    if getattr(model, "outputs_are", "") != "logits" or logits.shape[1] < 2:
        why = f"its outputs are {model.outputs_are}" if logits.shape[1] > 1 else "it has one output"
        raise arguments.refusal("model", model, "a model with classes", because=why)
    return logits.argsort(dim=-1, descending=True, stable=True).tolist()
