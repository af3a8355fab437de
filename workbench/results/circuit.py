"""`Circuit`: heads with roles and edges, plus how they were found."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from workbench import arguments
from workbench.core import Head, full_name
from workbench.errors import BadInput, UnknownName, UsageError
from workbench.io.files import JSON_BYTES, jsonable, parse_json, read_file, save_atomic

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "workbench.circuit/2"
#: Columns that the table ``heads`` of a run must have: one row for each head of each stage of each task's circuit. It
#: may have more (``mean_effect``, ``effect_low``, ``rank``, …); rows whose ``in_circuit`` is false are left out.
HEAD_COLUMNS = ("task", "stage", "layer", "index", "head", "role")
#: Columns of the optional table ``edges``: sender ``9.6``, receiver ``9.6`` or ``logits``, into as in `Edge`.
EDGE_COLUMNS = ("task", "sender", "receiver", "into")
LOGITS = "logits"


@dataclass(frozen=True, order=True)
class Edge:
    """The path from one head into the ``q``, ``k`` or ``v`` of another, or to the logits (receiver None, no into)."""

    sender: Head
    receiver: Head | None = None
    into: str = ""

    def __post_init__(self) -> None:
        if self.into not in (("",) if self.receiver is None else ("q", "k", "v")):
            raise UsageError(f"Edge {self}: into must be 'q', 'k' or 'v', and empty for an edge to the logits.")

    def __str__(self) -> str:
        return f"{self.sender}->{self.receiver or LOGITS}{'.' if self.into else ''}{self.into}"


@dataclass(frozen=True)
class Circuit:
    """Heads with roles and edges, plus how they were found.

    Attributes:
        name: usually the task.
        model: the model's name.
        heads: ``(head, role)`` pairs, one for each role that a head plays.
        edges: which head writes into which.
        provenance: how they were found, JSON-able: ``{"method": "path patching", "task": "ioi", "n": 100, …}``.

    Examples:
        >>> circuit = wb.Circuit("ioi", "tiny", ((wb.Head(0, 7), "inhibition"), (wb.Head(1, 3), "mover")))
        >>> circuit.roles["mover"]
        (Head(layer=1, index=3),)
        >>> circuit.save("ioi.json")
        >>> wb.Circuit.load("ioi.json") == circuit
        True
    """

    name: str
    model: str
    heads: tuple[tuple[Head, str], ...]
    edges: tuple[Edge, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arguments.text("name", self.name, empty=True)
        arguments.text("model", self.model, empty=True)
        pairs = arguments.sequence("heads", self.heads, "pairs of a head and its role")
        if not all(map(_is_head_and_role, pairs)):
            do = "Write ((wb.Head(9, 6), 'mover'),)."
            raise arguments.refusal("heads", self.heads, "pairs of a head and its role", do)
        edges = arguments.sequence("edges", self.edges, "edges")
        if not all(isinstance(edge, Edge) for edge in edges):
            raise arguments.refusal("edges", self.edges, "a list of Edge")
        arguments.mapping("provenance", self.provenance, "a mapping that says how the heads were found")
        object.__setattr__(self, "heads", tuple(sorted(set(self.heads))))
        object.__setattr__(self, "edges", tuple(sorted(set(self.edges), key=str)))

    @property
    def head_set(self) -> frozenset[Head]:
        """The heads, without roles."""
        return frozenset(head for head, _ in self.heads)

    @property
    def roles(self) -> dict[str, tuple[Head, ...]]:
        """The heads of each role, in order."""
        return {role: tuple(h for h, r in self.heads if r == role) for role in sorted({r for _, r in self.heads})}

    def table(self) -> pd.DataFrame:
        """One row for each head and role."""
        import pandas as pd

        rows = [(h.layer, h.index, str(h), role) for h, role in self.heads]
        return pd.DataFrame(rows, columns=["layer", "index", "head", "role"])

    def json(self) -> dict[str, Any]:
        """Plain JSON, as `save` writes it."""
        return jsonable(
            {
                "format": FORMAT,
                "name": self.name,
                "model": self.model,
                "heads": [[str(h), role] for h, role in self.heads],
                "edges": [[str(e.sender), str(e.receiver or LOGITS), e.into] for e in self.edges],
                "provenance": self.provenance,
            }
        )

    def to_bytes(self) -> bytes:
        """The file that `save` writes."""
        return (json.dumps(self.json(), indent=2, allow_nan=False) + "\n").encode()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the circuit as JSON, to a file that ends in .json."""
        arguments.file_path("path", path, ending=".json")
        save_atomic(path, self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Circuit:
        """Read what `save` wrote.

        Raises:
            BadInput: no such file, or anything in it is not as `save` writes it.
        """
        return cls.from_json(parse_json(read_file(path, JSON_BYTES), str(path)), str(path))

    @classmethod
    def from_json(cls, data: Any, what: str = "data") -> Circuit:
        """The inverse of `json`; raises `BadInput`, naming `what`."""
        arguments.text("what", what, empty=True)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise BadInput(f"{what}: does not name the format {FORMAT!r}. Write such files with Circuit.save.")
        if lacking := {"name", "model", "heads", "edges", "provenance"} - set(data):
            raise BadInput(f"{what}: the field {sorted(lacking)[0]!r} is missing. Write such files with Circuit.save.")
        name, model, provenance = data["name"], data["model"], data["provenance"]
        if not isinstance(name, str) or not isinstance(model, str) or not isinstance(provenance, dict):
            raise BadInput(f"{what}: the fields 'name' and 'model' must be strings, and 'provenance' a mapping.")
        heads = [(_head(h, what), role) for h, role in _rows(data.get("heads"), 2, what)]
        edges = [_edge(sender, receiver, into, what) for sender, receiver, into in _rows(data.get("edges"), 3, what)]
        return cls(name, model, tuple(heads), tuple(edges), provenance)

    @classmethod
    def all_from_run(cls, path: str | os.PathLike[str]) -> dict[str, Circuit]:
        """The circuits of a finished run by task, from its table ``heads`` (and ``edges``, where there is one).

        Raises:
            BadInput: no finished run directory, or its tables lack columns.
        """
        from workbench.runs.run import Run

        run = Run.read(arguments.file_path("path", path, "the path of a run directory"))
        if "heads" not in run.table_names:
            raise BadInput(
                f"{path}: this run of {run.facts.get('finding')!r} has no table 'heads', so it has no circuit."
            )
        heads = _records(run.table("heads"), HEAD_COLUMNS, f"{path}, table heads")
        edges = _records(run.table("edges"), EDGE_COLUMNS, f"{path}, table edges") if "edges" in run.table_names else []
        where, model = f"{path}, its tables", run.facts.get("model", "")
        model = _model_name(model) if isinstance(model, dict) else str(model)
        origin = {"finding": run.facts.get("finding"), "run": run.path.name, "config": run.facts.get("config")}
        return {
            str(task): cls(
                str(task),
                model,
                tuple((_head(f"{r['layer']}.{r['index']}", where), str(r["role"])) for r in heads if r["task"] == task),
                tuple(
                    _edge(str(r["sender"]), str(r["receiver"]), str(r["into"]), where)
                    for r in edges
                    if r["task"] == task
                ),
                {"task": task, **origin},
            )
            for task in dict.fromkeys(r["task"] for r in heads)
        }

    @classmethod
    def from_run(cls, path: str | os.PathLike[str], task: str | None = None) -> Circuit:
        """The circuit of `task` from a finished run (of its only task, when none is named).

        Raises:
            UsageError: the run has several tasks and none was named.
            UnknownName: the run has no circuit for that task.
            BadInput: as `all_from_run`.
        """
        task = None if task is None else arguments.text("task", task)
        circuits = cls.all_from_run(path)
        if task is None and len(circuits) == 1:
            return next(iter(circuits.values()))
        if task is None:
            why = f"{path} has circuits of several tasks" if circuits else f"{path} has no circuit"
            raise arguments.refusal("task", None, f"one of {', '.join(circuits) or 'no task'}", because=why)
        if task not in circuits:
            expected = f"a task that has a circuit in {path}: {arguments.listing(list(circuits))}"
            raise UnknownName("task", task, circuits, argument="task", expected=expected)
        return circuits[task]

    def _repr_html_(self) -> str:
        from workbench.plotting.notebook import html_table

        rows = [(role, " ".join(map(str, heads))) for role, heads in self.roles.items()]
        return f"<div><b>{escape(self.name)}</b> · {escape(self.model)}{html_table(('role', 'heads'), rows)}</div>"


def _model_name(provenance: dict[str, Any]) -> str:
    """Its name, with the operators that were swapped in."""
    operators = provenance.get("operators")
    by_layer = operators if isinstance(operators, dict) and all(str(layer).isdecimal() for layer in operators) else {}
    return full_name(provenance.get("name", ""), {layer: str(name) for layer, name in by_layer.items()})


def _is_head_and_role(pair: Any) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], Head) and isinstance(pair[1], str)


def _records(frame: pd.DataFrame, columns: Iterable[str], what: str) -> list[dict[str, Any]]:
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise BadInput(f"{what}: the columns {missing} are missing; found {list(frame.columns)}.")
    for column in ("head", "sender", "receiver"):
        if column in columns and not all(isinstance(head, str) for head in frame[column]):
            raise BadInput(
                f"{what}: column {column!r} contains numbers; expected strings, because 9.1 and 9.10 are the same "
                "number. Read CSV files with dtype={'head': str}."
            )
    return [row for row in frame.to_dict("records") if row.get("in_circuit", True)]


def _rows(value: Any, width: int, what: str) -> list[list[str]]:
    if not isinstance(value, list):
        raise BadInput(f"{what}: heads and edges must be lists.")
    for row in value:
        if not isinstance(row, list) or len(row) != width or not all(isinstance(item, str) for item in row):
            raise BadInput(f"{what}: {str(row)[:80]} is not a list of {width} strings.")
    return value


def _head(text: str, what: str) -> Head:
    try:
        head = Head.parse(text)
    except UsageError as error:
        raise BadInput(f"{what}: {error}") from None
    if head.layer < 0 or head.index < 0:
        raise BadInput(f"{what}: {text!r} is not a head: layers and heads count from 0.")
    return head


def _edge(sender: str, receiver: str, into: str, what: str) -> Edge:
    try:
        return Edge(_head(sender, what), None if receiver == LOGITS else _head(receiver, what), into)
    except UsageError as error:
        raise BadInput(f"{what}: {error}") from None
