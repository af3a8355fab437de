"""A saved circuit, uploaded on the page and stored by the hash of its content, which is in the URL."""

from __future__ import annotations

import json
from dataclasses import dataclass

import streamlit as st

from app import upload_store, url_state, url_widgets
from app.messages import show_error
from workbench.errors import BadInput, WorkbenchError
from workbench.io.files import parse_json
from workbench.results.circuit import Circuit

#: URL parameters: the file's hash, its name for people who read the URL, and the selected run, which is `OPENED` where
#: the file is shown.
CIRCUIT, FILE, RUN, OPENED = "circuit", "circuit-file-name", "circuit-run", "opened file"
_NAME, _ERROR, _UPLOAD = "opened-circuit", "opened-circuit-error", "opened-circuit-file"
#: The uploader's version: in a new one no file stands.
_UPLOADER = "opened-circuit-uploader"
#: Layers and heads of a model are fewer than this, and so are the rows of a table.
MAX_INDEX = 10_000
#: Characters of a name or a role.
MAX_TEXT = 100


@dataclass(frozen=True)
class OpenedCircuit:
    """The circuit of an uploaded file, and the file's own name."""

    file: str
    circuit: Circuit


def upload_widget() -> None:
    """The upload, and why its file was refused."""
    name = url_state.get_param(CIRCUIT) or ""
    if url_state.navigated_back() and name != st.session_state.get(_NAME, ""):
        _forget_file()  # the URL shows another one
    key = f"{_UPLOAD}-{st.session_state.get(_UPLOADER, 0)}"
    st.file_uploader(
        "A circuit saved as JSON (by `Circuit.save` or on the Patching page)",
        key=key,
        on_change=_open_upload,
        args=(key,),
        max_upload_size=upload_store.MAX_BYTES // 2**20,
    )
    if error := st.session_state.get(_ERROR):
        show_error(error)


def opened_circuit() -> OpenedCircuit | None:
    """The circuit that was uploaded or is in the URL; None where there is none, or where it cannot be read (a warning
    says why)."""
    name = url_state.get_param(CIRCUIT)
    if not url_state.navigated_back():
        name = st.session_state.get(_NAME, name)
    if not name:
        url_state.remove_param(CIRCUIT)
        url_state.remove_param(FILE)
        return None
    try:
        file, data = upload_store.load_file(name, "a circuit file")
        circuit = parse_circuit(data, file)
    except WorkbenchError as error:
        named = url_state.get_param(FILE)
        url_state.warn(f"{upload_store.file_name(named)}: {error}" if named else str(error))
        return None
    st.session_state[_NAME] = name
    url_state.set_param(CIRCUIT, name)
    url_state.set_param(FILE, file)
    return OpenedCircuit(file, circuit)


def close_circuit() -> None:
    """Close the file; a callback."""
    st.session_state[_NAME] = ""
    _forget_file()


def parse_circuit(data: bytes, name: str = "The file") -> Circuit:
    """The circuit in a file of that name.

    Raises:
        BadInput: it holds no circuit, heads that no model has, or texts that cannot be shown.
    """
    circuit = Circuit.from_json(parse_json(data, name), name)
    edge_heads = (head for edge in circuit.edges for head in (edge.sender, edge.receiver) if head is not None)
    heads = [*circuit.head_set, *edge_heads]
    if not heads:
        raise BadInput(f"{name}: the circuit has no heads, so there is nothing to show.")
    if max(max(head.layer, head.index) for head in heads) >= MAX_INDEX:
        raise BadInput(f"{name}: a head has layer or index {MAX_INDEX:,} or more, which no model has.")
    texts = [circuit.name, circuit.model, *circuit.roles]
    if max(map(len, texts)) > MAX_TEXT:
        raise BadInput(f"{name}: a name, model or role has more than {MAX_TEXT} characters. Shorten it.")
    try:
        json.dumps(circuit.json(), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadInput(f"{name}: half of a character (a lone surrogate). Write it as UTF-8.") from None
    return circuit


def _open_upload(key: str) -> None:
    """Store an uploaded circuit and show it; where it is refused or removed, none is open. A callback."""
    upload = st.session_state[key]
    st.session_state[_NAME], st.session_state[_ERROR] = "", ""
    if upload is None:
        return
    file, data = upload_store.file_name(upload.name), upload.getvalue()
    try:
        parse_circuit(data, file)
        st.session_state[_NAME] = upload_store.save_file(data, file)
        url_widgets.set_value(RUN, OPENED)
    except WorkbenchError as error:
        st.session_state[_ERROR] = upload_store.reason(error, file)


def _forget_file() -> None:
    st.session_state[_UPLOADER] = st.session_state.get(_UPLOADER, 0) + 1
    st.session_state[_ERROR] = ""
