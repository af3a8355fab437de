"""One execution of a finding, from its settings to a finished run directory: for the command line and for the page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cache import unfinished
from workbench.io.local_names import local_name
from workbench.runs.directory import RunDirectory, RunProgress
from workbench.runs.local_files import located_settings, remember, settings_with_hashes

if TYPE_CHECKING:
    from workbench.findings import Finding, Report


def execute(
    finding: Finding,
    model: str | None,
    settings: Mapping[str, Any],
    out: str | os.PathLike[str],
    *,
    load: Callable[[str], Any],
    tell: Callable[[int, int, str], None] | None = None,
    show: Callable[[str, Path], None] | None = None,
    operators: Mapping[str, str] | None = None,
    repeats: str | None = None,
) -> tuple[Report, Path]:
    """Run a finding and save the run. An interrupted one leaves no directory; what it computed stays in the cache.

    Args:
        model: its name; None for a finding that needs none.
        settings: as `Finding.settings` gives them.
        load: returns the model of that name, with the `operators`.
        operators: layers → operator, of a model that uses others than its own.
        tell: called with ``(done, total, what)``; show: called with ``(name, path)`` of each early figure or table.
        repeats: the name of the run that this one repeats.
    """
    swapped = {"operators": dict(operators)} if operators else {}
    named = {} if model is None else {"model": local_name(model)}
    config = {**named, **swapped, **settings_with_hashes(settings, finding.files)}
    with RunDirectory.create(out, finding.name, config) as run, unfinished(finding.name, config):
        if repeats is not None:
            run.record(repeats=repeats)
        run.record(seed=settings.get("seed"))
        loaded = None if model is None else _loaded(model, load, run)
        report = finding.report(loaded, located_settings(settings, finding.files), RunProgress(run, tell, show))
        run.add_report(report)
    assert run.path is not None
    return report, run.path


def _loaded(name: str, load: Callable[[str], Any], run: RunDirectory) -> Any:
    """The model, with what the run records of it."""
    model = load(name)
    run.record(
        model=model.provenance,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        attention=model.attention_implementation,
    )
    if local_name(name) != name or Path(name).exists():
        remember(str(model.provenance.get("sha256")), Path(name))
    return model
