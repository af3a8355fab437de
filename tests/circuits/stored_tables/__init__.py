"""The tables of every finding on the tiny model (on none, where it needs none), stored beside this file: a folder a
finding, a CSV a table.

``python -m tests.circuits.stored_tables [FINDING ...]`` writes them again. ``stored.json`` in each folder has the
verdict, the results versions, and what is edited there:

- ``settings``: few prompts, so that it is quick.
- ``constants``: constants of the code that are too strict for so small a model, without which a part of the finding
  would not run.
- ``not_compared``: columns that differ between processors. Some heads of the tiny model have no effect but rounding
  noise, in which ranks, and p-values corrected over all heads, are noise, too. Prefer settings that need none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

import workbench as wb
from workbench import findings
from workbench.findings import Finding, Report
from workbench.registry import FINDINGS

FOLDER = Path(__file__).parent
INFO = "stored.json"
#: The settings of a finding that has no `INFO` yet: as few prompts as its statistics bear.
QUICK = {"n": 6}
#: Two numbers agree within this, absolutely or relatively, as in `workbench reproduce --from`. Processors add in
#: different orders: with SSE, AVX2 and AVX-512 the tables differ by 6e-6 at most.
TOLERANCE = 1e-4


def finding_of(name: str) -> Finding:
    """The finding registered as `name`."""
    return FINDINGS[name]


def stored_info(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """What `INFO` says of a finding; for one without, the settings to measure it with."""
    file = folder / name / INFO
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"settings": QUICK, "not_compared": []}


def versions(finding: Finding) -> list[int]:
    """The results versions of the finding and of the engine."""
    return [finding.results_version, findings.RESULTS_VERSION]


def measure(finding: Finding, info: dict[str, Any]) -> Report:
    """The finding on the tiny model, if it needs one, with the settings and constants of `INFO`."""
    with ExitStack() as stack:
        for name, value in info.get("constants", {}).items():
            stack.enter_context(mock.patch(name, value))
        return finding.report(wb.load("tiny") if finding.needs_model else None, info["settings"])


def store(finding: Finding, folder: Path = FOLDER) -> list[Path]:
    """Measure a finding and write its tables and `INFO`; returns the files written."""
    info = stored_info(finding.name, folder)
    report, place = measure(finding, info), folder / finding.name
    place.mkdir(parents=True, exist_ok=True)
    for old in place.glob("*.csv"):
        old.unlink()
    for table, frame in report.tables.items():
        (place / f"{table}.csv").write_text(_csv(frame), encoding="utf-8")
    info |= {"verdict": report.verdict, "versions": versions(finding)}
    (place / INFO).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
    return sorted(place.iterdir())


def differences(report: Report, place: Path, not_compared: Sequence[str] = ()) -> list[str]:
    """Every entry in which the report's tables differ from those stored in `place`, one line each.

    `not_compared` lists columns to pass over, as ``table.column``.
    """
    names = {path.stem for path in place.glob("*.csv")}
    lines = [f"table {name}: only the stored ones have it" for name in sorted(names - set(report.tables))]
    lines += [f"table {name}: only the new ones have it" for name in sorted(set(report.tables) - names)]
    for name in sorted(names & set(report.tables)):
        skipped = {column.removeprefix(f"{name}.") for column in not_compared if column.startswith(f"{name}.")}
        changes = _table_differences(report.tables[name], place / f"{name}.csv", skipped)
        lines += [f"table {name}, {line}" for line in changes]
    return lines


def _table_differences(frame: pd.DataFrame, file: Path, skipped: set[str]) -> list[str]:
    old = pd.read_csv(file, dtype=str, keep_default_na=False)
    if list(old.columns) != list(frame.columns):
        return [f"columns: stored {', '.join(old.columns)}; now {', '.join(frame.columns)}"]
    if len(old) != len(frame):
        return [f"rows: stored {len(old)}; now {len(frame)}"]
    return [
        f"column {column}, row {row}: stored {before}; now {now}"
        for column in frame.columns
        if column not in skipped
        for row, (before, now) in enumerate(zip(old[column], frame[column], strict=True))
        if not _agree(before, now)
    ]


def _agree(before: str, now: Any) -> bool:
    if now is None or now is pd.NA or (isinstance(now, float) and np.isnan(now)):
        return before == ""
    if isinstance(now, int | float | np.number) and not isinstance(now, bool):
        return before != "" and bool(np.isclose(float(before), float(now), rtol=TOLERANCE, atol=TOLERANCE))
    return before == str(now)


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.8g", lineterminator="\n")
