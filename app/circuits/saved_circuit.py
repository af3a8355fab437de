"""A saved circuit, opened in the page: kept by the hash of its content, by which the link names it."""

from __future__ import annotations

import json

import streamlit as st

from app import upload_store, url_state, url_widgets
from app.messages import escape_markdown
from workbench.errors import BadInput, WorkbenchError
from workbench.io.files import parse_json
from workbench.results.circuit import Circuit

#: In the link: the file, and the choice of a run, with what it is where the file is shown.
CIRCUIT, RUN, OPENED = "circuit", "circuit-run", "opened file"
_KEPT, _WRONG, _FILE = "kept-circuit", "opened-circuit-wrong", "opened-circuit-file"
#: Layers and heads of a model are fewer: what is larger is no head, and no table could hold it.
MAX_INDEX = 10_000
#: Characters of a name or a role.
MAX_TEXT = 100


def upload_widget() -> None:
    """Where a file is given, and what was wrong with it."""
    st.file_uploader(
        "A circuit saved as JSON (`Circuit.save`, or the page Patching)",
        "json",
        key=_FILE,
        on_change=_open_upload,
        max_upload_size=upload_store.MAX_BYTES // 2**20,
    )
    if wrong := st.session_state.pop(_WRONG, None):
        st.error(escape_markdown(wrong), icon=":material/error:")


def opened_circuit() -> Circuit | None:
    """The circuit that was opened here or that the link names; None where there is none, or where it cannot be read
    (a line says why)."""
    name = url_state.get_param(CIRCUIT) if url_state.navigated_back() else st.session_state.get(_KEPT, url_state.get_param(CIRCUIT))
    if not name:
        url_state.remove_param(CIRCUIT)
        return None
    try:
        found = parse_circuit(upload_store.load(name))
    except WorkbenchError as error:
        url_state.warn(str(error))
        return None
    st.session_state[_KEPT] = name
    url_state.set_param(CIRCUIT, name)
    return found


def close_circuit() -> None:
    """Forget it; a callback."""
    st.session_state[_KEPT] = ""


def parse_circuit(data: bytes, name: str = "The file") -> Circuit:
    """The circuit of a file of that name.

    Raises:
        BadInput: it is none, or it holds heads that no model has, or texts that cannot be shown.
    """
    circuit = Circuit.from_json(parse_json(data, name), name)
    heads = [*circuit.head_set, *(h for e in circuit.edges for h in (e.sender, e.receiver) if h is not None)]
    if not heads:
        raise BadInput(f"{name} holds a circuit without heads: there is nothing to show.")
    if max(max(head.layer, head.index) for head in heads) >= MAX_INDEX:
        raise BadInput(f"{name} names a head of layer or index {MAX_INDEX:,} or more: no model has such a head.")
    texts = [circuit.name, circuit.model, *circuit.roles]
    if max(map(len, texts)) > MAX_TEXT:
        raise BadInput(f"{name} has a name, model or role of more than {MAX_TEXT} characters: shorten it.")
    try:
        json.dumps(circuit.json(), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadInput(f"{name} holds half of a character (a lone surrogate): write it as UTF-8.") from None
    return circuit


def _open_upload() -> None:
    """Keep an uploaded file and show it; a callback."""
    file = st.session_state[_FILE]
    if file is None:
        return
    try:
        data = file.getvalue()
        parse_circuit(data, file.name)
        st.session_state[_KEPT] = upload_store.save(data)
        url_widgets.set_value(RUN, OPENED)
    except WorkbenchError as error:
        st.session_state[_WRONG] = str(error)
