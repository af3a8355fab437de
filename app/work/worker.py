"""The process that computes for the explorer: one job after the other, at low priority, over JSON lines.

It is a process of its own, not a thread or a fork, so that a sweep never blocks the page, and can be stopped between
two steps. Results are cached batch by batch as everywhere, so a job that was stopped continues after its last complete
batch.

Standard input: ``{"start": {"id": 1, "kind": "sweeps", "model": …, …}}`` (with ``"operators"`` of a swapped model),
``{"stop": 1}``, or ``{"warm": MODEL}``: load it before the first job comes. Standard output:
``{"id": 1, "state": "running", "done": 3, "total": 270, "step": …}``, and finally the state ``done`` with ``path``,
``stopped``, or ``failed`` with ``error``.
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
from contextlib import suppress
from typing import Any, TextIO

from workbench.errors import WorkbenchError

#: How much lower than the page's the priority of this process is.
NICENESS = 10
#: Models that stay in memory.
MAX_MODELS = 2

#: Tokens for which resumed runs are proven before the first job: proofs are made at powers of two.
USUAL_LENGTHS = (16, 32)

Progress = Callable[[int, int, str], None]


class Stopped(Exception):
    """The job was stopped."""


class Worker:
    """Executes jobs from a queue; `receive` runs in another thread."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.queue: queue.Queue[Mapping[str, Any] | None] = queue.Queue()
        self.stopped: set[int] = set()
        self._models: dict[str, Any] = {}
        self._swapped: dict[tuple[str, str], Any] = {}  # by name and operators

    def receive(self, lines: TextIO) -> None:
        """Take commands until the input ends."""
        for line in lines:
            command = json.loads(line)
            if "stop" in command:
                self.stopped.add(int(command["stop"]))
            else:
                self.queue.put(command.get("start", command))
        self.queue.put(None)

    def run(self) -> None:
        """Execute jobs until there will be no more."""
        while (job := self.queue.get()) is not None:
            if "warm" not in job:
                self.execute(job)
            elif not any(self.queue.queue):  # else what waits is more urgent, and loads what it needs
                self.warm(job["warm"])

    def warm(self, name: str) -> None:
        """Be ready for jobs on a model: loaded, its weights hashed for the cache, and resumed runs proven at the usual
        lengths; until a job comes. What is wrong with the model is said when a job needs it."""
        from workbench.cache import store_of

        with suppress(WorkbenchError):
            model, store = self._own_model(name, lambda *_: None), store_of(None)
            if store is not None:
                model.identity.current()
            for length in USUAL_LENGTHS if model.modality == "language" and model.resumable else ():
                if any(self.queue.queue):
                    return
                self._prove(model, length, store)

    def _prove(self, model: Any, length: int, store: Any) -> None:
        from workbench.inputs.paired import PairedInputs

        one, other = model.proof_inputs(length, ()).cpu()
        model.proofs.resumption(PairedInputs("random", (one,), (other,)), store)

    def execute(self, job: Mapping[str, Any]) -> None:
        """Execute one job and send its state."""
        number = int(job["id"])

        def progress(done: int, total: int, step: str) -> None:
            if number in self.stopped:
                raise Stopped
            self.send(id=number, state="running", done=done, total=total, step=step)

        try:
            progress(0, 0, "starting")
            self.send(id=number, state="done", path=JOB_KINDS[job["kind"]](self, job, progress))
        except Stopped:
            self.send(id=number, state="stopped")
        except WorkbenchError as error:
            self.send(id=number, state="failed", error=str(error))
        except Exception as error:  # a bug: the server's log has the traceback, and the next job starts
            traceback.print_exc()
            text = f"Internal error ({type(error).__name__}). The traceback is in the terminal."
            self.send(id=number, state="failed", error=text)

    def send(self, **fields: Any) -> None:
        """One line."""
        self.out.write(json.dumps(fields) + "\n")
        self.out.flush()

    def model(self, job: Mapping[str, Any], progress: Progress) -> Any:
        """The model that a job names, with the operators that it names; a diffusion model sampled as the job says, its
        samples read by the classifier that it names."""
        model = self._with_operators(job, progress)
        if "sampling" not in job:
            return model
        from app.work.sampling import sampled_by

        sampling = job["sampling"]
        readout = self._own_model(sampling["readout"], progress) if sampling["readout"] else None
        return sampled_by(model, sampling, readout)

    def _with_operators(self, job: Mapping[str, Any], progress: Progress) -> Any:
        import workbench as wb
        from app.swapped_names import parse_operators

        name, operators = str(job["model"]), str(job.get("operators", ""))
        model = self._own_model(name, progress)
        if not operators:
            return model
        self._swapped = {key: x for key, x in self._swapped.items() if key[0] in self._models}
        if (name, operators) not in self._swapped:
            progress(0, 0, "swapping operators")
            while len(self._swapped) >= MAX_MODELS:
                del self._swapped[next(iter(self._swapped))]
            self._swapped[name, operators] = wb.swap(model, parse_operators(operators))
        return self._swapped[name, operators]

    def _own_model(self, name: str, progress: Progress) -> Any:
        """The model of that name; the least recently used one is released first."""
        import workbench as wb

        if name not in self._models:
            progress(0, 0, f"loading {name}")
            while len(self._models) >= MAX_MODELS:
                del self._models[next(iter(self._models))]
            self._models[name] = wb.load(name)
        self._models[name] = self._models.pop(name)
        return self._models[name]


def _sweep(worker: Worker, job: Mapping[str, Any], progress: Progress) -> str:
    """A sweep; its file."""
    import workbench as wb
    from app.work.prompts import load_prompts

    model = worker.model(job, progress)
    return _save(job, wb.sweep(model, load_prompts(job["prompts"], model), progress=progress, **job["arguments"]))


def _scores(worker: Worker, job: Mapping[str, Any], progress: Progress) -> str:
    """Every head's scores; their file."""
    import workbench as wb

    return _save(job, wb.scores(worker.model(job, progress), progress=progress))


def _task_scores(worker: Worker, job: Mapping[str, Any], progress: Progress) -> str:
    """Every head's scores on a task's prompts; their file."""
    import workbench as wb
    from app.work.prompts import load_prompts

    model = worker.model(job, progress)
    return _save(job, wb.scores_on(model, load_prompts(job["prompts"]), progress=progress))


def _save(job: Mapping[str, Any], result: Any) -> str:
    from app.work.result_files import result_path

    path = result_path(job["kind"], job["key"])
    path.parent.mkdir(parents=True, exist_ok=True)
    result.save(path)
    return str(path)


def _finding(worker: Worker, job: Mapping[str, Any], progress: Progress) -> str:
    """A finding; its run directory."""
    from app.swapped_names import parse_operators
    from workbench.registry import FINDINGS
    from workbench.runs.execute import execute

    finding = FINDINGS[job["finding"]]
    settings = finding.settings(job["settings"])
    _, path = execute(
        finding,
        job["model"],
        settings,
        job["out"],
        load=lambda _: worker.model(job, progress),
        tell=progress,
        operators=parse_operators(job.get("operators", "")),
    )
    return str(path)


JOB_KINDS: Mapping[str, Callable[[Worker, Mapping[str, Any], Progress], str]] = {
    "sweeps": _sweep,
    "scores": _scores,
    "task_scores": _task_scores,
    "finding": _finding,
}


def main() -> None:
    """The process."""
    os.nice(NICENESS)
    warnings.simplefilter("ignore")
    out, sys.stdout = sys.stdout, sys.stderr  # anything else that is printed is not a message
    worker = Worker(out)
    threading.Thread(target=worker.receive, args=(sys.stdin,), daemon=True).start()
    importlib.import_module("workbench.patching.sweep")  # slow: ready before the first job comes
    worker.run()


if __name__ == "__main__":
    main()
