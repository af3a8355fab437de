"""The one worker process of this server, started with its first page so that it is ready when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import streamlit as st

from app.messages import escape_markdown
from app.work import result_files
from app.work.jobs import Job, Jobs
from workbench.errors import BadInput

T = TypeVar("T")
#: Seconds between two looks at a job that waits or runs.
EVERY = 0.5
_WATCHED = "watched-jobs"


@st.cache_resource(show_spinner=False)
def jobs() -> Jobs:
    """The queue of the worker, the same for all sessions."""
    return Jobs()


def ready(kind: str, key: str, read: Callable[[str], T]) -> T | None:
    """What a job left, where it is there and sound; nothing is computed."""
    path = result_files.result_path(kind, key)
    if not path.is_file():
        return None
    try:
        return read(key)
    except BadInput as error:
        st.warning(f"What was kept was damaged and is dropped ({escape_markdown(error)}): compute it again.")
        path.unlink(missing_ok=True)
        return None


def awaited(kind: str, key: str, job: Mapping[str, Any], read: Callable[[str], T], again: str) -> T | None:
    """The same; where it is not there its job is begun, and how far it is is drawn.

    Args:
        again: what the button says that begins a job once more which was stopped or failed.
    """
    found = ready(kind, key, read)
    if found is not None:
        return found
    known = jobs().newest(key) or jobs().submit(key, {"kind": kind, **job})
    if not known.is_finished:
        watch(known)
        return None
    if known.state == "failed":
        st.error(escape_markdown(known.error), icon=":material/error:")
    if known.state == "stopped":
        st.info("Stopped. What was computed is kept: begin again to go on.")
    begin(kind, key, job, again)
    return None


def begin(kind: str, key: str, job: Mapping[str, Any], label: str) -> None:
    """A button that begins a job."""
    if st.button(label, key=f"begin-{kind}-{job['model']}", icon=":material/play_arrow:"):
        jobs().submit(key, {"kind": kind, **job})
        st.rerun()


def watch(job: Job) -> None:
    """How far the job is, with a button that stops it; the page is drawn anew when it is over."""
    st.session_state.setdefault(_WATCHED, set()).add(job.id)
    _watch(job.id)


def others() -> None:
    """The jobs that wait or run and that this run of the page has not said already, such as those of other pages."""
    watched = st.session_state.pop(_WATCHED, set())
    unsaid = [job.id for job in jobs().unfinished() if job.id not in watched]
    if unsaid:
        st.caption("Also at work")
        for number in unsaid:
            _watch(number)


@st.fragment(run_every=EVERY)
def _watch(number: int) -> None:
    job = jobs().get(number)
    if job is None or job.is_finished:
        st.rerun()
    share = min(job.done / job.total, 1.0) if job.total else 0.0
    st.progress(share, escape_markdown(said(job, jobs().unfinished(number))))
    st.button("Stop", key=f"stop-{number}", on_click=jobs().stop, args=(number,), icon=":material/stop_circle:")


def said(job: Job, before: Sequence[Job] = ()) -> str:
    """The state of a job in a line."""
    if job.state == "waiting" and before:
        first = f"{before[0].label} ({_count(before[0])})" if _count(before[0]) else before[0].label
        more = f" and {len(before) - 1} more" if len(before) > 1 else ""
        return f"{job.label}: waiting for {first}{more}"
    return f"{job.label}: {' '.join(filter(None, [job.step or 'starting', _count(job)]))}"


def _count(job: Job) -> str:
    return f"{job.done:,} of {job.total:,}" if job.total else ""
