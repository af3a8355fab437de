"""Committed results: a copy of a run under ``docs/results/MODEL/FINDING`` (``no-model/FINDING`` where it needs none),
and `PROVENANCE`, which says what it is of.

A result is current as long as the finding, its settings, the model, the prompts and both results versions (the
finding's own and the engine's, raised by hand when numbers change) are those it was measured with. Where code lies and
what it is called plays no part.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from workbench import findings
from workbench.findings import Finding
from workbench.inputs.pairs import task
from workbench.io.files import jsonable
from workbench.models import catalog
from workbench.registry import FINDINGS
from workbench.runs.run import Run

#: The models whose results the documentation shows.
MODELS = ("smollm2-135m-instruct-q4", "gemma3-270m-q4")
#: The folder of results of findings that need no model.
NO_MODEL = "no-model"
#: Bytes that the files of a run may take here: under a megabyte, with `PROVENANCE`.
MAX_BYTES = 990_000
PROVENANCE = "provenance.json"
FORMAT = "workbench.committed-result/1"
#: Pairs of a task whose texts and answers are hashed: every task has so many (`workbench.testing.check_task`).
PAIRS = 150


def models_of(name: str) -> tuple[str, ...]:
    """The models whose results of a finding the documentation shows; `NO_MODEL` alone where it needs none."""
    return MODELS if FINDINGS[name].needs_model else (NO_MODEL,)


def provenance(name: str, model: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What the result of a finding on a model depends on; `changes` are the settings that differ from the defaults."""
    finding = FINDINGS[name]
    settings = finding.settings(changes)
    measured_on = {"model": model, "model_sha256": catalog.entries()[model].sha256} if finding.needs_model else {}
    return {
        "finding": name,
        "results_version": finding.results_version,
        "engine_results_version": findings.RESULTS_VERSION,
        "settings": jsonable(settings),
        **measured_on,
        "prompts_sha256": _prompts_hash(tasks_of(finding, settings), settings.get("seed", 0)),
    }


def differences(folder: Path, expected: Mapping[str, Any]) -> list[str]:
    """How the provenance of the result in `folder` differs from today's; empty when it is current."""
    file = folder / PROVENANCE
    if not file.is_file():
        return ["missing"]
    measured = json.loads(file.read_text(encoding="utf-8"))["measured"]
    return [
        f"{key}: {measured.get(key)!r}, today {value!r}"
        for key, value in expected.items()
        if measured.get(key) != value
    ]


def command(name: str, model: str) -> str:
    """What makes the result of a finding on a model."""
    of_model = f" --models {model}" if FINDINGS[name].needs_model else ""
    return f'make results ARGS="--findings {name}{of_model}"'


def optional(model: str) -> bool:
    """Whether a contributor may be unable to run the model: its licence has to be accepted first."""
    return model != NO_MODEL and bool(catalog.entries()[model].terms)


def tasks_of(finding: Finding, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The tasks that a finding draws from: those that it declares, and those in its settings."""
    named = (settings.get("task", ()), settings.get("tasks", ()))
    listed = [name for value in named for name in ([value] if isinstance(value, str) else value)]
    return tuple(sorted({*finding.tasks, *listed}))


@cache
def _prompts_hash(tasks: tuple[str, ...], seed: int) -> str:
    """SHA-256 of the pairs of each task for this seed, and of the positions at which its stages are patched."""
    prompts = {}
    for name in tasks:
        prompts[name] = {
            "pairs": [asdict(pair) for pair in task(name, n=PAIRS, seed=seed).examples()],
            "stages": dict(task(name).stages),
        }
    return hashlib.sha256(json.dumps(jsonable(prompts), sort_keys=True).encode()).hexdigest()


def commit(run: Run, folder: Path, measured: Mapping[str, Any]) -> list[str]:
    """Copy ``run.json``, the report, tables as CSV and pictures, every file checked, into the place of `folder`.

    Tables come before pictures, and files with shorter names first (overviews have them); what would exceed `MAX_BYTES`
    is left out, listed in `PROVENANCE` and returned.
    """
    tables = [f"tables/{name}.csv" for name in sorted(run.table_names, key=_short)]
    pictures = [f"figures/{name}.png" for name in sorted(run.picture_names, key=_short)]
    copied: dict[str, bytes] = {}
    omitted: list[str] = []
    for file in ["run.json", "summary.txt", *tables, *pictures]:
        data = run.data(file)
        if sum(map(len, copied.values())) + len(data) > MAX_BYTES:
            omitted.append(file)
        else:
            copied[file] = data
    info = {"format": FORMAT, "run": run.path.name, "measured": measured, "omitted_files": omitted}
    copied[PROVENANCE] = (json.dumps(info, indent=2) + "\n").encode()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        new = Path(temporary) / folder.name
        for file, data in copied.items():
            (new / file).parent.mkdir(parents=True, exist_ok=True)
            (new / file).write_bytes(data)
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)
    return omitted


def _short(name: str) -> tuple[int, str]:
    return len(name), name
