"""Files of the user's own that a sweep has beside the open one, stored by their hashes, which are in the URL."""

from __future__ import annotations

import streamlit as st

from app import upload_store, url_state, url_widgets
from app.messages import escape_markdown
from app.vision.image_input import store_image
from workbench.errors import BadInput
from workbench.inputs.picture import ENDINGS

#: The parameter of the URL, and files at most beside the open one.
MORE, MOST = "image-more", 15
_KEY, _LEFT_OUT = "image-more-upload", "image-more-left-out"
HELP = f"The sweep is over these and the open one; intervals and p-values are over the images. At most {MOST} files."


def more_files() -> list[str]:
    """The widget, and the hashes of the files; a line says why others are left out."""
    endings = [ending.removeprefix(".") for ending in ENDINGS]
    options = {"key": _KEY, "accept_multiple_files": True, "on_change": _upload, "help": HELP}
    st.file_uploader("More images for the sweep", endings, **options)
    for why in st.session_state.get(_LEFT_OUT, ()):
        st.warning(escape_markdown(f"{why} Left out."), icon=":material/warning:")
    stored = list(dict.fromkeys(filter(None, url_widgets.current(MORE, "").split(","))))[:MOST]
    names = [_name(file) for file in stored]
    stored = [file for file, name in zip(stored, names, strict=True) if name]
    url_widgets.set_for_next_page(MORE, ",".join(stored))
    if not stored:
        url_state.remove_param(MORE)
        return []
    url_state.set_param(MORE, ",".join(stored))
    st.caption(escape_markdown(f"Beside the open image: {', '.join(filter(None, names))}."))
    return stored


def _name(file: str) -> str:
    """The file's name; empty, with a line above the page, where it cannot be read."""
    try:
        return upload_store.load_file(file, "an image")[0]
    except BadInput as error:
        url_state.warn(f"{error} Left out.")
        return ""


def _upload() -> None:
    """Store the files that can be read, and keep the reasons why others are left out; a callback."""
    uploads, stored, reasons = st.session_state[_KEY], [], []
    for upload in uploads[:MOST]:
        try:
            stored.append(store_image(upload))
        except BadInput as error:
            reasons.append(str(error))
    if len(uploads) > MOST:
        reasons.append(f"{len(uploads)} files, and the limit is {MOST}: {uploads[MOST].name} and those after it.")
    st.session_state[_LEFT_OUT] = reasons
    url_widgets.set_for_next_page(MORE, ",".join(stored))
