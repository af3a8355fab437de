"""What the files of operators declare, read without importing them: a listing needs no torch.

A value that is neither written out nor a function is read from the imported operator.
"""

from __future__ import annotations

import ast
from functools import cache
from typing import Any

from workbench.registry import OPERATORS, ROOT, written_arguments

#: In the place of a value that is a function of the settings.
BY_SETTINGS = "by settings"
#: What is read.
FIELDS = (
    "status", "role", "matrix_axis", "causal", "row_stochastic", "linear_in_v", "heads_independent", "needs", "resumes",
    "form",
)  # fmt: skip


def declared(name: str) -> dict[str, Any]:
    """The `FIELDS` of an operator: values of `workbench.attention.operator.Operator`, or `BY_SETTINGS`.

    Raises:
        UnknownName: no such operator.
        BrokenEntry: its file cannot be used.

    Examples:
        >>> from workbench.attention.declared import declared
        >>> declared("lightning")["resumes"], declared("lightning")["row_stochastic"]
        ('state', False)
    """
    tree = ast.parse(OPERATORS.path(name).read_text(encoding="utf-8"))
    values = _Values(tree)
    by_place, written = written_arguments(tree, "operator") or ([], {})
    if by_place or not written:
        return _imported(name)
    try:
        read = {field: values.of(written[field]) for field in FIELDS if field in written}
    except ValueError:
        return _imported(name)
    return {field: read.get(field, _defaults().get(field)) for field in FIELDS}


class _Values:
    """Values of expressions in a file, as far as they stand in it."""

    def __init__(self, tree: ast.Module) -> None:
        self.functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        self.assigned = {
            node.targets[0].id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }

    def of(self, node: ast.expr) -> Any:
        """Raises `ValueError` where it cannot be read."""
        if isinstance(node, ast.Lambda):
            return BY_SETTINGS
        if isinstance(node, ast.Name) and node.id in self.functions:
            return BY_SETTINGS
        if isinstance(node, ast.Name) and node.id in self.assigned:
            return self.of(self.assigned[node.id])
        return ast.literal_eval(node)


@cache
def _defaults() -> dict[str, Any]:
    """Of `Operator`."""
    tree = ast.parse((ROOT / "workbench" / "attention" / "operator.py").read_text(encoding="utf-8"))
    (owner,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Operator")
    return {
        ast.unparse(node.target): ast.literal_eval(node.value)
        for node in owner.body
        if isinstance(node, ast.AnnAssign) and node.value is not None and ast.unparse(node.target) in FIELDS
    }


def _imported(name: str) -> dict[str, Any]:
    operator = OPERATORS[name]
    values = {field: getattr(operator, field) for field in FIELDS}
    return {field: BY_SETTINGS if callable(value) else value for field, value in values.items()}
