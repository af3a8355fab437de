"""Published circuits beside measured ones: what a run says of them, and what was published, with how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from circuits import published
from workbench.core import Head
from workbench.errors import UnknownName
from workbench.results.circuit import Circuit
from workbench.runs.run import Run

#: The tables that findings write for a model with published heads, and what they hold.
TABLES: Mapping[str, str] = {
    "published_heads": "Published heads, with their effect and rank in this run",
    "published_overlaps": "Published overlaps, with this run's",
    "published_values": "Published values, with this run's",
}
#: How sure a published value is, in words; "memory" is never called checked.
CERTAINTY: Mapping[str, str] = {
    "repository": "in a repository",
    "readings": "readings agree",
    "abstract": "in the abstract",
    "memory": "not checked",
}
#: What these words mean.
LEGEND = (
    "In a repository: in the authors' scripts, or in a repository that reproduces them. Readings agree: two or more "
    "independent readings of the paper do. Not checked: from memory, and not to be relied on."
)


def with_certainty(frame: pd.DataFrame) -> pd.DataFrame:
    """A table with a column ``checked`` instead of the tag ``sure``; any other tag reads "not checked"."""
    if "sure" not in frame:
        return frame.assign(with_certainty=CERTAINTY["memory"])
    words = [CERTAINTY.get(str(tag), CERTAINTY["memory"]) for tag in frame["sure"]]
    return frame.drop(columns="sure").assign(with_certainty=words)


def run_tables(run: Run) -> dict[str, pd.DataFrame]:
    """The run's own tables of published heads, overlaps and values, by what they hold."""
    return {words: with_certainty(run.table(name)) for name, words in TABLES.items() if name in run.table_names}


def published_tasks(model: str) -> list[str]:
    """The tasks that a circuit was published for."""
    return list(dict.fromkeys(task for entry in _entry_of(model)["heads"] for task in entry["tasks"]))


def published_circuit(model: str, task: str) -> Circuit:
    """The published circuit of a task."""
    roles = published.circuit(model, task)
    heads = tuple((head, role) for role, mine in roles.items() for head in mine)
    return Circuit(task, model, heads, (), {"source": source_text(model, task), "published": True})


def head_table(model: str, task: str) -> pd.DataFrame:
    """A row a role: ``role, heads, checked, note``."""
    rows = [
        {"role": entry["role"], "heads": " ".join(entry["heads"]), "sure": entry["sure"]}
        | {"note": entry.get("note", "")}
        for entry in _entry_of(model)["heads"]
        if task in entry["tasks"]
    ]
    return with_certainty(pd.DataFrame(rows)).reindex(columns=["role", "heads", "checked", "note"])


def value_table(model: str) -> pd.DataFrame:
    """What else was published: overlaps of tasks, and values of findings."""
    entry = _entry_of(model)
    rows = [
        {"quantity": f"overlap of {e['task_a']} and {e['task_b']}", "value": e["share"], "sure": e["sure"]}
        | {"note": e.get("note", "")}
        for e in entry.get("overlaps", ())
    ]
    rows += [
        {"quantity": f"{e['finding']}: {e['quantity']}", "value": e["value"], "sure": e["sure"], "note": ""}
        for e in entry.get("values", ())
    ]
    table = with_certainty(pd.DataFrame(rows, columns=["quantity", "value", "sure", "note"]))
    return table.reindex(columns=["quantity", "value", "checked", "note"])


def source_text(model: str, task: str) -> str:
    """Where it was published."""
    entry = _entry_of(model)
    entries = [entry for entry in entry["heads"] if task in entry["tasks"]]
    return "; ".join(dict.fromkeys(str(entry.get("source", entry["source"])) for entry in entries))


def published_roles(model: str, task: str) -> dict[Head, str]:
    """What each published head of the task is called there; empty where nothing was published."""
    entry = published.of_model(model) or {}
    roles: dict[Head, list[str]] = {}
    for entry in entry.get("heads", ()):
        for text in entry["heads"] if task in entry["tasks"] else ():
            roles.setdefault(Head.parse(text), []).append(str(entry["role"]))
    return {head: ", ".join(roles) for head, roles in roles.items()}


def _entry_of(model: str) -> Mapping[str, Any]:
    entry = published.of_model(model)
    if entry is None:
        raise UnknownName("published model", model, published.models())
    return entry
