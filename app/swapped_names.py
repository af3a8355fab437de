"""The name of a model with swapped operators, ``tiny with 0=lightning; 1=softmax``: wherever the explorer names, caches
or stores by a model's name, the operators are part of it."""

from __future__ import annotations

from collections.abc import Mapping

from workbench.attention.settings import by_layers
from workbench.core import WITH
from workbench.io.local_names import local_name

EXAMPLE = "10-19=lightning; 4=sliding-window(window=32)"


def parse_operators(text: str) -> dict[str, str]:
    """``"10-19=lightning; 4=sliding-window(window=32)"`` as ``{"10-19": "lightning", …}``, with names and settings
    checked, each operator as it is written elsewhere.

    Raises:
        UnknownName: no such operator or setting.
        UsageError: another form, or layers that are named twice.
    """
    from workbench.attention.operator import operator

    operators = by_layers("Operators:", filter(None, map(str.strip, text.split(";"))))
    return {layers: str(operator(name)) for layers, name in operators.items()}


def write_operators(operators: Mapping[str, str]) -> str:
    """The inverse of `parse_operators`."""
    return "; ".join(f"{layers}={name}" for layers, name in operators.items())


def swapped_name(model: str, text: str) -> str:
    """A model's name with the operators of a text; the name itself where that is empty.

    Raises:
        UnknownName, UsageError: as `parse_operators`.
    """
    operators = write_operators(parse_operators(text))
    return f"{model}{WITH}{operators}" if operators else model


def split_name(name: str) -> tuple[str, str]:
    """The model's own name, and the operators as text: empty where it has its own attention."""
    model, between, operators = name.rpartition(WITH)
    return (model, operators) if between and "=" in operators else (name, "")


def result_name(name: str) -> str:
    """The name as results and figures have it: without the place of a model that lies on this machine."""
    model, operators = split_name(name)
    return f"{local_name(model)}{WITH}{operators}" if operators else local_name(model)


def job_model(name: str) -> dict[str, str]:
    """The model as a job of the worker process names it."""
    model, operators = split_name(name)
    return {"model": model, "operators": operators} if operators else {"model": model}
