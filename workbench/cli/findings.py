"""``workbench findings``: the findings in ``circuits/findings``."""

from __future__ import annotations

import ast
from typing import Any

from workbench.cli.answer import Answer, AsJson, table
from workbench.registry import FINDINGS


def findings(as_json: AsJson = False) -> Answer:
    """List the findings: experiments that end in a verdict."""
    found = [{"name": name, "title": _title(name)} for name in FINDINGS.names()]

    def show(console: Any) -> None:
        console.print(table(("name", "what it asks"), [(row["name"], row["title"]) for row in found]))
        console.print("Run one:  workbench reproduce NAME")

    return Answer({"findings": found}, show)


def _title(name: str) -> str:
    """First line of the file's docstring, read without importing it: findings import the whole engine."""
    text = ast.get_docstring(ast.parse(FINDINGS.path(name).read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]
