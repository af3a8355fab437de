"""The page Patching opened from another page, with a head in the set or with a pair: what is asked of it is left here,
and the page does it when it is rendered next (`app.patching.requested`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from app.page import views
from workbench.core import Head
from workbench.inputs.pairs import Pair

ABLATE_HELP = (
    "Puts the head into the set of heads that are edited, sets it to zero at every position, and shows the next token "
    "before and after, on the page Patching."
)
_REQUEST = "patching-request"


@dataclass(frozen=True)
class Ablation:
    """The head is put into the set, which is set to zero.

    Attributes:
        task_prompt: the number of the task's prompt that is edited; empty for the side bar's prompt.
    """

    head: Head
    task_prompt: str = ""


@dataclass(frozen=True)
class PairsToPatch:
    """The pairs are the user's own, and the set is patched from clean into corrupt, as the default sweep does."""

    pairs: tuple[Pair, ...]


def ablate_button(head: Head, key: str, disabled: bool = False) -> bool:
    """The button that ablates a head; whether it was pressed. The caller then calls `ablate`."""
    return st.button(f"Ablate {head}", key=key, help=ABLATE_HELP, icon=":material/content_cut:", disabled=disabled)


def ablate(head: Head, task_prompt: str = "") -> None:
    """Open the page with an `Ablation`."""
    _open(Ablation(head, task_prompt))


def patch_pairs(pairs: Sequence[Pair]) -> None:
    """Open the page with `PairsToPatch`."""
    _open(PairsToPatch(tuple(pairs)))


def take_request() -> Ablation | PairsToPatch | None:
    """What is asked of the page, once."""
    return st.session_state.pop(_REQUEST, None)


def _open(request: Ablation | PairsToPatch) -> None:
    st.session_state[_REQUEST] = request
    st.switch_page(views()["patching"])
