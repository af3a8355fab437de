"""`make results`: run every finding on the documentation's models, and copy each run to ``docs/results``.

A result that is current (same settings, model, prompts and results versions) is not made again, so that the same
command continues after an interruption. The run directories themselves are in ``runs``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from committed import MODELS, NO_MODEL, commit, differences, provenance

from workbench.errors import WorkbenchError
from workbench.registry import FINDINGS, ROOT
from workbench.runs.run import Run

RESULTS = ROOT / "docs" / "results"
#: Exit codes of `workbench reproduce`: with a verdict, and interrupted.
WITH_VERDICT, INTERRUPTED = (0, 1), 130


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 when every result is current, else the exit code of the first that is not."""
    options = _parsed(arguments)
    changes: dict[str, Any] = {"seed": 0}
    changes |= {"n": options.n} if options.n else {}
    changes |= {"tasks": options.tasks} if options.tasks else {}
    first = 0
    without = [(NO_MODEL, name) for name in options.findings if not FINDINGS[name].needs_model]
    on_models = [(model, name) for model in options.models for name in options.findings if FINDINGS[name].needs_model]
    for model, name in [*without, *on_models]:
        try:
            code = _make(name, model, changes, options)
        except WorkbenchError as error:
            print(f"{name} on {model}: {error}", flush=True)
            code = error.exit_code
        if code == INTERRUPTED:
            return code
        first = first or code
    return first


def _make(name: str, model: str, changes: dict[str, Any], options: argparse.Namespace) -> int:
    """Make one result unless it is current; returns an exit code."""
    full = FINDINGS[name].full if options.full else {}
    measured, folder = provenance(name, model, {**full, **changes}), options.into / model / name
    stale = differences(folder, measured)
    if not (stale or options.again):
        print(f"{name} on {model}: current", flush=True)
        return 0
    print(f"{name} on {model}: running ({'; '.join(stale) or 'again'})", flush=True)
    command = ["reproduce", name, "--out", str(options.runs), "--json"]
    command += ["--model", model] if FINDINGS[name].needs_model else []
    command += ["--full"] if options.full else []
    command += ["--n", str(options.n)] if options.n else []
    command += ["--tasks", ",".join(options.tasks)] if options.tasks else []
    done = subprocess.run([sys.executable, "-m", "workbench", *command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in WITH_VERDICT:
        print(f"{name} on {model}: no result (exit code {done.returncode})", flush=True)
        return done.returncode
    run = Run.read(json.loads(done.stdout)["run_dir"])
    omitted = commit(run, folder, measured)
    rest = f", without {len(omitted)} files that would make it too large" if omitted else ""
    print(f"{name} on {model}: {run.facts['verdict']}, copied to {folder}{rest}", flush=True)
    return 0


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return text.split(",")

    findings = FINDINGS.names()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=names, default=MODELS, metavar="A,B", help="only these models")
    parser.add_argument("--findings", type=names, default=findings, metavar="A,B", help="only these findings")
    parser.add_argument("--full", action="store_true", help="the findings' long form")
    parser.add_argument("--again", action="store_true", help="run current ones, too")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of the run directories")
    parser.add_argument("--into", type=Path, default=RESULTS, metavar="DIR", help="folder of the copies")
    parser.add_argument("--n", type=int, metavar="N", help="a trial with N prompts a task")
    parser.add_argument("--tasks", type=names, metavar="A,B", help="a trial with these tasks only")
    options = parser.parse_args(arguments)
    if (options.n or options.tasks) and options.into.resolve() == RESULTS:
        parser.error("--n and --tasks are for trials. Name another folder with --into.")
    return options


if __name__ == "__main__":
    sys.exit(main())
