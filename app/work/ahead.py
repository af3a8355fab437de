"""What the next click may need, computed in small steps while no script runs and no job does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from app.work.background import job_queue

#: Seconds without a script before a step: the browser draws meanwhile. Seconds until jobs are looked at again.
PAUSE, POLL = 0.1, 1.0
#: Seconds of steps for one key at most.
LIMIT = 20.0


class Ahead:
    """One thread with the steps that were given last."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._key: Hashable = None
        self._steps: Iterator[object] | None = None
        self._running, self._last_end, self._spent = 0, 0.0, 0.0
        self._thread: threading.Thread | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """No step begins during this block: a script runs, or makes a download."""
        with self._changed:
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._last_end = time.monotonic()
                self._changed.notify_all()

    def compute(self, key: Hashable, steps: Iterator[object]) -> None:
        """Advance `steps`, in place of those before; those of the same key go on."""
        with self._changed:
            if key == self._key:
                return
            self._key, self._steps, self._spent = key, steps, 0.0
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            steps, ended = self._next(), False
            start = time.monotonic()
            try:
                next(steps)
            except StopIteration:
                ended = True
            except Exception:  # whoever opens that head meets it, too, and is told
                logging.getLogger("workbench.explorer").debug("computing ahead", exc_info=True)
                ended = True
            with self._changed:
                if self._steps is steps:  # no others were given meanwhile
                    self._spent += time.monotonic() - start
                    if ended or self._spent > LIMIT:
                        self._steps = None

    def _next(self) -> Iterator[object]:
        """Wait until a step may begin."""
        while True:
            with self._changed:
                while self._steps is None or self._running:
                    self._changed.wait()
                steps, rest = self._steps, self._last_end + PAUSE - time.monotonic()
                if rest > 0:
                    self._changed.wait(rest)
                    continue
            if not job_queue().unfinished():
                return steps
            time.sleep(POLL)


#: That of this server.
AHEAD = Ahead()
