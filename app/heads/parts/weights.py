"""The open head's OV and QK circuits, from its weights alone."""

from __future__ import annotations

import streamlit as st

from app.heads import weights_summary
from app.heads.model_scores import LISTED
from app.heads.view import View
from app.part import BELOW, Part

HELP = (
    "**OV and QK circuits**: the sizes of `W_V W_O` and `W_Q W_Kᵀ`, and the tokens that the head promotes when it "
    "attends to a token; from the weights alone."
)


def render(view: View) -> None:
    """Sizes and composition, and promoted tokens."""
    left, right = st.columns(2, gap="medium")
    with left:
        weights_summary.show_summary(view.selection, stored_only=view.score_name in LISTED)
    with right:
        weights_summary.show_ov_tokens(view.selection, view.asking.dest)


part = Part("weights", 20, BELOW, render, help=HELP)
