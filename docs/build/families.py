"""The table of families as Markdown, from ``docs/families.json`` (`make families`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Headings of the cells, in the order of the columns.
HEADINGS = {
    "bit-identical": "logits",
    "z": "z",
    "pattern": "pattern",
    "q, k, v": "q, k, v",
    "sweep z · head": "sweep: head",
    "sweep z · head · position": "sweep: head × position",
    "sweep v": "sweep: v",
    "sweep k": "sweep: k",
    "sweep q": "sweep: q",
    "sweep pattern": "sweep: pattern",
    "sweep stream · position": "sweep: stream",
    "path patching": "path patching",
    "attributions": "attributions",
    "scores": "scores",
    "cones": "a sweep skips",
    "bfloat16": "bfloat16",
}
Row = Mapping[str, Any]


def rendered(part: str, path: Path) -> str:
    """The text for a marker ``<!-- families: part -->``."""
    parts = {"measured": measured, "table": table, "remarks": remarks, "refused": refused, "untried": untried}
    return parts[part](json.loads(path.read_text(encoding="utf-8")))


def measured(results: Mapping[str, Any]) -> str:
    """How many, and on which versions."""
    rows = results["families"].values()
    works, refusals = [_works(row) for row in rows].count(True), [_is_refused(row) for row in rows].count(True)
    wrong = sum(_is_wrong(cell) for row in rows for cell in row.get("cells", {}).values())
    packages = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return (
        f"{works + refusals} configurations: {works} work and {refusals} are refused. "
        f"{wrong or 'No'} {'cell is' if wrong == 1 else 'cells are'} wrong. Measured with {packages}, on the CPU, in "
        f"float32 where nothing else is said. All of it takes about {max(1, round(results['seconds'] / 60))} minutes."
    )


def table(results: Mapping[str, Any]) -> str:
    """One row for each family that works."""
    rows = [
        [f"`{name}`", *(_cell(row["cells"][column]) for column in HEADINGS)]
        for name, row in results["families"].items()
        if _works(row)
    ]
    return _table(["family", *HEADINGS.values()], rows)


def remarks(results: Mapping[str, Any]) -> str:
    """What the workbench says of a family when it loads, and why cells are empty or wrong."""
    rows = []
    for name, row in results["families"].items():
        if not _works(row):
            continue
        notes: dict[str, list[str]] = {}
        for column, cell in row["cells"].items():
            text = cell.get("text", "")
            if text and column != "cones" and not (column == "bfloat16" and cell["state"] == "exact"):
                notes.setdefault(text, []).append("" if column == "wraps" else HEADINGS[column])
        messages = [f"{', '.join(columns)}: {text}" if any(columns) else text for text, columns in notes.items()]
        if messages:
            rows.append([f"`{name}`", "<br>".join(map(_escaped, messages))])
    return _table(["family", "remarks"], rows)


def refused(results: Mapping[str, Any]) -> str:
    """The families that are refused, with the message."""
    rows = [
        [
            f"`{name}`",
            ("**WRONG:** " if _is_wrong(row["cells"]["wraps"]) else "") + _escaped(row["cells"]["wraps"]["text"]),
        ]
        for name, row in results["families"].items()
        if _is_refused(row)
    ]
    return _table(["family", "message"], rows)


def untried(results: Mapping[str, Any]) -> str:
    """The types of which no tiny model was made."""
    rows = [[f"`{name}`", _escaped(row["untried"])] for name, row in results["families"].items() if "untried" in row]
    return _table(["type", "why"], rows)


def _works(row: Row) -> bool:
    return len(row.get("cells", {})) > 1


def _is_refused(row: Row) -> bool:
    return len(row.get("cells", {})) == 1


def _is_wrong(cell: Row) -> bool:
    return cell["state"] == "wrong"


def _cell(cell: Row) -> str:
    """A difference and the largest effect, or why there is none."""
    if cell["state"] in ("stated", "unchecked"):
        return "refused" if cell["state"] == "stated" else "not checked"
    if "effect" not in cell:
        text = {0.0: "identical", None: cell.get("text") or "error"}.get(cell.get("difference"), "differ")
    else:
        difference = f"{cell['difference']:.0e}" if cell["difference"] else "0"
        text = f"{difference} of {cell['effect']:.2g}"
    return f"**WRONG** {text}" if _is_wrong(cell) else text


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
