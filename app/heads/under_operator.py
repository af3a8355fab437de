"""The open head under another attention operator: its pattern on the same q, k and v beside its own, what it would
write, and the next token with the operator in that layer."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import workbench as wb
from app import models, url_widgets
from app.heads import detail
from app.heads.operator_widgets import operator_widgets
from app.heads.pattern_chart import pattern_chart
from app.heads.selection import Selection
from app.messages import escape_markdown, show_errors
from app.number_table import in_print
from app.small_table import show_table
from workbench.core import Head
from workbench.io.tables import printed
from workbench.patching.operator_view import WEIGHT
from workbench.plotting.attention_view import visible
from workbench.plotting.operator_view import share_of

#: Views that stay in memory.
MAX_VIEWS = 8
#: Tokens of a table.
ROWS = 8
HELP = "The head’s own q, k and v under another attention operator, which is swapped into its whole layer."


def show_under_operator(selection: Selection, dest: int) -> None:
    """The section.

    Args:
        dest: the position that the page shows.
    """
    st.subheader("Under another operator", anchor=False, help=HELP)
    with show_errors():
        chosen = operator_widgets(selection.model.causal)
        if chosen is None:
            return
        bound, bidirectional = chosen
        ids = tuple(selection.record.ids.tolist())
        view = _operator_view(selection.model_name, ids, selection.head, str(bound), bidirectional)
        _patterns(view, len(ids))
        _tables(view, dest)


@models.cleared_on_release
@st.cache_resource(max_entries=MAX_VIEWS, show_spinner="Swapping the operator …")
def _operator_view(
    model_name: str, ids: tuple[int, ...], head: Head, operator: str, bidirectional: bool
) -> wb.OperatorView:
    model = models.load(model_name)
    return wb.operator_view(model, ids, head.layer, head.index, operator, bidirectional=bidirectional)


def _patterns(view: wb.OperatorView, length: int) -> None:
    """Both matrices, on one scale."""
    sides = (view.own, view.swapped)
    shares = False
    if any(side.matrix is not None and side.scale != WEIGHT for side in sides):
        help_text = (
            "Each row divided by the sum of its magnitudes: entries as they are may differ by orders of magnitude."
        )
        shares = url_widgets.toggle("Rows as shares", "shares", default=True, help=help_text)
    matrices, limits, ranges = view.matrices(shares), view.limits(shares), detail.selected_range(length)
    colours = detail.selected_colours()
    columns = st.columns(2, gap="medium")
    for i, (column, side, label) in enumerate(zip(columns, sides, view.labels, strict=True)):
        values, (limit, signed) = matrices[i], limits[i]
        if values is None:
            continue
        with column:
            scale = share_of(side.scale) if shares else side.scale
            title = f"Head {view.head}, {label}"
            options = {"title": title, "scale": scale, "ranges": ranges, "limit": limit, "signed": signed}
            chart = pattern_chart(values, view.tokens, colours=colours, source=view.source, **options)
            key = ("operator-own", "operator-swapped")[i]
            detail.show_pattern_chart(chart, key, f"pattern-{view.head}-{key}", values, None)
    for note in view.notes:
        st.caption(escape_markdown(note))


def _tables(view: wb.OperatorView, dest: int) -> None:
    """What the head writes, and the next token."""
    left, middle, right = st.columns(3, gap="medium")
    table = view.table()
    with left:
        what = "z" if view.own.written is None else "z W_O"
        st.markdown(
            f"**Output ‖{what}‖**",
            help="The norm of what the head writes at each position, its own and under the operator, and their cosine.",
        )
        table = table.assign(token=[visible(token) for token in table["token"]])
        row = table.iloc[dest]
        norms = f"{row['own']:.3g} → {row['swapped']:.3g}, cosine {printed(row['cosine'], '.2f')}"
        st.caption(escape_markdown(f"At position {dest} {row['token']}: {norms}"))
        st.dataframe(in_print(table), hide_index=True, height=detail.BOX_HEIGHT)
    with middle:
        st.markdown(
            "**Raises directly** (logit)",
            help="The tokens whose logits the head’s output at the last position raises most, through the final norm "
            "and the unembedding.",
        )
        if view.own.effects is not None:
            _show_tokens(view.promoted(ROWS // 2))
    with right:
        st.markdown("**Next token**", help="Probabilities without and with the operator in this layer.")
        _show_tokens(view.next_tokens(ROWS // 2))
        st.caption(f"KL(own ‖ swapped) {view.kl:z.3g} nats. With one prompt there is no interval.")


def _show_tokens(frame: pd.DataFrame) -> None:
    show_table(frame.assign(token=[visible(token) for token in frame["token"]]))
