"""Several generated tokens before and after the edits."""

from __future__ import annotations

import streamlit as st

from app import url_widgets
from app.downloadable import download_button
from app.messages import escape_markdown
from app.number_table import in_print
from app.part import BELOW, Part
from app.patching import generated, manual_edits
from app.patching.view import PatchingView

HELP = (
    "**Text before and after**: the prompt continued greedily without and with the edits. *Every position* includes "
    "the generated ones, and *the last position* is the prompt’s last and each generated one."
)


def render(view: PatchingView) -> None:
    """The toggle; both texts where it is on."""
    if view.edited is None:
        return
    if not url_widgets.toggle("Continue the text before and after", generated.ON):
        url_widgets.hidden_number(1, generated.MOST, generated.COUNT)
        return
    options = {"default": generated.DEFAULT, "width": 200}
    count = url_widgets.number("New tokens", 1, generated.MOST, generated.COUNT, **options)
    if not view.edits:
        st.info("Add heads to the set, or force a row, to compare the text before and after.")
        return
    if reason := generated.why_not(view.edits):
        st.info(reason)
        return
    both = generated.generations(view.model_name, view.model, view.edited, view.edits, count)
    st.html(both._repr_html_())
    st.caption(escape_markdown(generated.summary(both, view.edited, view.edits)))
    table = both.table()
    with st.expander("Token by token"):
        st.dataframe(in_print(table, ".3f"), hide_index=True)
    source = manual_edits.source(view.model, view.edited, view.edits, view.pairs.name)
    download_button("CSV", lambda: source.csv(table), "generated.csv", "text/csv", key="generated-csv")


part = Part("generated", 20, BELOW, render, help=HELP)
