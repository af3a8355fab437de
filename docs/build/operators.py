"""The page of attention operators as Markdown, from the registry: their docstrings, properties and settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.attention.cost.forms import form
from workbench.attention.declared import declared
from workbench.attention.describe import described, description
from workbench.attention.operator import operator
from workbench.cli.operators import CAUSAL, MATRIX, ROWS
from workbench.registry import OPERATORS

#: Rows of an operator's own table: property → heading.
RESUMES = {"keys": "keys and values", "state": "its state", "no": "nothing: full forward passes"}


def rendered(part: str) -> str:
    """The text for a marker ``<!-- operators: part -->``."""
    return {"list": overview, "pages": pages}[part]()


def overview() -> str:
    """All operators in one table."""
    rows = []
    for name in OPERATORS.names():
        facts = declared(name)
        rows.append(
            (
                f"[{name}](#{name})",
                OPERATORS.summary(name),
                facts["status"],
                MATRIX.get(facts["matrix_axis"], facts["matrix_axis"]),
                CAUSAL.get(facts["causal"], facts["causal"]),
                ROWS.get(facts["row_stochastic"], facts["row_stochastic"]),
            )
        )
    return _table(("operator", "", "status", "matrix", "causal", "rows of the matrix"), rows)


def pages() -> str:
    """A section for each operator."""
    return "\n\n".join(page(name) for name in OPERATORS.names())


def page(name: str) -> str:
    """Docstring, properties with default settings, choices and settings of an operator."""
    facts = described(operator(name))
    cost = form(facts["form"])
    rows = {
        "source": facts["source"],
        "status": facts["status"],
        "role": facts["role"],
        "matrix": MATRIX[facts["matrix_axis"]],
        "causal": CAUSAL[facts["causal"]],
        "rows of the matrix": ROWS[facts["row_stochastic"]],
        "needs besides q, k and v": ", ".join(facts["needs"]),
        "does not read": ", ".join(facts["ignores"]),
        "invents in a swap": facts["invents"],
        "records": ", ".join(f"`{record}`" for record in facts["records"]),
        "resumes from": RESUMES[facts["resumes"]],
        "check length": f"{facts['check_length']} positions",
        "passes over the keys": f"{cost.passes}, as written {cost.passes_as_written}",
    }
    parts = [f"## {name}", description(name)]
    parts.append(_table(("", "with default settings"), [(key, value) for key, value in rows.items() if value]))
    if facts["choices"]:
        parts.append("Chosen where the source leaves it open:\n\n" + "\n".join(f"- {x}" for x in facts["choices"]))
    if facts["settings"]:
        settings = [(f"`{s['name']}`", s["what"], f"`{s['default']!r}`", s["expected"]) for s in facts["settings"]]
        parts.append(_table(("setting", "meaning", "default", "may be"), settings))
    return "\n\n".join(parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
