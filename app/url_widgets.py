"""A page's own widgets, whose values stay in the link and come back when the page is opened again.

Streamlit forgets the widgets of a page that is left and clears what they had in the link. Here a value is looked for
in this order: the widget itself, what it was when the page was left, the link, and `first`; where the browser went
back, the link before all others. All are written into the link, those that were not touched too: what comes first may
be another thing tomorrow. A key is a name in the link, so no two pages use one for different things.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import streamlit as st

from app import url_state

_KEPT = "kept-"


def select(label: str, options: Sequence[str], key: str, first: str | None = None, **words: Any) -> str:
    """One of several, from a list."""
    return str(_shown(st.selectbox, label, key, first or options[0], _one_of(options), options=list(options), **words))


def segments(label: str, options: Sequence[str], key: str, **words: Any) -> str:
    """One of a few, side by side."""
    words |= {"options": list(options), "required": True}
    return str(_shown(st.segmented_control, label, key, options[0], _one_of(options), **words))


def number(label: str, low: int, high: int, key: str, first: int, **words: Any) -> int:
    """A whole number."""
    words |= {"min_value": low, "max_value": high, "step": 1}
    return int(_shown(st.number_input, label, key, first, _between(low, high), **words))


def slider(label: str, low: int, high: int, key: str, first: int, **words: Any) -> int:
    """A whole number on a slider; `low` alone needs none."""
    if low == high:
        return low
    return int(_shown(st.slider, label, key, first, _between(low, high), min_value=low, max_value=high, **words))


def toggle(label: str, key: str, **words: Any) -> bool:
    """Yes or no; no at first."""
    words["write"] = lambda on: "yes" if on else "no"
    return bool(_shown(st.toggle, label, key, False, lambda text: text == "yes", **words))


def area(label: str, key: str, first: str, **words: Any) -> str:
    """Several lines of text."""
    return str(_shown(st.text_area, label, key, first, str, **words))


def line(label: str, key: str, first: str, **words: Any) -> str:
    """One line of text."""
    return str(_shown(st.text_input, label, key, first, str, **words))


def put(key: str, value: Any) -> None:
    """Set an option; for callbacks, which run before the widgets are made."""
    st.session_state[key] = value
    lay_by(key, value)


def lay_by(key: str, value: Any) -> None:
    """Set an option of the page that comes next, whose widget the page that is left may have, too."""
    st.session_state[_KEPT + key] = value


def _shown(
    widget: Callable[..., Any],
    label: str,
    key: str,
    first: Any,
    read: Callable[[str], Any],
    write: Callable[[Any], str] = str,
    **words: Any,
) -> Any:
    def texts() -> Iterator[str | None]:
        if url_state.went_back():
            yield url_state.given(key)
        for name in (key, _KEPT + key):
            known = st.session_state.get(name)
            yield None if known is None else write(known)
        yield url_state.given(key)

    new = not {key, _KEPT + key} & set(st.session_state)
    found = (read(text) for text in texts() if text is not None)
    st.session_state[key] = next((value for value in found if value is not None), first)
    if new and (linked := url_state.given(key)) is not None and read(linked) is None:
        url_state.wrong(f"The link says {key}={linked[:80]}, which is not there; showing {write(first)}.")
    value = widget(label, key=key, **words)
    lay_by(key, value)
    url_state.say(key, write(value))
    return value


def _one_of(options: Sequence[str]) -> Callable[[str], str | None]:
    return lambda text: text if text in options else None


def _between(low: int, high: int) -> Callable[[str], int | None]:
    def read(text: str) -> int | None:
        return min(max(int(text), low), high) if text.isascii() and text.removeprefix("-").isdigit() else None

    return read
