"""`make results`: run every finding on the models that the documentation shows, and keep a thin copy of each run.

A result that is there already, of the same sources, settings, model and engine, is left alone, so an interrupted call
is simply started again. The runs themselves lie in ``runs`` as always.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from kept import MODELS, identity, keep, same

from workbench import registry
from workbench.errors import WorkbenchError
from workbench.registry import FINDINGS
from workbench.runs.run import Run

RESULTS = registry.ROOT / "docs" / "results"
#: What `workbench reproduce` answers when it has a verdict, and when it was interrupted.
ANSWERED, INTERRUPTED = (0, 1), 130


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 when every result is there, else the exit code of the first that is not."""
    asked = _parsed(arguments)
    given = {"seed": 0, **({"n": asked.n} if asked.n else {}), **({"tasks": asked.tasks} if asked.tasks else {})}
    first = 0
    for model in asked.models:
        for name in asked.findings:
            try:
                code = _have(name, model, given, asked)
            except WorkbenchError as error:
                print(f"{name} on {model}: {error}", flush=True)
                code = error.exit_code
            if code == INTERRUPTED:
                return code
            first = first or code
    return first


def _have(name: str, model: str, given: dict[str, Any], asked: argparse.Namespace) -> int:
    """Make one result unless it is there; returns an exit code."""
    more = FINDINGS[name].full if asked.full else {}
    of, folder = identity(name, model, {**more, **given}), asked.into / model / name
    if not asked.again and same(folder, of):
        print(f"{name} on {model}: is there", flush=True)
        return 0
    print(f"{name} on {model}: running", flush=True)
    command = ["reproduce", name, "--model", model, "--out", str(asked.runs), "--json"]
    command += ["--full"] if asked.full else []
    command += ["--n", str(asked.n)] if asked.n else []
    command += ["--tasks", ",".join(asked.tasks)] if asked.tasks else []
    done = subprocess.run([sys.executable, "-m", "workbench", *command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in ANSWERED:
        print(f"{name} on {model}: no result (exit code {done.returncode})", flush=True)
        return done.returncode
    run = Run.read(json.loads(done.stdout)["run_dir"])
    left = keep(run, folder, of)
    rest = f", without {len(left)} files that would make it too large" if left else ""
    print(f"{name} on {model}: {run.facts['verdict']}, kept in {folder}{rest}", flush=True)
    return 0


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    def words(text: str) -> list[str]:
        return text.split(",")

    known = FINDINGS.names()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=words, default=MODELS, metavar="A,B", help="only these models")
    parser.add_argument("--findings", type=words, default=known, metavar="A,B", help="only these findings")
    parser.add_argument("--full", action="store_true", help="the findings' long form")
    parser.add_argument("--again", action="store_true", help="run what is there already, too")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run directories are made")
    parser.add_argument("--into", type=Path, default=RESULTS, metavar="DIR", help="where the copies go")
    parser.add_argument("--n", type=int, metavar="N", help="a trial with so many prompts a task")
    parser.add_argument("--tasks", type=words, metavar="A,B", help="a trial with these tasks only")
    asked = parser.parse_args(arguments)
    if (asked.n or asked.tasks) and asked.into.resolve() == RESULTS:
        parser.error("--n and --tasks are for trials: name another folder with --into.")
    return asked


if __name__ == "__main__":
    sys.exit(main())
