"""The one worker process of this server, started with its first page so that it is ready when it is needed."""

from __future__ import annotations

import streamlit as st

from app.plain import plain
from app.work.jobs import Job, Jobs

#: Seconds between two looks at a job that waits or runs.
EVERY = 0.5


@st.cache_resource(show_spinner=False)
def jobs() -> Jobs:
    """The queue of the worker, the same for all sessions."""
    return Jobs()


def watch(job: Job) -> None:
    """How far the job is, with a button that stops it; the page is drawn anew when it is over."""
    _watch(job.id)


@st.fragment(run_every=EVERY)
def _watch(number: int) -> None:
    job = jobs().get(number)
    if job is None or job.over:
        st.rerun()
    share = min(job.done / job.total, 1.0) if job.total else 0.0
    st.progress(share, plain(said(job, jobs().place(number))))
    st.button("Stop", key=f"stop-{number}", on_click=jobs().stop, args=(number,), icon=":material/stop_circle:")


def said(job: Job, before: int = 0) -> str:
    """The state of a job in a line."""
    if job.state == "waiting":
        return f"Waiting: {before} {'job is' if before == 1 else 'jobs are'} before it." if before else "Starting"
    count = f"{job.done:,} of {job.total:,}" if job.total else ""
    return " ".join(filter(None, [job.what or "Starting", count]))
