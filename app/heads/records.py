"""The records of prompts that stay in memory. A new one is made while the page shows how far it is, with a stop.

They are in no cache of Streamlit: what such a cache computes can neither draw its progress nor be interrupted.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from app import models
from app.heads.prompt_record import PromptRecord
from app.messages import Notice

#: Records that stay in memory; the least recently used one is dropped first.
MAX_RECORDS = 8
#: Seconds after which progress is shown: a bar that vanishes at once only flickers.
PATIENCE = 0.3
_STOPPED = "stopped-prompts"
Key = tuple[str, tuple[int, ...]]


class Records:
    """Records by model and tokens, for all sessions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: OrderedDict[Key, PromptRecord] = OrderedDict()

    def get(self, key: Key) -> PromptRecord | None:
        """The record, which is now the most recently used one."""
        with self._lock:
            if key in self._records:
                self._records.move_to_end(key)
            return self._records.get(key)

    def put(self, key: Key, record: PromptRecord) -> None:
        """Keep a record."""
        with self._lock:
            self._records[key] = record
            while len(self._records) > MAX_RECORDS:
                self._records.popitem(last=False)

    def clear(self) -> None:
        """Drop all of them; they hold models."""
        with self._lock:
            self._records.clear()


def prompt_record(model_name: str, ids: Sequence[int]) -> PromptRecord:
    """The record of a prompt on a model; where it is none of the recent ones it is made, with progress and a stop.

    Raises:
        Notice: the user stopped it.
    """
    place = st.empty()  # also where nothing is shown: what follows keeps its place in the page
    key = (model_name, tuple(ids))
    if (record := all_records().get(key)) is not None:
        return record
    if key in st.session_state.get(_STOPPED, ()):
        with place.container():
            st.button("Run the prompt", key=f"run-{hash(key)}", on_click=_run_again, args=(key,))
        raise Notice(f"Stopped. The prompt has {len(ids):,} tokens.")
    progress = _Progress(place, key)
    record = PromptRecord(models.load(model_name), ids, progress=progress)
    place.empty()
    all_records().put(key, record)
    return record


@st.cache_resource(show_spinner=False)
def all_records() -> Records:
    """One object for all sessions; it is cleared when a model is released."""
    return models.cleared_on_release(Records())


class _Progress:
    """A bar with a stop button. To draw is where Streamlit interrupts a run for a click."""

    def __init__(self, place: Any, key: Key) -> None:
        self._place, self._key, self._start = place, key, time.monotonic()
        self._bar: Callable[[float, str], object] | None = None

    def __call__(self, done: int, total: int, step: str) -> None:
        if self._bar is None and time.monotonic() - self._start < PATIENCE:
            return
        share, text = done / total, f"{step}: layer {done} of {total}"
        if self._bar is not None:
            self._bar(share, text)
            return
        with self._place.container(horizontal=True, vertical_alignment="center"):
            self._bar = st.progress(share, text).progress
            label, icon = "Stop", ":material/stop_circle:"
            st.button(label, key=f"stop-{hash(self._key)}", on_click=_stop, args=(self._key,), icon=icon)


def _stop(key: Key) -> None:
    st.session_state.setdefault(_STOPPED, set()).add(key)


def _run_again(key: Key) -> None:
    st.session_state[_STOPPED].discard(key)
