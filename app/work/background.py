"""Background work of a page: a result that the worker process computes and leaves on disk.

`Background` is the one place that knows its states: not there, waiting or running, stopped, failed, done, and a damaged
result, which is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import streamlit as st

from app.messages import escape_markdown, show_error
from app.work import result_files
from app.work.jobs import CACHED, Job, JobQueue
from workbench.errors import BadInput

T = TypeVar("T")
#: Seconds between two updates of a progress bar.
INTERVAL = 0.5
_WATCHED = "watched-jobs"


@st.cache_resource(show_spinner=False)
def job_queue() -> JobQueue:
    """The queue of this server's worker process, the same for all sessions."""
    return JobQueue()


@dataclass(frozen=True)
class Background(Generic[T]):
    """A result that is computed in the background.

    Attributes:
        kind: of the job (`app.work.worker.JOB_KINDS`), and of the file that it leaves.
        key: a hash of everything that the result depends on (`result_files.result_key`).
        request: what the worker needs to know; its ``label`` names the job at its progress bar.
        read: reads the result from the job's file or run directory; raises `BadInput` where that is damaged.
        button: the label of the button that starts the job.
        button_options: of that button, as `streamlit.button` takes them.
    """

    kind: str
    key: str
    request: Mapping[str, Any]
    read: Callable[[Path], T]
    button: str
    button_options: Mapping[str, Any] = field(default_factory=lambda: {"icon": ":material/play_arrow:"})

    def stored(self) -> T | None:
        """The result, where it is on disk and sound; nothing is computed. A damaged file is deleted."""
        path = self._path()
        if path is None or not path.exists():
            return None
        try:
            return self.read(path)
        except BadInput as error:
            st.warning(f"The stored result was damaged ({escape_markdown(error)}). Compute it again.")
            if path.is_file():
                path.unlink(missing_ok=True)
            return None

    def result(self, start: bool = False) -> T | None:
        """The stored result. Where there is none: its progress bar, or why it ended, and the button that starts it.

        Args:
            start: start the job at once, without the button, unless it was stopped or failed.
        """
        result = self.stored()
        if result is not None:
            return result
        job = job_queue().newest(self.key)
        if job is None and start:
            job = self._submit()
        if job is not None and not job.is_finished:
            watch(job)
            return None
        if job is not None and job.state == "failed":
            show_error(job.error)
        if job is not None and job.state == "stopped":
            st.info(stopped_line(job))
        if st.button(self.button, key=f"start-{self.kind}", **self.button_options):
            self._submit()
            st.rerun()
        return None

    def _submit(self) -> Job:
        return job_queue().submit(self.key, {"kind": self.kind, **self.request})

    def _path(self) -> Path | None:
        """Where the result is: a file of its own, or wherever the job says that it left it (a run directory)."""
        if self.kind in result_files.KINDS:
            return result_files.result_path(self.kind, self.key)
        job = job_queue().newest(self.key)
        return Path(job.path) if job is not None and job.state == "done" else None


def watch(job: Job) -> None:
    """A progress bar with a stop button; the page reruns when the job is finished."""
    st.session_state.setdefault(_WATCHED, set()).add(job.id)
    _watch(job.id)


def forget_displayed_jobs() -> None:
    """Called before the page is rendered: nothing is shown yet."""
    st.session_state.pop(_WATCHED, None)


def show_other_jobs() -> None:
    """The unfinished jobs that this run of the script has not shown already, such as those of other pages."""
    watched = st.session_state.get(_WATCHED, set())
    others = [job.id for job in job_queue().unfinished() if job.id not in watched]
    if others:
        st.caption("Other jobs")
        for number in others:
            _watch(number)


@st.fragment(run_every=INTERVAL)
def _watch(number: int) -> None:
    job = job_queue().get(number)
    if job is None or job.is_finished:
        st.rerun()
    share = min(job.done / job.total, 1.0) if job.total else 0.0
    st.progress(share, escape_markdown(status_line(job, job_queue().unfinished(number))))
    stop = job_queue().stop
    st.button("Stop", key=f"stop-{number}", on_click=stop, args=(number,), icon=":material/stop_circle:")


def status_line(job: Job, before: Sequence[Job] = ()) -> str:
    """The state of a job in one line.

    Args:
        before: unfinished jobs that come before it.
    """
    if job.state == "waiting" and before:
        first = f"{before[0].label} ({_progress(before[0])})" if _progress(before[0]) else before[0].label
        rest = f" and {len(before) - 1} more" if len(before) > 1 else ""
        return f"{job.label}: waiting for {first}{rest}"
    return f"{job.label}: {' '.join(filter(None, [job.step or 'starting', _progress(job)]))}"


def stopped_line(job: Job) -> str:
    """How far a stopped job has come, and where it begins when it is started again."""
    if not job.done:
        return "Stopped before anything was computed."
    return f"Stopped at {_progress(job)}. {CACHED}"


def _progress(job: Job) -> str:
    return f"{job.done:,} of {job.total:,}" if job.total else ""
