"""The records of prompts that stay in memory. A new one is made while the page shows how far it is, with a stop.

They are in no cache of Streamlit: what such a cache computes can neither draw its progress nor be interrupted.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import streamlit as st

from app import models
from app.heads.prompt_record import PromptRecord
from app.stoppable import Progress, check_not_stopped

#: Records that stay in memory; the least recently used one is dropped first.
MAX_RECORDS = 8
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
    check_not_stopped(place, key, "Run the prompt", f"Stopped. The prompt has {len(ids):,} tokens.")
    record = PromptRecord(models.load(model_name), ids, progress=Progress(place, key))
    place.empty()
    all_records().put(key, record)
    return record


@st.cache_resource(show_spinner=False)
def all_records() -> Records:
    """One object for all sessions; it is cleared when a model is released."""
    return models.cleared_on_release(Records())
