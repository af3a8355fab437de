"""The set of heads that is edited, which is also the circuit that is built: heads with roles.

In the URL ``set=23.3:mover,20.0``; beyond 2,000 characters the hash of an upload.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from app import sidebar, upload_store, url_state, url_widgets
from app.circuits import saved_circuit
from app.messages import escape_markdown, show_error
from app.swapped_names import result_name
from circuits.stage_names import role_words
from workbench.core import Head
from workbench.errors import WorkbenchError
from workbench.results.circuit import Circuit

SET = "set"
#: The role of a head without one.
NO_ROLE = "no role"
ROLES = (NO_ROLE, *role_words())
_HEADS, _SELECTED, _ROLE, _UPLOAD = "head-set", "heads-picked", "head-role", "circuit-file"
_LOADED = "circuit-loaded"
_ENTRY = re.compile(r"(\d{1,4}\.\d{1,4})(?::([^,:]{1,80}))?")

Roles = dict[Head, str]


@dataclass(frozen=True)
class Loaded:
    """What became of an uploaded circuit: its file, the heads that came into the set, what was left out, or why it was
    refused."""

    file: str
    heads: Roles = field(default_factory=dict)
    note: str = ""
    error: str = ""


def current_heads(model: Any) -> Roles:
    """The heads of the set that this model has, each with its role."""
    if _HEADS not in st.session_state or url_state.navigated_back():
        heads = _from_url()
        st.session_state[_HEADS] = heads
        if missing := _missing(model, heads):
            url_state.warn(f"The URL has set={missing}, which this model does not have. Left out.")
    heads = st.session_state[_HEADS]
    return {head: role for head, role in heads.items() if _has(model, head)}


def set_heads(heads: Mapping[Head, str]) -> None:
    """Replace the set; for callbacks, which run before the widgets are made."""
    st.session_state[_HEADS] = {head: _clean_role(role) for head, role in sorted(heads.items())}


def toggle_head(head: Head) -> None:
    """Add a head to the set, or remove it; a callback."""
    heads: Roles = dict(st.session_state.get(_HEADS, {}))
    if heads.pop(head, None) is None:
        heads[head] = NO_ROLE
    set_heads(heads)


def add_heads(heads: Sequence[Head]) -> None:
    """Add heads to the set; a callback."""
    set_heads({**{head: NO_ROLE for head in heads}, **st.session_state.get(_HEADS, {})})


def set_widgets(model: Any, head: Head, strongest: Sequence[Head], note: str = "") -> Roles:
    """The widgets of the set, and the set.

    Args:
        head: the selected head.
        strongest: heads that a sweep ranks highest; empty without one.
        note: on them.
    """
    heads = current_heads(model)
    st.session_state[_SELECTED] = list(map(str, heads))
    all_heads = [str(Head(i, j)) for i in range(model.n_layers) for j in range(model.n_heads)]
    st.multiselect(
        "Heads in the set",
        all_heads,
        key=_SELECTED,
        on_change=_keep_selected,
        placeholder="none yet",
        filter_mode="prefix",
        select_all=False,
        wrap=True,
    )
    with st.container(horizontal=True):
        verb, icon = ("Remove", "remove") if head in heads else ("Add", "add")
        st.button(f"{verb} {head}", key="flip", on_click=toggle_head, args=(head,), icon=f":material/{icon}:")
        if strongest:
            label = f"Add the {len(strongest)} strongest"
            st.button(label, key="strongest", on_click=add_heads, args=(strongest,), help=note or None)
        st.button("Clear", key="empty", on_click=set_heads, args=({},), disabled=not heads)
    _to_url(heads)
    return heads


def circuit_widgets(model: Any, head: Head, model_name: str, task: str) -> None:
    """The selected head's role; the circuit saved and loaded."""
    heads = current_heads(model)
    if head in heads:
        st.session_state[_ROLE] = heads[head]
        options = [*ROLES] if heads[head] in ROLES else [*ROLES, heads[head]]
        st.selectbox(f"Role of {head}", options, key=_ROLE, on_change=_set_role, args=(head,), accept_new_options=True)
    lines = [f"{escape_markdown(role)}: {', '.join(map(str, group))}" for role, group in _by_role(heads).items()]
    st.markdown(
        "  \n".join(lines) or "No head is in the set yet. Click a head in the grid and press Add, or add heads by name."
    )
    if heads:
        data = to_circuit(heads, model_name, task).to_bytes()
        st.download_button(
            "Save the circuit (JSON)", data, "circuit.json", "application/json", key="save-circuit", on_click="ignore"
        )
    st.file_uploader("Load a circuit (JSON)", key=_UPLOAD, on_change=_load_upload, args=(model,))
    if st.session_state.get(_UPLOAD) is not None:
        _show_loaded(heads)


def _show_loaded(heads: Roles) -> None:
    """What became of the file that stands in the uploader."""
    loaded: Loaded | None = st.session_state.get(_LOADED)
    if loaded is None:
        return
    if loaded.error:
        show_error(f"{loaded.error} The set is as it was.")
        return
    if loaded.note:
        st.warning(escape_markdown(f"{loaded.file}: {loaded.note}"), icon=":material/info:")
    changed = "" if loaded.heads == heads else " and has been changed since"
    st.caption(escape_markdown(f"The set was loaded from {loaded.file}{changed}."))


def to_circuit(heads: Mapping[Head, str], model_name: str, task: str) -> Circuit:
    """The set as a circuit."""
    method = {"method": "built by hand in the explorer", "task": task}
    return Circuit(task, result_name(model_name), tuple(heads.items()), provenance=method)


def _by_role(heads: Mapping[Head, str]) -> dict[str, list[Head]]:
    return {role: [h for h, r in heads.items() if r == role] for role in dict.fromkeys(heads.values())}


def _has(model: Any, head: Head) -> bool:
    return head.layer < model.n_layers and head.index < model.n_heads


def _missing(model: Any, heads: Iterable[Head]) -> str:
    return ", ".join(str(head) for head in sorted(heads) if not _has(model, head))


def _keep_selected() -> None:
    before: Roles = st.session_state.get(_HEADS, {})
    set_heads({head: before.get(head, NO_ROLE) for head in map(Head.parse, st.session_state[_SELECTED])})


def _set_role(head: Head) -> None:
    set_heads({**st.session_state[_HEADS], head: str(st.session_state[_ROLE] or NO_ROLE)})


def _clean_role(role: str) -> str:
    """A role as the URL can hold it."""
    return re.sub(r"[,:\s]+", " ", role).strip()[:80] or NO_ROLE


def _load_upload(model: Any) -> None:
    """Replace the set by the heads of an uploaded circuit; a callback."""
    upload = st.session_state[_UPLOAD]
    if upload is None:
        return
    file = upload_store.file_name(upload.name)
    try:
        circuit = saved_circuit.parse_circuit(upload.getvalue(), file)
    except WorkbenchError as error:
        st.session_state[_LOADED] = Loaded(file, error=upload_store.reason(error, file))
        return
    heads = {head: " and ".join(role for other, role in circuit.heads if other == head) for head in circuit.head_set}
    missing = _missing(model, heads)
    if not any(_has(model, head) for head in heads):
        error = f"{file}: this model has none of this circuit's heads ({missing})."
        st.session_state[_LOADED] = Loaded(file, error=error)
        return
    other_model = circuit.model not in ("", result_name(sidebar.model_name()))
    notes = [f"This is a circuit of {circuit.model}."] if other_model else []
    notes += [f"This model does not have {missing}. Left out."] if missing else []
    set_heads({head: role for head, role in heads.items() if _has(model, head)})
    st.session_state[_LOADED] = Loaded(file, dict(st.session_state[_HEADS]), " ".join(notes))


def _from_url() -> Roles:
    parts = [part for part in (url_state.get_param(SET) or "").split(",") if part]
    entries = {part: _ENTRY.fullmatch(part) for part in parts}
    if bad := [part for part, entry in entries.items() if entry is None]:
        how = "Write set=1.3,0.2 or set=1.3:mover."
        url_state.warn(
            f"The URL has set={','.join(bad)[: url_widgets.QUOTED]}, which is not a set of heads. {how} Left out."
        )
    return {Head.parse(entry[1]): entry[2] or NO_ROLE for entry in entries.values() if entry}


def _to_url(heads: Mapping[Head, str]) -> None:
    if heads:
        entries = [str(head) if role == NO_ROLE else f"{head}:{role}" for head, role in heads.items()]
        url_state.set_param(SET, ",".join(entries))
    else:
        url_state.remove_param(SET)
