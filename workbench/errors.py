"""Errors that a user can act on, each with the exit code the command line answers with.

A message names the argument and its value, what was expected and what to do; ``docs/errors.md`` has one section for
each class.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WorkbenchError(Exception):
    """Base of every error the workbench raises on purpose.

    Examples:
        >>> try:
        ...     wb.task("iio")
        ... except wb.WorkbenchError as error:
        ...     print(error)
        name='iio': expected the name of a task. Did you mean 'ioi' or 'induction'?
    """

    exit_code = 3


class UsageError(WorkbenchError):
    """An argument without a meaning (exit code 2)."""

    exit_code = 2


class UnknownName(UsageError):
    """A model, task, finding, site or metric that does not exist; the nearest names are suggested (exit code 2).

    Args:
        kind: what was looked up (``"task"``).
        name: what was typed.
        choices: the names that exist.
        hint: what else to do.
        argument: the argument that it was typed for, which then begins the message: ``freeze='pos': expected …``.
        expected: what the argument takes; a `kind` by default.
    """

    def __init__(
        self, kind: str, name: str, choices: Iterable[str], hint: str = "", *, argument: str = "", expected: str = ""
    ) -> None:
        choices = sorted(choices)
        self.kind, self.name, self.choices, self.hint = kind, name, choices, hint
        self.near = difflib.get_close_matches(name, choices, n=3, cutoff=0.4)
        guess = f"Did you mean {' or '.join(map(repr, self.near))}?" if self.near else ""
        if choices and not self.near and not expected:
            guess = f"Known: {', '.join(choices)}."
        start = f"Unknown {kind} {name!r}."
        if argument:
            start = f"{argument}={name!r:.80}: expected {expected or f'the name of a {kind}'}."
        super().__init__(" ".join(filter(None, [start, guess, hint])))


class BadInput(WorkbenchError):
    """Input from outside that is malformed or cannot be trusted (exit code 3).

    Args:
        message: one line.
        column: the field of a pair that is at fault, where it is one.
    """

    def __init__(self, message: str = "", *, column: str = "") -> None:
        super().__init__(message)
        self.column = column


class UntrustedModel(BadInput):
    """Model files that are altered, truncated, or would run code (exit code 3)."""


class UnsupportedModel(BadInput):
    """A model whose load-time self-check failed, with the reason (exit code 3)."""


class HookError(WorkbenchError):
    """A hook or an edit that names an unknown site, never fired, or changed a shape."""


class NotAvailable(WorkbenchError):
    """Nothing was run: the model cannot be reached, or its licence was not accepted (exit code 4)."""

    exit_code = 4
