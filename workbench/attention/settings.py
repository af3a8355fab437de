"""Settings of operators: their types and ranges, and ``"sliding-window(window=32)"`` as a user types it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from workbench import arguments
from workbench.errors import UnknownName, UsageError

_LAYERS = re.compile(r"all|\d{1,5}(\s*-\s*\d{1,5})?(\s*,\s*\d{1,5}(\s*-\s*\d{1,5})?)*")
#: No size is larger.
LARGEST = 2**31

Kind = Literal["whole number", "number", "flag", "word", "sizes", "flags"]


@dataclass(frozen=True)
class Setting:
    """One setting of an operator.

    Attributes:
        default: its value where none is given.
        kind: ``"sizes"`` is a whole number, or one for each axis of a grid; ``"flags"`` the same of flags.
        what: what it is, for the listing.
        at_least, at_most, above: the range of a number.
        choices: the words that it may be.
        optional: whether it may be None.
    """

    default: Any
    kind: Kind
    what: str
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False

    def check(self, name: str, value: Any) -> Any:
        """The value as it is stored.

        Raises:
            UsageError: what was given, and what is possible.
        """
        if value is None and self.optional:
            return None
        if self.kind == "flags" and isinstance(value, list | tuple) and value:
            return tuple(arguments.flag(name, flag) for flag in value)
        if self.kind in ("flag", "flags"):
            return arguments.flag(name, value)
        if self.kind == "word":
            return arguments.one_of(name, value, self.choices)
        if self.kind == "number":
            return arguments.number(name, value, above=self.above, at_least=self.at_least, at_most=self.at_most)
        low, high = (None if bound is None else int(bound) for bound in (self.at_least, self.at_most))
        if isinstance(value, int) and value > LARGEST:
            raise arguments.refusal(name, value, f"a whole number of at most {LARGEST:,}")
        if self.kind == "sizes" and isinstance(value, list | tuple):
            if not value:
                raise arguments.refusal(name, value, "a whole number, or one for each axis of the grid")
            return tuple(arguments.whole_number(name, size, at_least=low, at_most=high) for size in value)
        return arguments.whole_number(name, value, at_least=low, at_most=high)

    @property
    def expected(self) -> str:
        """What it may be, in words."""
        if self.choices:
            text = arguments.listing(self.choices, self.optional)
        else:
            bounds = [f"above {self.above:g}"] if self.above is not None else []
            bounds += [f"≥ {self.at_least:g}"] if self.at_least is not None else []
            bounds += [f"≤ {self.at_most:g}"] if self.at_most is not None else []
            words = {
                "flag": "True or False",
                "flags": "True or False, or one for each axis",
                "sizes": "a whole number, or one for each axis",
            }
            text = ", ".join([words.get(self.kind, f"a {self.kind}"), *bounds])
            text += " or None" if self.optional else ""
        return text


def complete(operator: str, settings: Mapping[str, Setting], values: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of an operator: the values, checked, and the defaults of the others.

    Raises:
        UnknownName: a setting that the operator does not have.
        UsageError: a value that is not possible.
    """
    for name in values:
        if name not in settings:
            hint = "" if settings else f"{operator} has no settings."
            raise UnknownName(f"setting of {operator}", name, settings, hint)
    return {
        name: setting.check(f"{operator}({name})", values[name]) if name in values else setting.default
        for name, setting in settings.items()
    }


def parse(
    text: str, argument: str = "operator", example: str = "sliding-window(window=32)"
) -> tuple[str, dict[str, Any]]:
    """``"sliding-window(window=32)"`` as ``("sliding-window", {"window": 32})``; words need no quotes.

    Args:
        argument: what it was given for, and an `example` of what may be given, for messages.

    Raises:
        UsageError: it cannot be read.
    """
    name, bracket, rest = arguments.text(argument, text, f"one such as {example!r}").partition("(")
    if not bracket:
        return name.strip(), {}
    refusal = arguments.refusal(argument, text, f"NAME or NAME(SETTING=VALUE, …), such as {example!r}")
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(keyword.arg is None for keyword in call.keywords):
            raise refusal
        return name.strip(), {str(keyword.arg): _value(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise refusal from error


def by_layers(name: str, parts: Iterable[str]) -> dict[str, str]:
    """``["10-19=lightning"]`` as ``{"10-19": "lightning"}``; layers and operators are read when they are swapped in.

    Raises:
        UsageError: another form, or layers that are named twice.
    """
    operators: dict[str, str] = {}
    for part in parts:
        layers, equals, text = (word.strip() for word in part.partition("="))
        if not (equals and text and _LAYERS.fullmatch(layers)):
            raise UsageError(f"{name} {part}: expected LAYERS=OPERATOR, such as 0=lightning.")
        layers = re.sub(r"\s+", "", layers)
        if layers in operators:
            raise UsageError(f"{name} {part}: layers {layers} are given two operators. Give them one.")
        operators[layers] = text
    return operators


def _value(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def written(name: str, values: Mapping[str, Any], settings: Mapping[str, Setting]) -> str:
    """The inverse of `parse`, without what is as by default."""
    changed = {key: value for key, value in values.items() if value != settings[key].default}
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in changed.items())})" if changed else name


__all__ = ["Kind", "Setting", "UsageError", "complete", "parse", "written"]
