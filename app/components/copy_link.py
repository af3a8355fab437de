"""A button that copies the address of what is shown: the URL stores the whole view."""

from __future__ import annotations

from app.components.component_files import load_component


def copy_link() -> None:
    """The button, at the right end of the header. The server takes no part in it."""
    load_component("copy_link")(key="copy-link")
