"""The queue of the explorer's worker process: what waits, what runs and how far it is, as a page sees it."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from workbench import registry

#: What a job that did not come to its end has left. Of a sweep a batch is that of `workbench.patching.batches`, which
#: needs torch; a test compares the number.
CACHED = "Complete batches (in a sweep, of up to 8 examples) are cached: start again, and only the rest is computed."
#: The error of a job whose process died.
WORKER_ENDED = f"The worker process ended unexpectedly. {CACHED}"
#: States that are final.
FINAL_STATES = ("done", "stopped", "failed")


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        state: ``waiting``, ``running``, ``done``, ``stopped`` or ``failed``.
        done, total, step: how far it is.
        path: of the file or run directory that it left.
        error: why it failed.
        label: what it computes, in a few words.
    """

    id: int
    key: str
    state: str = "waiting"
    done: int = 0
    total: int = 0
    step: str = ""
    path: str = ""
    error: str = ""
    label: str = ""

    @property
    def is_finished(self) -> bool:
        return self.state in FINAL_STATES


class JobQueue:
    """A worker process and its jobs; every method may be called from any session's thread.

    The process starts with the first job, or before it by `warm`. When it dies, the job that ran fails, and a new
    process takes those that wait; when it dies before any job ran, it cannot start, and is not tried again before the
    next job comes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # `_listen` of a process that ends at once waits until it is assigned
        self._jobs: dict[int, Job] = {}
        self._commands: dict[int, Mapping[str, Any]] = {}  # of waiting jobs, for the next process
        self._process: subprocess.Popen[str] | None = None
        self._warmed = ""
        atexit.register(self.close)

    def warm(self, model: str) -> None:
        """Have the process ready for jobs on a model: started, with its imports done and the model loaded. What is
        asked for already is not asked for again."""
        with self._lock:
            if model == self._warmed:
                return
            self._warmed = model
            if self._process is None:
                self._process = self._start_process()
            self._send({"warm": model})

    def submit(self, key: str, request: Mapping[str, Any]) -> Job:
        """Put a job in the queue, or return the unfinished one of that key."""
        with self._lock:
            for job in self._jobs.values():
                if job.key == key and not job.is_finished:
                    return job
            if self._process is None:
                self._process = self._start_process()
            new = Job(len(self._jobs) + 1, key, label=str(request.get("label", "")))
            self._jobs[new.id] = new
            self._commands[new.id] = {"start": {**request, "id": new.id, "key": key}}
            self._send(self._commands[new.id])
            return self._jobs[new.id]

    def stop(self, number: int) -> None:
        """Stop a job: at once where it waits, after the current step where it runs. What is cached stays."""
        with self._lock:
            job = self._jobs.get(number)
            if job is None or job.is_finished:
                return
            if job.state == "waiting":
                self._jobs[number] = replace(job, state="stopped")
                self._commands.pop(number)
            self._send({"stop": number})

    def get(self, number: int) -> Job | None:
        """The job as it is now."""
        with self._lock:
            return self._jobs.get(number)

    def newest(self, key: str) -> Job | None:
        """The newest job of that key."""
        with self._lock:
            return next((job for job in reversed(self._jobs.values()) if job.key == key), None)

    def unfinished(self, before: int | None = None) -> list[Job]:
        """The jobs that wait or run, in order; only those before a job, where one is named."""
        with self._lock:
            return [job for job in self._jobs.values() if not job.is_finished and (before is None or job.id < before)]

    def close(self) -> None:
        """End the process."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            self._listener.join()

    def _start_process(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.work.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=registry.ROOT,
            env=registry.environment(),
        )
        self._listener = threading.Thread(target=self._listen, args=(process,), daemon=True)
        self._listener.start()
        return process

    def _send(self, command: Mapping[str, Any]) -> None:
        """Send a command to the process; `_listen` notices when it has ended, and fails its jobs."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError, ValueError):
                self._process.stdin.write(json.dumps(command) + "\n")
                self._process.stdin.flush()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None and process.stdin is not None
        for line in process.stdout:
            update = json.loads(line)
            with self._lock:
                job = self._jobs[update.pop("id")]
                if not job.is_finished:
                    self._jobs[job.id] = replace(job, **update)
                self._commands.pop(job.id, None)
        process.wait()
        process.stdout.close()
        with self._lock:
            with suppress(BrokenPipeError):
                process.stdin.close()
            if self._process is not process:  # closed
                return
            self._process = None
            running = [job for job in self._jobs.values() if job.state == "running"]
            waiting = [job for job in self._jobs.values() if job.state == "waiting"]
            for job in running or waiting:  # a process that ran no job cannot start
                self._jobs[job.id] = replace(job, state="failed", error=WORKER_ENDED)
            if running and waiting:
                self._process = self._start_process()
                for job in waiting:
                    self._send(self._commands[job.id])
