"""``workbench reproduce NAME``: run a finding on a model, keep the run, answer by its verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench import registry
from workbench.cli import progress
from workbench.cli.answer import Answer, AsJson, NotRun, console
from workbench.cli.choices import Model, Seed, check_model, check_name, words
from workbench.errors import NotAvailable
from workbench.models.catalog import DEFAULT


def reproduce(
    name: Annotated[str, typer.Argument(help="A finding's name (workbench findings).")],
    model: Model = DEFAULT,
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Prompts a task (by default the finding's own number).")
    ] = None,
    seed: Seed = 0,
    tasks: Annotated[str | None, typer.Option(metavar="A,B", help="Only these tasks.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the run directory is made.")] = Path("runs"),
    as_json: AsJson = False,
) -> Answer:
    """Run a finding on a model and answer by its verdict."""
    check_name("finding", name, registry.names("circuits.findings"), "See workbench findings.")
    chosen = [check_name("task", word, registry.names("data.tasks"), "See workbench tasks.") for word in words(tasks)]
    check_model(model)
    settings: dict[str, Any] = {"seed": seed, **({"n": n} if n else {}), **({"tasks": chosen} if chosen else {})}
    try:
        return _run(name, model, settings, out)
    except NotAvailable as error:
        document = {"finding": name, "model": model, "verdict": "not run", "tables": {}, "run_dir": None}
        raise NotRun(f"not run: {error}", document) from error


def _run(name: str, model: str, given: dict[str, Any], out: Path) -> Answer:
    from workbench.runs.directory import RunDirectory, RunProgress

    finding = registry.load("circuits.findings", name, "finding", "finding")
    settings = finding.settings(given)
    console().print(f"{finding.title}\n\nQuestion  {finding.question}\nClaim     {finding.claim}\n")

    import workbench as wb

    with progress.shown() as display, RunDirectory.create(out, name, {"model": model, **settings}) as run:
        loaded = wb.load(model, progress=display)
        run.record(model=loaded.provenance, seed=settings.get("seed"))
        early = RunProgress(run, display, lambda what, path: display.say(f"{what} is ready: {path}"))
        report = finding.run(loaded, settings, early)
        run.add_report(report)
    document = {
        "finding": name,
        "model": model,
        "settings": settings,
        "verdict": report.verdict,
        "summary": report.summary,
        "tables": {key: frame.to_dict("records") for key, frame in report.tables.items()},
        "run_dir": str(run.path),
    }

    def show(console: Any) -> None:
        console.print(f"{report.summary.rstrip()}\n\nVerdict  {report.verdict}\nRun      {run.path}")

    return Answer(document, show, report.exit_code)
