"""`Memory`: a rule with its settings and what it holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.arguments import refusal
from workbench.attention.settings import parse
from workbench.errors import BadInput, UnknownName, UsageError
from workbench.registry import MEMORY_RULES

from .rule import Rule, State

EXAMPLE = "gated-delta(decay=0.9)"


def rule_of(name: str, **settings: Any) -> tuple[Rule, dict[str, Any]]:
    """The rule of a name and its settings: ``"gated-delta(decay=0.9)"``, or ``"gated-delta", decay=0.9``.

    Raises:
        UnknownName: no such rule or setting; the nearest are suggested.
        UsageError: a setting that is not possible.
    """
    plain, values = parse(name, "rule", EXAMPLE)
    if plain not in MEMORY_RULES.names():
        what, do = "the name of a memory's rule", "workbench memory lists them."
        raise UnknownName("rule", plain, MEMORY_RULES.names(), do, argument="rule", expected=what)
    rule: Rule = MEMORY_RULES[plain]
    return rule, rule.complete({**values, **settings})


class Memory:
    """An associative memory.

    Args:
        rule: its name, also with settings.
        settings: of the rule.

    Attributes:
        state: what it holds, None before the first pair: ``(W,)`` with W ``[trial, d_value, d_key]`` of memories that
            are a matrix, ``(keys, values)`` of those that store the pairs.

    Raises:
        UnknownName: no such rule or setting.
        UsageError: a setting that is not possible.

    Examples:
        >>> import torch
        >>> from probes.memory.memory import Memory
        >>> memory = Memory("delta").write(torch.eye(2), torch.tensor([[1.0], [2.0]]))
        >>> memory.read(torch.eye(2)).tolist()
        [[1.0], [2.0]]
    """

    def __init__(self, rule: str, **settings: Any) -> None:
        self.rule, self.settings = rule_of(rule, **settings)
        self.state: State | None = None
        self._sizes: tuple[int, int, int] | None = None

    def write(self, k: Any, v: Any) -> Memory:
        """Write pairs, in order; returns the memory itself.

        Args:
            k: keys, ``[trial, pair, d_key]`` or, of one trial, ``[pair, d_key]``.
            v: values, ``[trial, pair, d_value]`` or ``[pair, d_value]``.

        Raises:
            UsageError: shapes that do not go together, or with what is stored.
            BadInput: a number that is not finite.
        """
        keys, values = _rows("k", k), _rows("v", v)
        if keys.shape[:2] != values.shape[:2]:
            raise refusal("v", v, f"as many values as keys, {_shape(keys[..., 0])}")
        sizes = (keys.shape[0], keys.shape[2], values.shape[2])
        if self._sizes is not None and sizes != self._sizes:
            expected = "{} trials of d_key {} and d_value {}".format(*self._sizes)
            raise refusal("k", k, f"{expected}, as is stored", "Begin a new memory for others.")
        kind = torch.promote_types(keys.dtype, values.dtype)
        self.state = self.rule.write(self.state, keys.to(kind), values.to(kind), self.settings)
        self._sizes = sizes
        return self

    def read(self, q: Any) -> Tensor:
        """What is read for queries, ``[trial, query, d_value]``; ``[query, d_value]`` for queries of two axes.

        Args:
            q: ``[trial, query, d_key]`` or, of one trial, ``[query, d_key]``.

        Raises:
            UsageError: nothing is stored, or queries of another size.
            BadInput: a number that is not finite.
        """
        if self.state is None or self._sizes is None:
            raise UsageError("Nothing is stored: write pairs before you read.")
        queries = _rows("q", q)
        if (queries.shape[0], queries.shape[2]) != self._sizes[:2]:
            raise refusal("q", q, "queries of {} trials and d_key {}, as is stored".format(*self._sizes[:2]))
        values = self.rule.read(self.state, queries.to(self.state[0].dtype), self.settings)
        return values[0] if np.ndim(q) == 2 else values

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "rule": self.rule.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({**state, "rule": MEMORY_RULES[state["rule"]]})

    def __repr__(self) -> str:
        return f"Memory({self.rule.text(self.settings)})"


def _rows(name: str, value: Any) -> Tensor:
    expected = "an array of numbers [trial, pair, size], or [pair, size] of one trial"
    try:
        rows = value if isinstance(value, Tensor) else torch.as_tensor(np.array(value))
    except (TypeError, ValueError, RuntimeError):
        raise refusal(name, value, expected) from None
    if rows.ndim == 2:
        rows = rows[None]
    if rows.ndim != 3 or rows.is_complex() or rows.dtype == torch.bool:
        raise refusal(name, value, expected)
    if not rows.numel():
        raise refusal(name, value, "at least one trial, one pair and one number of each")
    rows = rows if rows.is_floating_point() else rows.to(torch.get_default_dtype())
    if not bool(rows.isfinite().all()):
        raise BadInput(f"{name} contains a number that is not finite. Give finite keys, values and queries.")
    return rows


def _shape(x: Tensor) -> str:
    return " × ".join(map(str, x.shape))
