"""The models that a page may load: those on this machine, and those that the server was started with."""

from __future__ import annotations

import json
import os
import threading
import warnings
from typing import Any
from weakref import WeakValueDictionary

import streamlit as st

from app.preparing import Preparation, Tell
from app.swapped_names import parse_operators, split_name
from workbench.errors import UnknownName
from workbench.models import catalog
from workbench.models.sources import status

#: A JSON list of the models of `workbench explore --model`, the default first.
STARTED = "WORKBENCH_EXPLORE_MODELS"
#: Models in memory; the oldest is released first.
MAX_MODELS = 2
#: Streamlit caches of what holds a model.
_HOLDERS: list[Any] = []
#: By name, models that are being loaded, under a lock, and models in memory.
_LOADING: dict[str, Preparation] = {}
_LOCK = threading.Lock()
_LOADED: WeakValueDictionary[str, Any] = WeakValueDictionary()


@st.cache_data(ttl=30, show_spinner=False)
def available() -> list[str]:
    """The models that a page may load, looked up at most twice a minute; no other name in a URL is ever loaded."""
    requested = json.loads(os.environ.get(STARTED, "[]"))
    downloaded = [name for name in catalog.entries() if status(name) == "ready"]
    return list(dict.fromkeys([*requested, *downloaded, catalog.DEFAULT]))


def load(name: str) -> Any:
    """The model of that name, one for all sessions; one with swapped operators shares its weights with that without.
    While it is being loaded the page shows what is being done.

    Raises:
        UnknownName: it is none of `available`, or no such operator.
        UsageError: operators that `workbench.swap` refuses.
    """
    own, operators = split_name(name)
    if own not in available():
        raise UnknownName("model", own, available())
    if own not in _LOADED:
        with _LOCK:
            if own not in _LOADING:
                _LOADING[own] = Preparation(lambda tell: _load_now(own, tell))
            loading = _LOADING[own]
        loading.show()
    return _swap(own, operators)[0] if operators else _load(own)


def swap_notes(name: str) -> list[str]:
    """What a swap leaves out of the model, a line each; nothing is loaded for it that is not loaded anyway."""
    own, operators = split_name(name)
    return _swap(own, operators)[1] if operators and own in available() else []


def cleared_on_release(cache: Any) -> Any:
    """Clear a Streamlit cache whenever a model is released: its entries hold models, which would stay in memory."""
    _HOLDERS.append(cache)
    return cache


def _clear_holders(_: Any) -> None:
    for cache in _HOLDERS:
        cache.clear()


@st.cache_resource(max_entries=MAX_MODELS, show_spinner="Loading the model …", on_release=_clear_holders)
def _load(name: str) -> Any:
    loading = _LOADING.pop(name, None)
    return _load_now(name) if loading is None else loading.result()


def _load_now(name: str, tell: Tell | None = None) -> Any:
    import workbench as wb

    model = _LOADED[name] = wb.load(name, progress=tell)
    return model


@cleared_on_release
@st.cache_resource(max_entries=MAX_MODELS, show_spinner="Swapping operators …")
def _swap(name: str, operators: str) -> tuple[Any, list[str]]:
    import workbench as wb

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        swapped = wb.swap(_load(name), parse_operators(operators))
    names = {bound.operator.name for bound in swapped.operators.values()}
    texts = [str(warning.message) for warning in caught]
    return swapped, [text for text in texts if text.startswith(tuple(names))]
