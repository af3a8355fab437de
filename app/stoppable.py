"""Work in a page's own run that shows how far it is, with a stop: a bar drawn after each step, where Streamlit
interrupts a run for a click. What was stopped leaves a button that runs it again."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any

import streamlit as st

from app.messages import Notice

#: Seconds after which progress is shown: a bar that vanishes at once only flickers.
PATIENCE = 0.3
#: Seconds between two drawings of the bar: the browser draws on the cores that compute.
PAUSE = 0.25
_STOPPED = "stopped"


class Progress:
    """A bar with a stop button, as `workbench.record` and others take it.

    Args:
        place: an `st.empty` for it.
        key: of the work.
    """

    def __init__(self, place: Any, key: Hashable) -> None:
        self._place, self._key, self._next = place, key, time.monotonic() + PATIENCE
        self._bar: Callable[[float, str], object] | None = None

    def __call__(self, done: int, total: int, step: str) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PAUSE
        share, text = done / total, f"{step}: layer {done} of {total}"
        if self._bar is not None:
            self._bar(share, text)
            return
        with self._place.container(horizontal=True, vertical_alignment="center"):
            self._bar = st.progress(share, text).progress
            label, icon = "Stop", ":material/stop_circle:"
            st.button(label, key=f"stop-{hash(self._key)}", on_click=_stop, args=(self._key,), icon=icon)


def check_not_stopped(place: Any, key: Hashable, button: str, notice: str) -> None:
    """Where the work was stopped: the button that runs it, and the notice in place of what it gives.

    Raises:
        Notice: the user stopped it.
    """
    if key in st.session_state.get(_STOPPED, ()):
        with place.container():
            st.button(button, key=f"run-{hash(key)}", on_click=_run_again, args=(key,))
        raise Notice(notice)


def _stop(key: Hashable) -> None:
    st.session_state.setdefault(_STOPPED, set()).add(key)


def _run_again(key: Hashable) -> None:
    st.session_state[_STOPPED].discard(key)
