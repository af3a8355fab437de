"""The models that a page may load: those on this machine, and those that the server was started with."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import streamlit as st

from app.heads.prompt_record import Look
from workbench.errors import UnknownName
from workbench.models import catalog
from workbench.models.sources import status

#: A JSON list of the models that `workbench explore --model` named, the first of them shown first.
STARTED = "WORKBENCH_EXPLORE_MODELS"
#: Models and prompts that stay in memory; the oldest is let go.
MODELS, LOOKS = 2, 8


@st.cache_data(ttl=30, show_spinner=False)
def available() -> list[str]:
    """Names that a page may load, looked up twice a minute at most; nothing else that a link says is ever loaded."""
    started = json.loads(os.environ.get(STARTED, "[]"))
    here = [name for name in catalog.entries() if status(name) == "ready"]
    return list(dict.fromkeys([*started, *here, catalog.DEFAULT]))


def load(name: str) -> Any:
    """The model of that name, one for all sessions.

    Raises:
        UnknownName: it is none of `available`.
    """
    if name not in available():
        raise UnknownName("model", name, available())
    return _load(name)


def _forget(_: Any) -> None:
    """A prompt's look holds its model: where one model is let go, the looks go, too, and are read from the cache again
    when they are shown."""
    _look.clear()


@st.cache_resource(max_entries=MODELS, show_spinner="Loading the model …", on_release=_forget)
def _load(name: str) -> Any:
    import workbench as wb

    return wb.load(name)


def look(name: str, ids: Sequence[int]) -> Look:
    """What there is to see of a prompt on a model."""
    return _look(name, tuple(ids))


@st.cache_resource(max_entries=LOOKS, show_spinner="Reading the prompt …")
def _look(name: str, ids: tuple[int, ...]) -> Look:
    return Look(load(name), ids)
