"""Findings and their results as Markdown. Every number comes from the finding's own object or from a committed run."""

from __future__ import annotations

import csv
import importlib
import inspect
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import families
import operators
from committed import MODELS, NO_MODEL, PROVENANCE, command, differences, models_of, provenance

from workbench.findings import Finding
from workbench.registry import FINDINGS, METRICS


def rendered(what: str, name: str, results: Path, up: str) -> str:
    """The text for a marker ``<!-- what: name -->``; `up` is the path from the page to the results."""
    if what == "results":
        return "\n\n".join(result(name, model, results, up) for model in models_of(name))
    if what == "findings":
        return overview(results)
    if what == "metrics":
        return metrics()
    if what == "families":
        return families.rendered(name, results.parent / "families.json")
    if what == "operators":
        return operators.rendered(name)
    parts = {"claim": claim, "rule": rule, "method": method, "settings": settings}
    if what not in parts:
        raise ValueError(f"<!-- {what}: {name} -->: there is no {what!r}; there are {', '.join(parts)}, results.")
    return parts[what](name)


def finding_of(name: str) -> Finding:
    """The finding's own object."""
    return FINDINGS[name]


def plain_page(name: str) -> str:
    """The page of a finding for which nobody wrote one."""
    parts = ("claim", "Method", "method", "settings", "Verdict", "rule", "Results", "results")
    lines = [f"## {part}" if part[0].isupper() else f"<!-- {part}: {name} -->" for part in parts]
    return "\n\n".join([f"# {finding_of(name).title}", *lines]) + "\n"


def claim(name: str) -> str:
    """Question, claim and source."""
    finding = finding_of(name)
    source = f"\n\n**Source.** {finding.source}" if finding.source else ""
    return f"**Question.** {finding.question}\n\n**Claim.** {finding.claim}{source}"


def rule(name: str) -> str:
    """The numbers that the verdict compares with."""
    return "\n".join(f"- {rule}" for rule in finding_of(name).thresholds.values())


def method(name: str) -> str:
    """The docstring of the finding's file, without its first line."""
    module = importlib.import_module(f"circuits.findings.{name.replace('-', '_')}")
    return inspect.cleandoc(module.__doc__ or "").partition("\n")[2].strip()


def settings(name: str) -> str:
    """The settings, their defaults, and their values in the long form."""
    finding = finding_of(name)
    rows = [
        (f"`{key}`", _words(value), _words(finding.full.get(key, value))) for key, value in finding.defaults.items()
    ]
    return _table(("setting", "default", "with `--full`"), rows)


def metrics() -> str:
    """All metrics, each with the first line of its file's docstring."""
    rows = [(f"`{name}`", METRICS.summary(name).removesuffix("."), METRICS[name].units) for name in METRICS.names()]
    return _table(("name", "meaning", "units"), rows)


def overview(results: Path) -> str:
    """All findings with their verdict on each model, and whether that is out of date."""
    rows = []
    for name in FINDINGS.names():
        verdicts = {model: _verdict(results / model / name, name, model) for model in models_of(name)}
        cells = [verdicts.get(model, f"{verdicts.get(NO_MODEL)}, without a model") for model in MODELS]
        rows.append((f"[{finding_of(name).title}]({name}.md)", finding_of(name).question, *cells))
    return _table(("finding", "question", *MODELS), rows)


def result(name: str, model: str, results: Path, up: str) -> str:
    """The result of one model: verdict, provenance, pictures, the table ``summary``, the report."""
    folder, title = results / model / name, "" if model == NO_MODEL else f"### {model}\n\n"
    info = _run_info(folder)
    if not info:
        return f"{title}Not measured yet. `{command(name, model)}` measures it."
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != PROVENANCE)
    base = f"{up}/{model}/{name}"
    pictures = sorted((file for file in files if file.endswith(".png")), key=len)[:2]
    parts = [f"**{info['verdict'].capitalize()}.** {_origin(info)}"]
    if stale := _out_of_date(folder, name, model):
        parts.append(f"*Out of date ({'; '.join(stale)}). `{command(name, model)}` measures it again.*")
    parts += [f"![{Path(file).stem}]({base}/{file})" for file in pictures]
    if "tables/summary.csv" in files:
        parts.append(_csv_table(folder / "tables/summary.csv"))
    report = (folder / "summary.txt").read_text(encoding="utf-8").rstrip()
    parts.append(_folded("Report", f"```text\n{report}\n```"))
    parts.append(_folded("Files of this run", "\n".join(f"- [{file}]({base}/{file})" for file in files)))
    return title + "\n\n".join(parts)


def _verdict(folder: Path, name: str, model: str) -> str:
    info = _run_info(folder)
    if not info:
        return "not measured yet"
    return f"{info['verdict']} (out of date)" if _out_of_date(folder, name, model) else info["verdict"]


def _out_of_date(folder: Path, name: str, model: str) -> list[str]:
    """How a committed result differs from one that would be made today with its settings; empty when it is current."""
    changes = {key: value for key, value in _run_info(folder)["config"].items() if key != "model"}
    return differences(folder, provenance(name, model, changes))


def _run_info(folder: Path) -> dict[str, Any]:
    """``run.json`` of a committed result; empty when there is none."""
    return json.loads((folder / "run.json").read_text(encoding="utf-8")) if (folder / PROVENANCE).is_file() else {}


def _origin(info: Mapping[str, Any]) -> str:
    versions, started = info["versions"], datetime.fromisoformat(info["started"])
    config = ", ".join(f"{key} = {_words(value)}" for key, value in info["config"].items() if key != "model")
    return (
        f"Run on {started.day} {started:%B %Y} with attention-workbench {versions['attention-workbench']} and torch "
        f"{versions['torch']}, in {info['seconds']:.0f} s on {info['cores']} cores, with {config}."
    )


def _csv_table(path: Path) -> str:
    """A CSV as a table; columns with one value in all rows are listed below it."""
    with path.open(encoding="utf-8", newline="") as stream:
        header, *rows = list(csv.reader(stream))
    constant = [len(rows) > 1 and len({row[i] for row in rows}) == 1 for i in range(len(header))]
    varying = [i for i in range(len(header)) if not constant[i]]
    below = ", ".join(f"{header[i]} = {_number(rows[0][i])}" for i in range(len(header)) if constant[i])
    table = _table([header[i] for i in varying], [[_number(row[i]) for i in varying] for row in rows])
    return f"{table}\n\n{below}" if below else table


def _number(text: str) -> str:
    try:
        return f"{float(text):.3g}"
    except ValueError:
        return text


def _words(value: Any) -> str:
    return (", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)) or "none"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _folded(title: str, text: str) -> str:
    inside = "\n".join(f"    {line}" if line else "" for line in text.splitlines())
    return f'??? note "{title}"\n\n{inside}'
