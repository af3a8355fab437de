"""``workbench findings``: the findings in ``circuits/findings``."""

from __future__ import annotations

from typing import Any

from workbench.cli.answer import Answer, AsJson, table
from workbench.registry import FINDINGS


def findings(as_json: AsJson = False) -> Answer:
    """List the findings: experiments that end in a verdict."""
    rows = [{"name": name, "title": FINDINGS.summary(name)} for name in FINDINGS.names()]

    def show(console: Any) -> None:
        console.print(table(("name", "question"), [(row["name"], row["title"]) for row in rows]))
        console.print("Run one:  workbench reproduce NAME")

    return Answer({"findings": rows}, show)
