"""An operator as people and programs read it: its docstring, its properties with these settings, and its settings."""

from __future__ import annotations

import ast
from typing import Any

from workbench.attention.operator import BoundOperator
from workbench.registry import OPERATORS


def description(name: str) -> str:
    """The docstring of an operator's file.

    Raises:
        UnknownName: no such operator.
    """
    return ast.get_docstring(ast.parse(OPERATORS.path(name).read_text(encoding="utf-8"))) or ""


def required_arguments(bound: BoundOperator) -> list[str]:
    """Names of the arguments of `wb.swap` that an operator cannot go into a layer without."""
    needs = bound.declared("needs")
    required = {
        "grid": "grid" in needs,
        "data": "data" in needs and bound.operator.module is None,
        "text": "second stream" in needs and bound.settings.get("form") == "sequence",
    }
    return [name for name, is_required in required.items() if is_required]


def described(bound: BoundOperator) -> dict[str, Any]:
    """Every property of an operator with these settings (JSON-able).

    Examples:
        >>> from workbench.attention.describe import described
        >>> from workbench.attention.operator import operator
        >>> described(operator("lightning(norm=False)"))["linear_in_v"]
        True
    """
    operator = bound.operator
    plain = ("name", "version", "source", "status", "choices", "role", "ignores", "invents", "matrix_axis", "resumes")
    by_settings = ("causal", "row_stochastic", "linear_in_v", "heads_independent", "needs")
    return {
        **{name: getattr(operator, name) for name in plain},
        **{name: bound.declared(name) for name in by_settings},
        "form": operator.form,
        "softmax_form": operator.mask is not None,
        "records": operator.records,
        "check_length": bound.check_length,
        "settings": [
            {
                "name": name,
                "value": bound.settings[name],
                "default": setting.default,
                "kind": setting.kind,
                "what": setting.what,
                "expected": setting.expected,
                "at_least": setting.at_least,
                "at_most": setting.at_most,
                "above": setting.above,
                "choices": setting.choices,
                "optional": setting.optional,
            }
            for name, setting in operator.settings.items()
        ],
    }
