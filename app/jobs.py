"""The queue of the explorer's worker process: what waits, what runs and how far it is, as the page sees it."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from workbench.registry import ROOT

#: States that nothing follows.
OVER = ("done", "stopped", "failed")


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        state: ``waiting``, ``running``, ``done``, ``stopped`` or ``failed``.
        done, total, what: how far it is.
        file: what it left; why: what went wrong.
    """

    id: int
    key: str
    state: str = "waiting"
    done: int = 0
    total: int = 0
    what: str = ""
    file: str = ""
    why: str = ""

    @property
    def over(self) -> bool:
        return self.state in OVER


class Jobs:
    """A worker process and its jobs; every method may be called from any session's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[int, Job] = {}
        self._asked: dict[int, Mapping[str, Any]] = {}
        self._next, self._closed = 1, False
        self._process = self._started()
        atexit.register(self.close)

    def submit(self, key: str, job: Mapping[str, Any]) -> Job:
        """Put a job in the queue, or give the one with that key that waits or runs already."""
        with self._lock:
            for known in self._jobs.values():
                if known.key == key and not known.over:
                    return known
            new = Job(self._next, key)
            self._next += 1
            self._jobs[new.id], self._asked[new.id] = new, {**job, "id": new.id, "key": key}
            self._send({"do": self._asked[new.id]})
            return new

    def stop(self, number: int) -> None:
        """Stop a job: at once where it waits, between two chunks of its edits where it runs. What it has kept stays."""
        with self._lock:
            if number in self._jobs and not self._jobs[number].over:
                self._send({"stop": number})

    def get(self, number: int) -> Job | None:
        """The job as it is now."""
        with self._lock:
            return self._jobs.get(number)

    def with_key(self, key: str) -> Job | None:
        """The newest job of that key."""
        with self._lock:
            return next((job for job in reversed(self._jobs.values()) if job.key == key), None)

    def place(self, number: int) -> int:
        """How many jobs are before it."""
        with self._lock:
            return sum(not job.over and job.id < number for job in self._jobs.values())

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._closed = True
        self._process.kill()
        self._listener.join()

    def _started(self) -> subprocess.Popen[str]:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        process = subprocess.Popen(
            [sys.executable, "-m", "app.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
        self._listener = threading.Thread(target=self._listen, args=(process,), daemon=True)
        self._listener.start()
        return process

    def _send(self, command: Mapping[str, Any]) -> None:
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            self._lost(self._process)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            with self._lock:
                number = said.pop("id")
                if number in self._jobs and not self._jobs[number].over:
                    self._jobs[number] = replace(self._jobs[number], **said)
        process.wait()
        process.stdout.close()
        with self._lock, suppress(BrokenPipeError):
            self._lost(process)
            if process.stdin is not None:
                process.stdin.close()

    def _lost(self, process: subprocess.Popen[str]) -> None:
        """The process has ended: its jobs have failed, and a new one is there for the next."""
        if process is not self._process:
            return
        for number, job in self._jobs.items():
            if not job.over:
                self._jobs[number] = replace(job, state="failed", why="The worker process ended; start it again.")
        if not self._closed:
            self._process = self._started()
