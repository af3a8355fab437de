"""Lines that the Python scripts of all pages share: the model, an edit, a sweep with its table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.swapped_names import parse_operators, split_name
from workbench.core import Edit


def load_lines(model_name: str) -> list[str]:
    """The model of that name in the explorer, with the operators that are swapped into it, as ``model``."""
    own, operators = split_name(model_name)
    lines = [f"model = wb.load({own!r})"]
    return [*lines, f"model = wb.swap(model, {parse_operators(operators)!r})"] if operators else lines


def sweep_lines(of: str, arguments: Mapping[str, Any]) -> list[str]:
    """A sweep of what the variable `of` holds, as ``sweep``, and all rows of its table."""
    keywords = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return [f"sweep = wb.sweep(model, {of}, {keywords})", "print(sweep.table().to_string(index=False))"]


def edit_text(edit: Edit) -> str:
    """``wb.Edit('z', 3, head=2, kind='zero')``; what is None is left out."""
    names = ("head", "position", "kind", "attend_to", "step", *(("u",) if edit.kind == "identity" else ()))
    keywords = {name: getattr(edit, name) for name in names}
    written = ", ".join(f"{name}={value!r}" for name, value in keywords.items() if value is not None)
    return f"wb.Edit({edit.site!r}, {edit.layer}, {written})"
