"""``workbench runs list|show|diff|export``: the runs of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.answer import Answer, AsJson, table
from workbench.errors import BadInput, UsageError

verbs = typer.Typer(help="Inspect runs: runs list, show ID, diff A B, export ID.", rich_markup_mode=None)

Id = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="A run's name, part of its name, its directory, or latest (the newest that is not a repetition).",
    ),
]
Root = Annotated[Path, typer.Option("--dir", metavar="DIR", help="The folder of runs to search.")]


@verbs.command("list")
def list_runs(root: Root = Path("runs"), as_json: AsJson = False) -> Answer:
    """List finished runs, newest first."""
    from workbench.runs.locate import NO_RUNS, finished_runs, relative_path
    from workbench.runs.run import Run

    rows = []
    for path in finished_runs(root):
        try:
            facts = Run.read_header(path).facts
        except BadInput as error:
            rows.append({"id": path.name, "path": relative_path(path), "damaged": str(error)})
            continue
        config = facts.get("config") or {}
        rows.append(
            {
                "id": path.name,
                "finding": facts.get("finding"),
                "model": config.get("model"),
                "operators": config.get("operators"),
                "n": config.get("n"),
                "verdict": facts.get("verdict"),
                "started": facts.get("started"),
                "seconds": facts.get("seconds"),
                "repeats": facts.get("repeats"),
                "path": relative_path(path),
            }
        )

    def show(console: Any) -> None:
        columns = ("id", "model", "n", "verdict", "seconds", "repeats")
        cells = [[_cell(r, c) if "damaged" not in r or c == "id" else "damaged" for c in columns] for r in rows]
        console.print(table(columns, cells, right=("n", "seconds")) if rows else NO_RUNS)

    return Answer({"runs": rows}, show)


@verbs.command("show")
def show_run(name: Id, root: Root = Path("runs"), as_json: AsJson = False) -> Answer:
    """Show a run's report and provenance. All its files are checked first."""
    from workbench.runs.locate import relative_path

    run = _run(name, root)
    document = {
        "path": relative_path(run.path),
        "facts": run.facts,
        "summary": run.summary,
        "tables": list(run.table_names),
        "figures": list(run.figure_names),
    }

    def show(console: Any) -> None:
        console.print(run.summary + "\n")
        for key in ("finding", "config", "model", "versions", "git", "platform", "started", "seconds"):
            console.print(f"{key}: {run.facts.get(key)}")
        console.print(f"tables: {', '.join(run.table_names)}\nfigures: {', '.join(run.figure_names)}\n{run.path}")

    return Answer(document, show)


@verbs.command("diff")
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A run, as in runs show.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another run.")],
    root: Root = Path("runs"),
    as_json: AsJson = False,
) -> Answer:
    """Show how two runs differ. Compares configuration, versions, verdict and tables; exit code 1 if tables differ."""
    from workbench.runs.compare import compare, config_differences
    from workbench.runs.locate import relative_path

    a, b = _run(first, root), _run(second, root)
    if a.path.resolve() == b.path.resolve():
        raise UsageError(f"{first!r} and {second!r} are the same run, {a.path.name}. Give two runs.")
    facts, tables = config_differences(a, b), compare(a, b)

    def show(console: Any) -> None:
        for key, (x, y) in facts.items():
            console.print(f"{key}: {x} vs {y}")
        console.print(agreement(tables))

    agree = all(t.agrees for t in tables)
    document = {
        "a": relative_path(a.path),
        "b": relative_path(b.path),
        "facts": facts,
        "tables": tables,
        "agree": agree,
    }
    return Answer(document, show, int(not agree))


@verbs.command("export")
def export(
    name: Id,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The .zip file to make (default: ID.zip in this folder).")
    ] = None,
    root: Root = Path("runs"),
    as_json: AsJson = False,
) -> Answer:
    """Pack a run into one .zip file. All its files are checked first."""
    run = _run(name, root)
    target = out or Path(f"{run.path.name}.zip")
    run.export(target)
    return Answer({"path": str(target)}, lambda console: console.print(f"{run.path.name} is packed in {target}"))


def _cell(row: Mapping[str, Any], column: str) -> Any:
    operators = row.get("operators")
    if column != "model" or not isinstance(operators, dict):
        return row.get(column)
    return ", ".join([str(row["model"]), *(f"{layers}={operator}" for layers, operator in operators.items())])


def agreement(tables: Any) -> Any:
    """A table of how tables agree."""
    words = [
        (t.table, "agrees" if t.agrees else t.reason or f"{t.beyond} numbers, {t.words} words differ", t.largest)
        for t in tables
    ]
    return table(("table", "", "largest difference"), words, right=("largest difference",))


def _run(name: str, root: Path) -> Any:
    from workbench.runs.locate import find_run
    from workbench.runs.run import Run

    return Run.read(find_run(name, root))
