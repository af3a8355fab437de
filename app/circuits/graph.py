"""A circuit as a graph: markers and lines as plain data, and its numbers.

There is a line where something was measured, and nowhere else. Path patching measures a sender on *all* receivers of
its stage together, so such a sender's line ends in a joint, from which thin lines without a value lead to the receiving
heads.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.core import Head
from workbench.io.tables import ascii_minus, printed
from workbench.plotting.style import p_text

if TYPE_CHECKING:
    import pandas as pd

NAN = float("nan")
LOGITS = "logits"
#: Markers of heads with a larger corrected p-value are hollow.
ALPHA = 0.05


@dataclass(frozen=True)
class Strength:
    """A value with its 95 % interval and p-value; NaN where the run has none."""

    value: float = NAN
    low: float = NAN
    high: float = NAN
    p: float = NAN

    @property
    def is_measured(self) -> bool:
        return bool(np.isfinite(self.value))

    def describe(self, quantity: str) -> str:
        """``effect 0.58 [0.52, 0.65], p = 0.0001``; what is missing is left out."""
        if not self.is_measured:
            return ""
        interval = f" [{printed(self.low)}, {printed(self.high)}]" if np.isfinite([self.low, self.high]).all() else ""
        return f"{quantity} {printed(self.value)}{interval}" + (
            f", p = {p_text(self.p)}" if np.isfinite(self.p) else ""
        )


@dataclass(frozen=True)
class Node:
    """One marker.

    Attributes:
        kind: ``head``: of the circuit; ``receives``: a receiver outside the circuit; ``joint``: where the lines of a
            stage meet; ``logits``.
        lane: its column: a stage of path patching, or a role.
        text: of a joint: Q, K or V.
        about: lines for those who point at it.
    """

    key: str
    kind: Literal["head", "receives", "joint", "logits"]
    lane: str
    head: Head | None = None
    role: str = ""
    text: str = ""
    strength: Strength = Strength()
    hover: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return self.text if self.head is None else str(self.head)


@dataclass(frozen=True)
class Line:
    """From one marker to another.

    Attributes:
        measured: False for a line from a joint to a receiver, which has no strength.
    """

    source: str
    target: str
    into: str = ""
    strength: Strength = Strength()
    measured: bool = True


@dataclass(frozen=True, eq=False)
class CircuitGraph:
    """The graph of one circuit.

    Attributes:
        lanes: lane → its name, from left to right.
        columns: what the lanes are: the title of the x axis.
        quantity: what the strengths are.
        note: how to read them.
        selected: the head with a ring.
    """

    nodes: tuple[Node, ...]
    lines: tuple[Line, ...]
    lanes: dict[str, str]
    title: str
    subtitle: str
    columns: str = "role"
    quantity: str = "effect"
    note: str = ""
    selected: Head | None = field(default=None, compare=False)

    def node(self, key: str) -> Node:
        """The marker of that key."""
        return next(node for node in self.nodes if node.key == key)

    def table(self) -> pd.DataFrame:
        """Every marker, then every line: ``what, head, role, lane, from, to, into, value, low, high, p_value``."""
        import pandas as pd

        rows = [
            {"what": n.kind, "head": n.label, "role": n.role, "lane": n.lane, **_strength_columns(n.strength)}
            for n in self.nodes
        ]
        rows += [
            {"what": "line" if line.measured else "receives", "from": line.source, "to": line.target, "into": line.into}
            | _strength_columns(line.strength)
            for line in self.lines
        ]
        columns = ["what", "head", "role", "lane", "from", "to", "into", "value", "low", "high", "p_value"]
        return pd.DataFrame(rows, columns=columns)

    def fields(self) -> dict[str, Any]:
        """The exact numbers with their labels, for JSON."""
        fields = {"kind": "circuit", "title": self.title, "subtitle": self.subtitle, "note": self.note}
        fields |= {"quantity": self.quantity, "columns": self.columns, "lanes": self.lanes}
        fields |= {
            "nodes": [
                asdict(node) | {"head": node.head, "hover": tuple(map(ascii_minus, node.hover))} for node in self.nodes
            ]
        }
        return fields | {"lines": [asdict(line) for line in self.lines]}


def _strength_columns(strength: Strength) -> dict[str, Any]:
    return {"value": strength.value, "low": strength.low, "high": strength.high, "p_value": strength.p}
