"""What an operator needs besides q, k and v, or one line that says so."""

from __future__ import annotations

import math

from torch import Tensor

from workbench.attention.call import Call
from workbench.errors import UsageError


def data(call: Call, operator: str, name: str, what: str) -> Tensor:
    """One entry of the call's data.

    Raises:
        UsageError: it is missing.
    """
    return _entry(call.data, "data", operator, name, what)


def gate(call: Call, operator: str, name: str, what: str) -> Tensor:
    """One entry of the call's gates.

    Raises:
        UsageError: it is missing.
    """
    return _entry(call.gates, "gates", operator, name, what)


def grid(call: Call, operator: str, what: str, src: int) -> tuple[int, ...]:
    """The call's grid, of as many positions as there are.

    Raises:
        UsageError: there is none, or it is of another size.
    """
    if not call.grid:
        raise UsageError(f"{operator} needs a grid ({what}), and these positions are a sequence.")
    size = math.prod(call.grid) + call.before
    if size != src:
        ahead = f" and {call.before} ahead of it" if call.before else ""
        raise UsageError(f"{operator}: a grid of {call.grid}{ahead} has {size} positions, and there are {src}.")
    return call.grid


def at_most(operator: str, count: int, length: int) -> None:
    """Refuse more positions than an operator is made for.

    Raises:
        UsageError: there are more.
    """
    if count > length:
        raise UsageError(
            f"{operator}: {count} positions, and it is made for {length}. Use operator({operator!r}, length={count})."
        )


def _entry(entries, kind: str, operator: str, name: str, what: str) -> Tensor:
    if name not in entries:
        raise UsageError(f"{operator} needs {what}: expected it as {kind}[{name!r}] of the call.")
    return entries[name]
