"""What a page waits for before it can be drawn: imports and models, in threads of the server, shown step by step.

The frame of the page (navigation and side bar) is drawn meanwhile. Sessions that wait for the same share the work, and
one that leaves does not end it.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import streamlit as st

from app.messages import escape_markdown
from workbench.registry import Registry

#: ``tell(done, total, what)``, as `workbench.load` takes it.
Tell = Callable[[int, int, str], None]
#: Seconds for the server to send the frame and the scripts that draw it; imports hold the interpreter for longer.
FRAME = 0.3
#: In a session: the line of the page that says what it waits for.
LINE = "preparing-line"
#: Seconds between two looks at what is being done.
INTERVAL = 0.2
#: What is slow to import, in order, and the modules.
HEAVY = {"torch": ("torch",), "transformers and TransformerLens": ("transformers", "workbench.models.language")}


class Preparation:
    """Work in a thread of its own.

    Args:
        work: is given a function to tell what it is doing.
    """

    def __init__(self, work: Callable[[Tell], Any]) -> None:
        self.doing = ""
        self._future: Future[Any] = Future()
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def _run(self, work: Callable[[Tell], Any]) -> None:
        try:
            self._future.set_result(work(self._tell))
        except BaseException as error:
            self._future.set_exception(error)

    def _tell(self, done: int, total: int, what: str) -> None:
        self.doing = f"{what} ({100 * done // total} %)" if total else what

    def result(self) -> Any:
        """What the work gave or raised, once it is there."""
        return self._future.result()

    def show(self) -> None:
        """Show what is being done until it is done; whether it failed is for `result` to say."""
        if wait([self._future], INTERVAL).done:
            return
        line, began = st.session_state.get(LINE) or st.empty(), time.monotonic()
        status = line.status("Starting …")
        while not wait([self._future], INTERVAL).done:
            doing = self.doing[:1].upper() + self.doing[1:] or "Starting"
            status.update(label=f"{escape_markdown(doing)} … {time.monotonic() - began:.0f} s")
        line.empty()


def place_line() -> None:
    """Place the line that says what the page waits for: in every run of the script, so that what follows keeps its
    place, and with it the focus, when there is nothing to wait for any more."""
    st.session_state[LINE] = st.empty()


_IMPORTS: dict[str, Preparation] = {}
_LOCK = threading.Lock()


def wait_for_imports(pages: Registry[Any], page: str) -> None:
    """Wait until a page's file, and what is slow to import, are imported; at once where they are."""
    if _is_imported(pages, page):
        return
    with _LOCK:
        if page not in _IMPORTS:
            _IMPORTS[page] = Preparation(lambda tell: _import(pages, page, tell))
        importing = _IMPORTS[page]
    importing.show()
    _IMPORTS.pop(page, None)


def _import(pages: Registry[Any], page: str, tell: Tell) -> None:
    tell(0, 0, "Starting")
    time.sleep(FRAME)
    for what, names in HEAVY.items():
        tell(0, 0, f"importing {what}")
        for name in names:
            importlib.import_module(name)
    tell(0, 0, "importing the page")
    pages[page]


def _is_imported(pages: Registry[Any], page: str) -> bool:
    heavy = {name for names in HEAVY.values() for name in names}
    return heavy <= sys.modules.keys() and pages.is_imported(page)
