"""The next token before and after the edits."""

from __future__ import annotations

import streamlit as st

from app.downloadable import show_chart
from app.messages import escape_markdown
from app.part import RIGHT, Part
from app.patching import manual_edits
from app.patching.view import PatchingView
from workbench.io.tables import printed

HELP = (
    "**Next token**: its probabilities without and with the edits of the set, by full forward passes. KL(before ‖ "
    "after) says how far they are apart: 0 is no difference."
)


def render(view: PatchingView) -> None:
    """The chart, and KL and logit difference below it."""
    if view.edited is None:
        return
    if not view.edits:
        st.info("Add heads to the set, or force a row, to compare the next token before and after.")
        return
    change = manual_edits.compute_change(view.model_name, view.edited, view.edits)
    edited = (view.edited, view.edits, view.description, view.pairs.name)
    chart = manual_edits.change_chart(change, view.model, *edited)
    st.caption(escape_markdown(f"After: “{view.edited.text(view.model)}”"))
    show_chart(chart, "by-hand", "next-token")
    difference = ""
    if view.edited.pairs:
        before, after = float(change.scores(base=True)[0]), float(change.scores()[0])
        difference = f" Logit difference of the pair: {printed(before, '.3f')} before, {printed(after, '.3f')} after."
    st.caption(
        f"KL(before ‖ after) {float(change.kl()[0]):z.3g} nats.{difference} With one prompt there is no interval."
    )


part = Part("next-token", 10, RIGHT, render, help=HELP)
