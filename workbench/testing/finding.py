"""`check_finding`: what every finding must state, and what its run must leave, as messages for its author."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from workbench.errors import WorkbenchError
from workbench.findings import VERDICTS, Finding, Report, Threshold
from workbench.registry import FINDINGS
from workbench.results.circuit import EDGE_COLUMNS, HEAD_COLUMNS
from workbench.runs.directory import RunDirectory, RunProgress
from workbench.runs.run import Run
from workbench.testing.problems import raise_problems, run_in_order

#: As few prompts as a finding's statistics bear, so that the check is quick.
QUICK = {"n": 6}


def check_finding(finding: Finding | str, model: Any = None, settings: Mapping[str, Any] | None = None) -> None:
    """Check a finding as the test suite checks those of ``circuits/findings``: what it states, and two
    quick runs with the same settings, which must agree.

    Args:
        finding: a finding, or the name of one.
        model: what to run it on; by default the bundled model ``tiny``, if it needs a model.
        settings: of these runs, besides ``n=6``.

    Raises:
        AssertionError: everything that is wrong, each with what to write instead.

    Examples:
        >>> wb.testing.check_finding("head-ablation")
    """
    if isinstance(finding, str):
        finding = FINDINGS[finding]
    if not isinstance(finding, Finding):
        raise AssertionError(f"check_finding takes a wb.Finding or the name of one, not {type(finding).__name__}.")
    checks = (partial(_states_its_claim, finding), partial(_runs, finding, model, {**QUICK, **(settings or {})}))
    raise_problems(f"The finding {finding.name!r}", run_in_order(checks))


def _states_its_claim(finding: Finding) -> Iterator[str]:
    if not finding.title:
        yield "title is empty. Write a few words for headings."
    if not finding.question.endswith("?"):
        yield f"question={finding.question!r} is not a question. Write one that ends in '?'."
    if not finding.claim.endswith("."):
        yield f"claim={finding.claim!r} is not a sentence. Say what *supported* would mean, before you run it."
    if not finding.source:
        yield "source is empty. Name the paper, or say that there is none."
    if not finding.thresholds:
        yield "thresholds is empty. Give a Threshold for each number that decides the verdict."
    for name, threshold in finding.thresholds.items():
        if not isinstance(threshold, Threshold):
            yield f"thresholds[{name!r}]={threshold!r} is not a Threshold. Write Threshold('quantity', above=0)."
    if missing := [name for name in ("n", "seed") if name not in finding.defaults]:
        names = " and no ".join(map(repr, missing))
        yield f"defaults has no {names}. Give a number of prompts and a seed: n=25, seed=0."
    if unknown := sorted(set(finding.full) - set(finding.defaults)):
        yield f"full has {', '.join(unknown)}, which defaults does not have. Add each setting to defaults."


def _runs(finding: Finding, model: Any, settings: Mapping[str, Any]) -> Iterator[str]:
    if model is None and finding.needs_model:
        from workbench.models import load

        model = load("tiny")
    with tempfile.TemporaryDirectory() as folder:
        try:
            config = finding.settings(settings)
            with RunDirectory.create(folder, finding.name, config) as run:
                report = finding.report(model, config, RunProgress(run))
                if model is not None:
                    run.record(model=model.provenance)
                run.add_report(report)
        except (WorkbenchError, TypeError, AttributeError, KeyError, ValueError) as error:
            yield f"its run with {dict(settings)} raises {type(error).__name__}: {error}"
            return
        if run.path is None:
            yield "its run directory was not written."
            return
        yield from _run_is_complete(report, Run.read(run.path), config)
    yield from _charts_are_labelled(report)
    yield from _runs_agree(report, finding.report(model, config))


def _run_is_complete(report: Report, run: Run, config: Mapping[str, Any]) -> Iterator[str]:
    if report.verdict not in VERDICTS:
        yield f"its verdict is {report.verdict!r}; expected {' or '.join(VERDICTS)}."
    if f"n = {config['n']}" not in run.summary:
        yield f"its summary does not say 'n = {config['n']}'. Return study.report(...), which writes it."
    if report.verdict.capitalize() not in run.summary:
        yield f"its summary does not say {report.verdict!r}. Return study.report(...), which writes the verdict."
    if only_one := set(report.figures) ^ set(report.pictures):
        names = ", ".join(sorted(only_one))
        yield f"{names}: only in figures, or only in pictures. Give charts to study.report(charts=…), which draws both."
    if not {"quantity", "value", "n"} <= set(report.tables.get("summary", ())):
        yield "it has no table 'summary' with the columns quantity, value and n. Add summary_table({'quantity': …}, n)."
    for name, columns in {"heads": HEAD_COLUMNS, "edges": EDGE_COLUMNS}.items():
        frame = report.tables.get(name, ())
        if len(frame) and (absent := [column for column in columns if column not in frame]):
            yield (
                f"the table {name!r} has no {', '.join(absent)}, which Circuit.from_run needs. Add them "
                "(head_columns names a head), or give the table another name."
            )
    for name, frame in report.tables.items():
        if name not in run.table_names or set(run.table(name).columns) != set(frame.columns):
            yield f"the table {name!r} changes when it is written and read back. Use plain named columns."
    if missing := set(report.figures) - set(run.figure_names):
        yield f"the figures {', '.join(sorted(missing))} are not in the run."


def _charts_are_labelled(report: Report) -> Iterator[str]:
    """A title; the quantity with its unit at every axis of numbers, and beside the colours of a heatmap."""
    for name, figure in report.figures.items():
        layout, traces = figure.to_dict()["layout"], figure.to_dict()["data"]
        if not _text(layout):
            yield f"the figure {name!r} has no title. Write what is drawn, the model and n: title=…"
        for axis in ("x", "y"):
            axes = [part for name, part in layout.items() if name.startswith(f"{axis}axis")]  # of several panels
            if not any(map(_text, axes)) and any(_is_numeric(trace.get(axis)) for trace in traces):
                yield f"the figure {name!r} has no title at its {axis} axis. Write the quantity and its unit."
        if any(trace["type"] == "heatmap" and not _text(trace.get("colorbar", {})) for trace in traces):
            yield f"the figure {name!r} does not say what its colours are. Write the quantity and its unit: scale=…"


def _text(part: Mapping[str, Any]) -> str:
    """The title of a figure, an axis or a colour bar."""
    return (part.get("title") or {}).get("text") or ""


def _is_numeric(values: Any) -> bool:
    return values is not None and np.issubdtype(np.asarray(values).dtype, np.number)


def _runs_agree(first: Report, second: Report) -> Iterator[str]:
    for name, frame in first.tables.items():
        again = second.tables.get(name)
        if again is None or list(again.columns) != list(frame.columns) or len(again) != len(frame):
            yield f"a second run with the same seed has another table {name!r}. Draw from study.seed, and nothing else."
            continue
        for column in frame:
            if not _same(frame[column].to_numpy(), again[column].to_numpy()):
                yield (
                    f"a second run with the same seed has other numbers in {name}.{column}. Draw from study.seed, and "
                    "nothing else."
                )
                break


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    """Equal, numbers within rounding: threads may add in another order."""
    if all(np.issubdtype(x.dtype, np.number) for x in (first, second)):
        return np.allclose(first.astype(float), second.astype(float), rtol=1e-4, atol=1e-4, equal_nan=True)
    return list(map(str, first)) == list(map(str, second))
