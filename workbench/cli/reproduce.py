"""``workbench reproduce NAME``: run a finding on a model, keep the run, answer by its verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench import registry
from workbench.cli import progress
from workbench.cli.answer import Answer, AsJson, NotRun, console
from workbench.cli.choices import Model, Seed, check_model, check_name, words
from workbench.errors import NotAvailable
from workbench.models.catalog import DEFAULT

if TYPE_CHECKING:
    from workbench.findings import Report

#: Exit code by verdict: an answer is no failure, but a claim that the numbers contradict is told apart.
CODES = {"supported": 0, "undecided": 0, "not supported": 1, "not run": 4}


def reproduce(
    name: Annotated[str, typer.Argument(help="A finding's name (workbench findings).")],
    model: Model = DEFAULT,
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Prompts a task (by default the finding's own number).")
    ] = None,
    seed: Seed = 0,
    tasks: Annotated[str | None, typer.Option(metavar="A,B", help="Only these tasks.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run directory (by default a new one in runs/).")
    ] = None,
    as_json: AsJson = False,
) -> Answer:
    """Run a finding on a model and answer by its verdict."""
    check_name("finding", name, registry.names("circuits.findings"), "See workbench findings.")
    chosen = [check_name("task", word, registry.names("data.tasks"), "See workbench tasks.") for word in words(tasks)]
    check_model(model)
    settings: dict[str, Any] = {"seed": seed, **({"n": n} if n else {}), **({"tasks": chosen} if chosen else {})}
    try:
        return _run(name, model, settings, out, quiet=as_json)
    except NotAvailable as error:
        document = {"finding": name, "model": model, "verdict": "not run", "tables": {}, "run_dir": None}
        raise NotRun(f"not run: {error}", document) from error


def _run(name: str, model: str, settings: dict[str, Any], out: Path | None, quiet: bool) -> Answer:
    from workbench.runs import directory

    finding = registry.load("circuits.findings", name, "finding", "finding")
    if not quiet:
        console().print(f"{finding.title}\n\nQuestion  {finding.question}\nClaim     {finding.claim}\n")

    import workbench as wb

    with progress.shown() as show_progress, directory.writing(finding.name, out) as run_dir:
        loaded = wb.load(model, progress=show_progress)
        report: Report = finding.run(loaded, settings, show_progress)
        run_dir.write(report, settings)
    document = {
        "finding": name,
        "model": model,
        "verdict": report.verdict,
        "settings": settings,
        "tables": {key: frame.to_dict("records") for key, frame in report.tables.items()},
        "run_dir": str(run_dir.path),
    }

    def show(console: Any) -> None:
        console.print(f"{report.summary}\n\nVerdict  {report.verdict}\nRun      {run_dir.path}")

    return Answer(document, show, CODES[report.verdict])
