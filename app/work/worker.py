"""The process that computes for the explorer: one job after the other, at low priority, told and telling in JSON lines.

It is a process of its own, and not a thread or a fork, so that a sweep never holds the page's interpreter, and can be
stopped between two chunks of its edits. What it computes is kept in the activation cache unit by unit as everywhere, so
a job that was stopped goes on where it was.

On standard input: ``{"do": {"id": 1, "kind": "sweeps", "model": …, …}}`` or ``{"stop": 1}``. On standard output:
``{"id": 1, "state": "running", "done": 3, "total": 270, "what": …}``, and last the state ``done`` with ``file``,
``stopped``, or ``failed`` with ``why``.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from workbench.errors import WorkbenchError

#: How much less than the page this process gets of a busy processor.
NICE = 10
#: Models that stay in memory.
MODELS = 2

Tell = Callable[[int, int, str], None]


class Stopped(Exception):
    """The job was told to stop."""


class Worker:
    """Does jobs from a queue; `stop` may be called from another thread."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.waiting: queue.Queue[Mapping[str, Any] | None] = queue.Queue()
        self.stopped: set[int] = set()
        self._models: dict[str, Any] = {}

    def hear(self, lines: TextIO) -> None:
        """Take commands until the input ends."""
        for line in lines:
            command = json.loads(line)
            if "stop" in command:
                self.stopped.add(int(command["stop"]))
            else:
                self.waiting.put(command["do"])
        self.waiting.put(None)

    def run(self) -> None:
        """Do jobs until there will be no more."""
        while (job := self.waiting.get()) is not None:
            self.do(job)

    def do(self, job: Mapping[str, Any]) -> None:
        """One job, and what became of it."""
        number = int(job["id"])

        def tell(done: int, total: int, what: str) -> None:
            if number in self.stopped:
                raise Stopped
            self.say(id=number, state="running", done=done, total=total, what=what)

        try:
            tell(0, 0, "getting ready")
            self.say(id=number, state="done", file=KINDS[job["kind"]](self, job, tell))
        except Stopped:
            self.say(id=number, state="stopped")
        except WorkbenchError as error:
            self.say(id=number, state="failed", why=str(error))
        except Exception as error:  # a fault of ours: the server's log shows where, and the next job begins
            traceback.print_exc()
            self.say(id=number, state="failed", why=f"unexpected {type(error).__name__}: {error}")

    def say(self, **words: Any) -> None:
        """One line."""
        self.out.write(json.dumps(words) + "\n")
        self.out.flush()

    def model(self, name: str, tell: Tell) -> Any:
        """The model of that name; the one that was not used for longest makes room."""
        import workbench as wb

        if name not in self._models:
            tell(0, 0, f"loading {name}")
            while len(self._models) >= MODELS:
                del self._models[next(iter(self._models))]
            self._models[name] = wb.load(name)
        self._models[name] = self._models.pop(name)
        return self._models[name]


def _sweep(worker: Worker, job: Mapping[str, Any], tell: Tell) -> str:
    """A sweep; its file."""
    import workbench as wb
    from app.work import sweeps

    model = worker.model(job["model"], tell)
    return _kept(job, wb.sweep(model, sweeps.prompts(job["prompts"]), progress=tell, **job["arguments"]))


def _scores(worker: Worker, job: Mapping[str, Any], tell: Tell) -> str:
    """Every head's scores; their file."""
    import workbench as wb

    return _kept(job, wb.scores(worker.model(job["model"], tell), progress=tell))


def _task_scores(worker: Worker, job: Mapping[str, Any], tell: Tell) -> str:
    """Every head's scores on a task's prompts; their file."""
    import workbench as wb
    from app.work import sweeps

    model = worker.model(job["model"], tell)
    return _kept(job, wb.scores_on(model, sweeps.prompts(job["prompts"]), progress=tell))


def _kept(job: Mapping[str, Any], result: Any) -> str:
    from app.work import kept

    path = kept.file(job["kind"], job["key"])
    path.parent.mkdir(parents=True, exist_ok=True)
    result.save(path)
    return str(path)


def _finding(worker: Worker, job: Mapping[str, Any], tell: Tell) -> str:
    """A finding; its run directory."""
    from workbench.registry import FINDINGS
    from workbench.runs.execute import execute

    finding = FINDINGS[job["finding"]]
    settings = finding.settings(job["settings"])
    _, path = execute(
        finding, job["model"], settings, job["out"], load=lambda name: worker.model(name, tell), tell=tell
    )
    return str(path)


KINDS: Mapping[str, Callable[[Worker, Mapping[str, Any], Tell], str]] = {
    "sweeps": _sweep,
    "scores": _scores,
    "task_scores": _task_scores,
    "finding": _finding,
}


def main() -> None:
    """The process."""
    os.nice(NICE)
    warnings.simplefilter("ignore")
    out, sys.stdout = sys.stdout, sys.stderr  # whatever else is printed is no message
    worker = Worker(out)
    threading.Thread(target=worker.hear, args=(sys.stdin,), daemon=True).start()
    importlib.import_module("workbench.patching.sweep")  # slow: ready before the first job comes
    worker.run()


if __name__ == "__main__":
    main()
