"""``workbench reproduce NAME``: run a finding on a model, keep the run, answer by its verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli import progress
from workbench.cli.answer import Answer, AsJson, NotRun, console
from workbench.cli.choices import (
    Model,
    NoCache,
    Operators,
    Seed,
    caching,
    check_model,
    check_name,
    parse_operators,
    split_list,
)
from workbench.errors import BadInput, NotAvailable, UsageError
from workbench.io.local_names import local_name
from workbench.models import catalog
from workbench.models.catalog import DEFAULT
from workbench.registry import FINDINGS, TASKS

if TYPE_CHECKING:
    from workbench.runs.run import Run


def reproduce(
    name: Annotated[str | None, typer.Argument(help="The name of a finding (workbench findings lists them).")] = None,
    model: Model = DEFAULT,
    operators: Operators = None,
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Prompts per task (default: the finding's own number).")
    ] = None,
    seed: Seed = 0,
    tasks: Annotated[str | None, typer.Option(metavar="A,B", help="Use only these tasks.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Change another setting of the finding, such as task=greater-than."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder in which to make the run directory.")] = Path("runs"),
    again: Annotated[
        str | None,
        typer.Option("--from", metavar="RUN", help="Repeat this run without the cache, and compare the results."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Run the long form, with more controls.")] = False,
    no_cache: NoCache = False,
    as_json: AsJson = False,
) -> Answer:
    """Run a finding, or repeat a run. The exit code gives the verdict, or whether the repetition agrees."""
    if (name is None) == (again is None):
        raise UsageError("Give either a finding's NAME (workbench findings lists them) or --from RUN.")
    if again is not None:
        options = {"--n": n is not None, "--seed": seed != 0, "--tasks": tasks is not None, "--full": full}
        options |= {"--set": bool(settings), "--operator": bool(operators)}
        if conflicts := [option for option, is_set in {**options, "--model": model != DEFAULT}.items() if is_set]:
            raise UsageError(
                f"{conflicts[0]} cannot be used with --from: a repetition has the same settings as its run."
            )
        return _repeat(again, out)
    assert name is not None
    check_name("finding", name, FINDINGS.names(), "See workbench findings.")
    chosen = [check_name("task", word, TASKS.names(), "See workbench tasks.") for word in split_list(tasks, "--tasks")]
    finding = FINDINGS[name]
    if finding.needs_model:
        check_model(model, because="findings ask about texts")
    elif operators or model != DEFAULT:
        raise UsageError(f"{'--operator' if operators else f'--model {model}'}: {name} needs no model. Leave it out.")
    swapped = parse_operators(operators)
    if chosen and "tasks" not in finding.defaults:
        do = f"Give --set task={chosen[0]}." if "task" in finding.defaults else "It draws from tasks of its own."
        raise UsageError(f"--tasks {tasks}: {name} does not compare tasks. {do}")
    requested: dict[str, Any] = {
        **(finding.full if full else {}),
        "seed": seed,
        **({"n": n} if n else {}),
        **({"tasks": chosen} if chosen else {}),
        **_settings(settings or [], finding.defaults),
    }
    try:
        return _run(name, model if finding.needs_model else None, swapped, requested, out, cached=not no_cache)
    except NotAvailable as error:
        document = {
            "finding": name,
            "model": local_name(model) if finding.needs_model else None,
            "operators": swapped,
            "verdict": "not run",
            "tables": {},
            "run_dir": None,
        }
        raise NotRun(f"not run: {error}", document) from error


def _settings(items: list[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """``NAME=VALUE`` as settings, each read as its default's kind."""
    settings: dict[str, Any] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"--set {item}: give NAME=VALUE, such as task=greater-than.")
        if name in ("n", "seed", "tasks"):
            raise UsageError(f"--set {item}: this setting has its own option, --{name}. Use that.")
        check_name("setting", name, defaults, "The finding's page in the documentation lists them.")
        default = defaults[name]
        if isinstance(default, list | tuple):
            settings[name] = split_list(value, f"--set {name}")
        elif isinstance(default, bool | int | float):
            settings[name] = _number(item, value, default)
        else:
            settings[name] = value
        if name == "task":
            check_name("task", value, TASKS.names(), "See workbench tasks.")
    return settings


def _number(item: str, value: str, default: float) -> float:
    try:
        number = float(value) if isinstance(default, float) else int(value)
    except ValueError:
        expected = "a number" if isinstance(default, float) else "a whole number"
        raise UsageError(f"--set {item}: expected {expected}, such as {default}.") from None
    if not 0 < number < math.inf:
        raise UsageError(f"--set {item}: expected a number above 0, such as {default}.")
    return number


def _repeat(which: str, out: Path) -> Answer:
    """Repeat a run from its configuration alone, and compare every table."""
    from workbench.cli.runs import agreement
    from workbench.runs.compare import TOLERANCE, compare, config_differences
    from workbench.runs.locate import find_run, relative_path
    from workbench.runs.run import Run

    old = Run.read(find_run(which, out))
    config = dict(old.facts.get("config") or {})
    name, operators = str(old.facts.get("finding")), config.pop("operators", {})
    check_name("finding", name, FINDINGS.names(), f"{old.path} is not a run of a finding.")
    model = None
    if FINDINGS[name].needs_model:
        model = check_model(_model_of(old, str(config.pop("model", ""))), because="findings ask about texts")
    if not isinstance(operators, dict):
        raise BadInput(f"{old.path}: its operators, {operators!r:.80}, are no mapping from layers to operators.")
    swapped = parse_operators(f"{layers}={operator}" for layers, operator in operators.items())
    answer = _run(name, model, swapped, config, out, cached=False, repeats=old.path.name)
    new = Run.read(answer.document["run_dir"])
    tables, facts = compare(old, new), config_differences(old, new)
    agree = all(table.agrees for table in tables)
    word = "agrees" if agree else "does not agree"
    document = {
        **answer.document,
        "from": relative_path(old.path),
        "agree": agree,
        "differences": tables,
        "facts": facts,
    }

    def show(console: Any) -> None:
        answer.show(console)
        for key, (then, now) in facts.items():
            console.print(f"{key}: {then} then, {now} now")
        console.print(agreement(tables))
        console.print(f"The repetition {word} with {old.path.name} within {TOLERANCE:g}.")

    return Answer(document, show, int(not agree))


def _model_of(run: Run, name: str) -> str:
    """The model that a run names; where that lay on this machine, its path.

    Raises:
        BadInput: it is found neither where it was nor in the current folder.
    """
    from workbench.runs.local_files import remembered

    facts = run.facts.get("model")
    if name in catalog.entries() or not isinstance(facts, dict):
        return name
    digest = str(facts.get("sha256"))
    place = next(remembered(digest), Path(name))
    if not place.exists() and name.startswith("./"):
        raise BadInput(f"{run.path.name}: its model {name} (SHA-256 {digest}) is not here. Put it into this folder.")
    return str(place) if place.exists() else name


def _run(
    name: str,
    model: str | None,
    operators: dict[str, str],
    requested: dict[str, Any],
    out: Path,
    *,
    cached: bool,
    repeats: str | None = None,
) -> Answer:
    from workbench.runs.execute import execute
    from workbench.runs.local_files import settings_with_hashes

    finding = FINDINGS[name]
    settings = finding.settings(requested)
    console().print(f"{finding.title}\n\nQuestion  {finding.question}\nClaim     {finding.claim}\n")

    import workbench as wb

    with progress.on_stderr() as display, caching(cached, display.say):
        report, path = execute(
            finding,
            model,
            settings,
            out,
            load=lambda name: wb.load(name, operators=operators or None, progress=display),
            tell=display,
            show=lambda what, path: display.say(f"{what} is ready: {path}"),
            operators=operators,
            repeats=repeats,
        )
    document = {
        "finding": name,
        "model": None if model is None else local_name(model),
        "operators": operators,
        "settings": settings_with_hashes(settings, finding.files),
        "verdict": report.verdict,
        "summary": report.summary,
        "tables": {key: frame.to_dict("records") for key, frame in report.tables.items()},
        "run_dir": str(path),
    }

    def show(console: Any) -> None:
        console.print(f"{report.summary.rstrip()}\n\nVerdict  {report.verdict}\nRun      {path}")

    return Answer(document, show, report.exit_code)
