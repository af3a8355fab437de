"""Published circuits beside measured ones: a run's own comparison, and what was published, with how certain it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from circuits import published
from workbench.core import Head
from workbench.errors import UnknownName
from workbench.results.circuit import Circuit
from workbench.runs.run import Run

#: The tables that findings write for a model with published heads, and their headings.
TABLES: Mapping[str, str] = {
    "published_heads": "Published heads, with their effect and rank in this run",
    "published_overlaps": "Published overlaps, and those of this run",
    "published_values": "Published values, and those of this run",
}
#: How certain a published value is, in words; "memory" is never called checked.
CERTAINTY: Mapping[str, str] = {
    "repository": "in a repository",
    "readings": "readings agree",
    "abstract": "in the abstract",
    "memory": "not checked",
}
#: What these words mean.
LEGEND = (
    "The column checked says where the published heads and numbers come from. In a repository: they stand in the "
    "authors’ scripts, or in a repository that reproduces the paper. Readings agree: the paper was read independently "
    "twice or more, with the same result. In the abstract: they stand in the paper’s abstract. Not checked: they were "
    "written down from memory, so do not rely on them."
)


def with_certainty(frame: pd.DataFrame) -> pd.DataFrame:
    """A table with a column ``checked`` instead of the tag ``sure``; an unknown tag reads "not checked"."""
    if "sure" not in frame:
        return frame.assign(checked=CERTAINTY["memory"])
    texts = [CERTAINTY.get(str(tag), CERTAINTY["memory"]) for tag in frame["sure"]]
    return frame.drop(columns="sure").assign(checked=texts)


def comparison_tables(run: Run) -> dict[str, pd.DataFrame]:
    """The run's own tables of published heads, overlaps and values, by heading."""
    return {heading: with_certainty(run.table(name)) for name, heading in TABLES.items() if name in run.table_names}


def published_tasks(model: str) -> list[str]:
    """The tasks of which a circuit was published."""
    return list(dict.fromkeys(task for entry in _published(model)["heads"] for task in entry["tasks"]))


def published_circuit(model: str, task: str) -> Circuit:
    """The published circuit of a task."""
    roles = published.circuit(model, task)
    heads = tuple((head, role) for role, group in roles.items() for head in group)
    return Circuit(task, model, heads, (), {"source": source_text(model, task), "published": True})


def head_table(model: str, task: str) -> pd.DataFrame:
    """One row per role: ``role, heads, checked, note``."""
    rows = [
        {"role": entry["role"], "heads": " ".join(entry["heads"]), "sure": entry["sure"]}
        | {"note": entry.get("note", "")}
        for entry in _published(model)["heads"]
        if task in entry["tasks"]
    ]
    return with_certainty(pd.DataFrame(rows)).reindex(columns=["role", "heads", "checked", "note"])


def value_table(model: str) -> pd.DataFrame:
    """Other published numbers: overlaps of tasks, and values of findings."""
    facts = _published(model)
    rows = [
        {"quantity": f"overlap of {entry['task_a']} and {entry['task_b']}", "value": entry["share"]}
        | {"sure": entry["sure"], "note": entry.get("note", "")}
        for entry in facts.get("overlaps", ())
    ]
    rows += [
        {"quantity": f"{entry['finding']}: {entry['quantity']}", "value": entry["value"]}
        | {"sure": entry["sure"], "note": ""}
        for entry in facts.get("values", ())
    ]
    table = with_certainty(pd.DataFrame(rows, columns=["quantity", "value", "sure", "note"]))
    return table.reindex(columns=["quantity", "value", "checked", "note"])


def source_text(model: str, task: str) -> str:
    """Where the circuit of a task was published."""
    facts = _published(model)
    entries = [entry for entry in facts["heads"] if task in entry["tasks"]]
    return "; ".join(dict.fromkeys(str(entry.get("source", facts["source"])) for entry in entries))


def published_roles(model: str, task: str) -> dict[Head, str]:
    """The published role of each head of the task; empty where nothing was published."""
    facts = published.of_model(model) or {}
    roles: dict[Head, list[str]] = {}
    for entry in facts.get("heads", ()):
        for text in entry["heads"] if task in entry["tasks"] else ():
            roles.setdefault(Head.parse(text), []).append(str(entry["role"]))
    return {head: ", ".join(names) for head, names in roles.items()}


def _published(model: str) -> Mapping[str, Any]:
    facts = published.of_model(model)
    if facts is None:
        raise UnknownName("published model", model, published.models())
    return facts
