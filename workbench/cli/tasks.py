"""``workbench tasks``: the tasks in ``data/tasks``."""

from __future__ import annotations

from typing import Any

from workbench import registry
from workbench.cli.answer import Answer, AsJson, table
from workbench.registry import TASKS

LEGEND = (
    "to IOI: how close a task is to indirect object identification (ioi), declared before any result was seen: near, "
    "distant or other; studied: the task that the study of circuit reuse compares with it."
)


def tasks(as_json: AsJson = False) -> Answer:
    """List the tasks: generators of prompt pairs."""
    rows, broken = [], []
    for name in TASKS.names():
        try:
            rows.append(_row(TASKS[name]))
        except registry.BrokenEntry as error:
            broken.append({"name": name, "reason": str(error)})
    columns = ("name", "question", "positions", "to IOI", "n")

    def show(console: Any) -> None:
        cells = [(r["name"], r["question"], ", ".join(r["positions"]), r["relation"], r["n"]) for r in rows]
        console.print(table(columns, cells, right=("n",)))
        console.print(LEGEND)
        for entry in broken:
            console.print(entry["reason"])
        console.print("Try one:  workbench patch --task ioi")

    return Answer({"tasks": rows, "broken": broken}, show, 3 if broken else 0)


def _row(task: Any) -> dict[str, Any]:
    return {
        "name": task.name,
        "title": task.title,
        "question": task.question,
        "n": task.n,
        "positions": list(task.positions),
        "stages": dict(task.stages),
        "relation": task.relation,
    }
