"""What a finding needs besides its measurements, each named in a sentence for its author."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.findings.finding import Finding
from workbench.findings.report import Report
from workbench.findings.threshold import Threshold


def problems(finding: Finding) -> list[str]:
    """What is missing in a finding's declaration; empty when nothing is."""
    checks = {
        "title='': expected a few words for headings.": finding.title,
        f"question={finding.question!r}: expected one question, ending in '?'.": finding.question.endswith("?"),
        f"claim={finding.claim!r}: expected what 'supported' would mean, ending in '.'.": finding.claim.endswith("."),
        "source='': name the paper, or write 'none' with the reason for the study.": finding.source,
        "thresholds={}: expected at least one Threshold, stated before the run.": finding.thresholds,
        "defaults: 'n' is missing. Add the number of prompts, such as n=25.": "n" in finding.defaults,
        "defaults: 'seed' is missing. Add seed=0; every draw uses it.": "seed" in finding.defaults,
        f"results_version={finding.results_version!r}: expected a whole number, starting at 1.": isinstance(
            finding.results_version, int
        )
        and finding.results_version >= 1,
    }
    missing = [message for message, holds in checks.items() if not holds]
    for name, threshold in finding.thresholds.items():
        if not isinstance(threshold, Threshold):
            missing.append(f"thresholds[{name!r}]={threshold!r}: expected a workbench.findings.Threshold.")
    unknown = sorted(set(finding.full) - set(finding.defaults))
    missing += [f"full[{name!r}]: no such setting among the defaults." for name in unknown]
    return missing


def report_problems(finding: Finding, report: Report, settings: Mapping[str, Any]) -> list[str]:
    """What is missing in the report of a run with these settings; empty when nothing is."""
    from workbench.results.circuit import EDGE_COLUMNS, HEAD_COLUMNS

    missing = []
    if f"n = {settings['n']}" not in report.summary:
        missing.append(f"summary: 'n = {settings['n']}' is missing. Return study.report(...), which writes it.")
    if report.verdict.capitalize() not in report.summary:
        missing.append(
            f"summary: the verdict {report.verdict!r} is missing. Return study.report(...), which writes it."
        )
    if set(report.figures) != set(report.pictures):
        missing.append(
            f"figures {sorted(report.figures)} and pictures {sorted(report.pictures)}: expected the same names. "
            "Give charts to study.report(charts=...), which draws each both ways."
        )
    if "summary" not in report.tables:
        missing.append("tables: 'summary' is missing. Add summary_table({'quantity': ...}, n).")
    elif not {"quantity", "value", "n"} <= set(report.tables["summary"].columns):
        missing.append("tables['summary']: expected the columns quantity, value and n. Use summary_table(...).")
    for name, columns in {"heads": HEAD_COLUMNS, "edges": EDGE_COLUMNS}.items():
        table = report.tables.get(name)
        absent = [column for column in columns if table is not None and len(table) and column not in table.columns]
        if absent:
            missing.append(
                f"tables[{name!r}]: the columns {', '.join(absent)} are missing, and Circuit.from_run reads them. Add "
                "them (head_columns names a head), or give the table another name."
            )
    for name, table in report.tables.items():
        if len(table) and not any(column == "n" or str(column).startswith("n_") for column in table.columns):
            missing.append(f"tables[{name!r}]: expected a column n (or n_...): how many prompts its numbers are from.")
    return missing
