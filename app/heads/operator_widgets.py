"""The widgets that select an attention operator and its settings, made from what the operator says of them."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import url_state, url_widgets
from workbench.attention.operator import BoundOperator
from workbench.attention.settings import Setting, parse
from workbench.registry import OPERATORS

#: No operator is selected.
NONE = "none"
_OPERATOR, _LATER = "operator", "later"
#: Widgets in a row; whole numbers without an upper bound end here.
COLUMNS, LARGEST = 4, 1_000_000


def operator_widgets(causal: bool) -> tuple[BoundOperator, bool] | None:
    """The selected operator, and whether positions may see later ones; None where none is selected.

    Args:
        causal: whether the model's positions see earlier ones alone.

    Raises:
        UsageError: settings that do not go together.
    """
    columns = st.columns(COLUMNS, vertical_alignment="bottom")
    with columns[0]:
        name = url_widgets.select("Operator", [NONE, *OPERATORS.names()], _OPERATOR)
    _forget_others(name)
    if name == NONE:
        return None
    operator, values = OPERATORS[name], {}
    for i, (setting, kind) in enumerate(operator.settings.items(), 1):
        with columns[i % COLUMNS]:
            values[setting] = _value(f"{name}.{setting}", setting, kind)
    bound = operator.with_settings(**values)
    if bound.causal != "no" or not causal:
        url_state.remove_param(_LATER)
        return bound, False
    return bound, url_widgets.toggle("Let positions see later ones", _LATER)


def _value(key: str, name: str, setting: Setting) -> Any:
    """One setting, by the widget of its kind."""
    label, help_text = name.replace("_", " "), f"{setting.what} ({setting.expected})"
    if setting.kind == "word" and not setting.optional:
        return url_widgets.select(label, setting.choices, key, default=setting.default, help=help_text)
    if setting.kind == "flag" and not setting.optional:
        return url_widgets.toggle(label, key, default=setting.default, help=help_text)
    if setting.kind == "whole number" and not setting.optional:
        low, high = int(setting.at_least or 0), LARGEST if setting.at_most is None else int(setting.at_most)
        return url_widgets.number(label, low, high, key, setting.default, help=help_text)
    if setting.kind == "number" and not setting.optional:
        low = setting.at_least if setting.above is None else setting.above
        return url_widgets.decimal(label, low, setting.at_most, key, setting.default, help=help_text)
    text = url_widgets.line(label, key, str(setting.default), help=help_text, max_chars=40)
    return parse(f"operator({name}={text})")[1].get(name)


def _forget_others(name: str) -> None:
    """Take the settings of other operators out of the URL."""
    for key in st.query_params:
        operator, dot, _ = key.partition(".")
        if dot and operator != name and operator in OPERATORS.names():
            url_state.remove_param(key)
