"""A page's widgets, whose values are URL state and survive a switch of the page.

Streamlit forgets the widgets of a page that is left and clears their parameters. Here a value comes from the first of:
the widget itself, its value when the page was left, the URL, and the default; after the browser's back button the URL
comes first. All values are written into the URL, defaults too: the default may be another tomorrow. A key is the name
of a parameter, so no two pages use one for different things.

A value in the URL that cannot be used is named, and the default stands in for it: nothing long starts by itself then
(`stands_in`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import url_state

#: Key → the value when its page was left. In one entry of the session's state: Streamlit goes through all of them for
#: many a widget.
_SAVED = "saved-values"
#: Key → the default that stands in for a value in the URL, until another one is selected.
_STAND_INS = "url-stand-ins"
#: Characters of a parameter that a warning quotes.
QUOTED = 80


def select(label: str, options: Sequence[str], key: str, default: str | None = None, **kwargs: Any) -> str:
    """One of several, from a list."""
    kwargs["options"] = list(options)
    return str(_render(st.selectbox, label, key, default or options[0], _one_of(options), **kwargs))


def segments(label: str, options: Sequence[str], key: str, **kwargs: Any) -> str:
    """One of a few, side by side."""
    kwargs |= {"options": list(options), "required": True}
    return str(_render(st.segmented_control, label, key, options[0], _one_of(options), **kwargs))


def number(label: str, low: int, high: int, key: str, default: int, **kwargs: Any) -> int:
    """A whole number."""
    kwargs |= {"min_value": low, "max_value": high, "step": 1}
    return int(_render(st.number_input, label, key, default, _Between(low, high), **kwargs))


def slider(label: str, low: int, high: int, key: str, default: int, **kwargs: Any) -> int:
    """A whole number on a slider; no widget where `low` is the only one."""
    if low == high:
        return low
    kwargs |= {"min_value": low, "max_value": high}
    return int(_render(st.slider, label, key, default, _Between(low, high), **kwargs))


def decimal(label: str, low: float | None, high: float | None, key: str, default: float, **kwargs: Any) -> float:
    """A number, with decimals."""
    low, high = (None if bound is None else float(bound) for bound in (low, high))  # all of one type
    kwargs |= {"min_value": low, "max_value": high, "format": "%g", "step": 0.1}
    return float(_render(st.number_input, label, key, float(default), _BetweenDecimals(low, high), **kwargs))


def toggle(label: str, key: str, default: bool = False, **kwargs: Any) -> bool:
    """Yes or no; no by default."""
    kwargs["write"] = lambda on: "yes" if on else "no"
    return bool(_render(st.toggle, label, key, default, {"yes": True, "no": False}.get, **kwargs))


def area(label: str, key: str, default: str, **kwargs: Any) -> str:
    """Several lines of text."""
    return str(_render(st.text_area, label, key, default, str, **kwargs))


def line(label: str, key: str, default: str, **kwargs: Any) -> str:
    """One line of text."""
    return str(_render(st.text_input, label, key, default, str, **kwargs))


def current(key: str, default: str) -> str:
    """The value of a text or a list, also on a page that does not show its widget."""
    for value in (st.session_state.get(key), _saved().get(key)):
        if value is not None:
            return str(value)
    in_url = url_state.get_param(key)
    return default if in_url is None else in_url


def current_number(low: int, high: int, key: str, default: int) -> int:
    """The value of a whole number, also before its widget is made."""
    return int(_first_usable(key, default, _Between(low, high)))


def set_value(key: str, value: Any) -> None:
    """Set a widget's value; for callbacks, which run before the widgets are made."""
    st.session_state[key] = value
    set_for_next_page(key, value)


def set_for_next_page(key: str, value: Any) -> None:
    """Set a widget's value on the page that is opened next; the page that is left may have the widget, too."""
    _saved()[key] = value


def _saved() -> dict[str, Any]:
    return st.session_state.setdefault(_SAVED, {})


def stands_in(*keys: str) -> bool:
    """Whether a default stands in for the URL's value of one of these, which cannot be used: a link with such a value
    starts nothing long."""
    return not set(keys).isdisjoint(st.session_state.get(_STAND_INS, {}))


def hidden_select(options: Sequence[str], key: str) -> None:
    """Name, and leave out, what cannot be used of a list that is not shown now."""
    _leave_out_unusable(key, _one_of(options))


def hidden_number(low: int, high: int, key: str) -> None:
    """Name, and leave out, what cannot be used of a whole number that is not shown now."""
    _leave_out_unusable(key, _Between(low, high))


def _leave_out_unusable(key: str, parse: Callable[[str], Any]) -> None:
    text = url_state.get_param(key)
    if text is not None and _usable(parse, text) is None:
        if key not in st.session_state and key not in _saved():
            _warn(key, text, parse, "Left out.")
        url_state.remove_param(key)


def _render(
    widget: Callable[..., Any],
    label: str,
    key: str,
    default: Any,
    parse: Callable[[str], Any],
    write: Callable[[Any], str] = str,
    **kwargs: Any,
) -> Any:
    is_new = key not in st.session_state and key not in _saved()
    standing: dict[str, str] = st.session_state.setdefault(_STAND_INS, {})
    st.session_state[key] = _first_usable(key, default, parse, write)
    if is_new and (text := url_state.get_param(key)) is not None and _usable(parse, text) is None:
        standing[key] = write(st.session_state[key])
        _warn(key, text, parse, f"Showing {_displayed(standing[key], **kwargs)}.")
    value = widget(label, key=key, **kwargs)
    if standing.get(key, write(value)) != write(value):
        del standing[key]
    set_for_next_page(key, value)
    url_state.set_param(key, write(value))
    return value


def _first_usable(key: str, default: Any, parse: Callable[[str], Any], write: Callable[[Any], str] = str) -> Any:
    """What the widget shows: the first value that can be used."""

    def from_url() -> Any:
        text = url_state.get_param(key)
        return None if text is None else _usable(parse, text)

    def candidates() -> Iterator[Any]:
        if url_state.navigated_back():
            yield from_url()
        for current in (st.session_state.get(key), _saved().get(key)):
            yield None if current is None else parse(write(current))
        yield from_url()

    return next((value for value in candidates() if value is not None), default)


def _usable(parse: Callable[[str], Any], text: str) -> Any:
    """The value of a text in the URL; None where it is no option, or a number out of range."""
    value = parse(text)
    return None if type(value) in (int, float) and value != float(text) else value


def _displayed(text: str, format_func: Callable[[str], str] = str, **_: Any) -> str:
    """A value as the widget with these arguments shows it."""
    return format_func(text)


def _warn(key: str, text: str, parse: Callable[[str], Any], done: str) -> None:
    """Say that the URL holds something that is no option, or a number out of range."""
    why = "is not an option"
    if parse(text) is not None:
        why = f"is out of range ({parse})"
    url_state.warn(f"The URL has {key}={text[:QUOTED]}, which {why}. {done}")


def _one_of(options: Sequence[str]) -> Callable[[str], str | None]:
    return lambda text: text if text in options else None


@dataclass(frozen=True)
class _Between:
    """The nearest number of a range to that of a text; None for a text that is no number."""

    low: float | None
    high: float | None

    def __call__(self, text: str) -> float | None:
        value = self._read(text)
        if value is None:
            return None
        value = value if self.low is None else max(value, self.low)
        return value if self.high is None else min(value, self.high)

    def __str__(self) -> str:
        low, high = (f"{bound:g}" if isinstance(bound, float) else str(bound) for bound in (self.low, self.high))
        if self.low is None or self.high is None:
            return f"at most {high}" if self.low is None else f"at least {low}"
        return f"{low} to {high}"

    def _read(self, text: str) -> float | None:
        is_number = text.isascii() and text.removeprefix("-").isdigit() and len(text) <= QUOTED
        return int(text) if is_number else None


class _BetweenDecimals(_Between):
    def _read(self, text: str) -> float | None:
        try:
            value = float(text[:QUOTED])
        except ValueError:
            return None
        return value if math.isfinite(value) else None
