"""The set of heads that is edited by hand, and at the same time the circuit that is built: heads with roles.

It lives in the link as ``set=23.3:mover,20.0`` and, beyond 2,000 characters, by the hash of what is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app import chosen, link
from app.circuits import circuit_file
from app.plain import guarded, plain
from circuits.stage_names import role_words
from workbench.core import Head
from workbench.errors import BadInput, WorkbenchError
from workbench.results.circuit import Circuit

SET = "set"
#: The role of a head that was given none.
NONE = "chosen"
ROLES = (NONE, *role_words())
_STATE, _PICKED, _ROLE, _FILE = "head-set", "heads-picked", "head-role", "circuit-file"
_WRONG, _SAID = "circuit-wrong", "circuit-said"
_ENTRY = re.compile(r"(\d{1,4}\.\d{1,4})(?::([^,:]{1,80}))?")

Roles = dict[Head, str]


def current(model: Any) -> Roles:
    """The heads of the set that this model has, each with its role."""
    if _STATE not in st.session_state or link.went_back():
        st.session_state[_STATE] = _from_link()
    found: Roles = st.session_state[_STATE]
    return {head: role for head, role in found.items() if head.layer < model.n_layers and head.index < model.n_heads}


def put(heads: Mapping[Head, str]) -> None:
    """Make these the set; for callbacks, which run before the widgets are made."""
    st.session_state[_STATE] = {head: _written(role) for head, role in sorted(heads.items())}


def flip(head: Head) -> None:
    """Put a head into the set, or take it out; a callback."""
    now: Roles = dict(st.session_state.get(_STATE, {}))
    if now.pop(head, None) is None:
        now[head] = NONE
    put(now)


def add(heads: Sequence[Head]) -> None:
    """Put heads into the set; a callback."""
    put({**{head: NONE for head in heads}, **st.session_state.get(_STATE, {})})


def widgets(model: Any, head: Head, best: Sequence[Head]) -> Roles:
    """The set's widgets, and the set.

    Args:
        head: the chosen head.
        best: heads that a sweep ranks highest, empty without one.
    """
    now = current(model)
    st.session_state[_PICKED] = list(map(str, now))
    every = [str(Head(i, j)) for i in range(model.n_layers) for j in range(model.n_heads)]
    st.multiselect(
        "Heads in the set",
        every,
        key=_PICKED,
        on_change=_picked,
        placeholder="none yet",
        filter_mode="prefix",
        select_all=False,
        wrap=True,
    )
    with st.container(horizontal=True):
        word, icon = ("Take out", "remove") if head in now else ("Put in", "add")
        st.button(f"{word} {head}", key="flip", on_click=flip, args=(head,), icon=f":material/{icon}:")
        if best:
            st.button(f"Put in the {len(best)} strongest", key="strongest", on_click=add, args=(best,))
        st.button("Empty it", key="empty", on_click=put, args=({},), disabled=not now)
    _into_link(now)
    return now


def roles(model: Any, head: Head, name: str, task: str) -> None:
    """The chosen head's role; the circuit saved and loaded."""
    now = current(model)
    if head in now:
        st.session_state[_ROLE] = now[head]
        known = [*ROLES] if now[head] in ROLES else [*ROLES, now[head]]
        st.selectbox(f"Role of {head}", known, key=_ROLE, on_change=_named, args=(head,), accept_new_options=True)
    said = "  \n".join(f"{plain(role)}: {', '.join(map(str, heads))}" for role, heads in _by_role(now).items())
    st.markdown(said or "No head is in the set yet: click heads, or put them in by name.")
    if now:
        data = circuit(now, name, task).to_bytes()
        st.download_button(
            "Save the circuit (JSON)", data, "circuit.json", "application/json", key="save-circuit", on_click="ignore"
        )
    st.file_uploader("Load a circuit (JSON)", ["json"], key=_FILE, on_change=_take, args=(model,))
    if wrong := st.session_state.pop(_WRONG, None):
        st.error(plain(wrong), icon=":material/error:")
    if said := st.session_state.pop(_SAID, None):
        st.warning(plain(said), icon=":material/info:")


def circuit(heads: Mapping[Head, str], name: str, task: str) -> Circuit:
    """The set as a circuit."""
    return Circuit(
        task, name, tuple(heads.items()), provenance={"method": "chosen by hand in the explorer", "task": task}
    )


def _by_role(heads: Mapping[Head, str]) -> dict[str, list[Head]]:
    return {role: [h for h, r in heads.items() if r == role] for role in dict.fromkeys(heads.values())}


def _picked() -> None:
    before: Roles = st.session_state.get(_STATE, {})
    put({head: before.get(head, NONE) for head in map(Head.parse, st.session_state[_PICKED])})


def _named(head: Head) -> None:
    put({**st.session_state[_STATE], head: str(st.session_state[_ROLE] or NONE)})


def _written(role: str) -> str:
    """A role as the link can hold it."""
    return re.sub(r"[,:\s]+", " ", role).strip()[:80] or NONE


def _take(model: Any) -> None:
    """Take the heads of an uploaded circuit; a callback."""
    file = st.session_state[_FILE]
    if file is None:
        return
    try:
        found = circuit_file.read(file.getvalue(), file.name)
    except WorkbenchError as error:
        st.session_state[_WRONG] = str(error)
        return
    heads = {head: " and ".join(r for h, r in found.heads if h == head) for head in found.head_set}
    lacking = sorted(h for h in heads if h.layer >= model.n_layers or h.index >= model.n_heads)
    if len(lacking) == len(heads):
        st.session_state[_WRONG] = f"This model has none of this circuit's heads ({', '.join(map(str, lacking))})."
        return
    other = found.model not in ("", chosen.model_name())
    said = [f"This circuit was found in {found.model}."] if other else []
    said += [f"This model has no heads {', '.join(map(str, lacking))}: they are left out."] if lacking else []
    st.session_state[_SAID] = " ".join(said)
    put({head: role for head, role in heads.items() if head not in lacking})


def _from_link() -> Roles:
    with guarded():
        entries = [_ENTRY.fullmatch(part) for part in (link.given(SET) or "").split(",") if part]
        if not all(entries):
            raise BadInput("The link names a set of heads that is none: write 23.3,20.0 or 23.3:mover.")
        return {Head.parse(entry[1]): entry[2] or NONE for entry in entries if entry}
    return {}


def _into_link(heads: Mapping[Head, str]) -> None:
    if heads:
        link.say(SET, ",".join(str(head) if role == NONE else f"{head}:{role}" for head, role in heads.items()))
    else:
        link.leave(SET)
