"""One head in detail: its pattern, what a position attends to, its output, the next token, and similar heads."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st
from jaxtyping import Float

from app import url_widgets
from app.downloadable import show_chart
from app.heads.pattern_chart import block_names, pattern_chart
from app.heads.prompt_record import PromptRecord
from app.heads.selection import Selection
from app.messages import escape_markdown, show_errors
from workbench.core import Head
from workbench.plotting.attention_view import coloured, visible

#: A prompt of more tokens is shown in a box that scrolls, of so many pixels.
MAX_TOKENS_UNSCROLLED, BOX_HEIGHT = 200, 260
#: Positions that are listed above such a box.
TOP_POSITIONS = 6
#: Rows of a table.
ROWS = 8
#: Kind of pattern → what its colour bar measures.
SCALES = {"attention": "attention weight", "value-weighted": "attention weight × ‖v W_O‖"}
_DEST, _DEST_OF = "dest", "dest-of"


def pattern_kind_widget() -> str:
    """``attention`` or ``value-weighted``."""
    return url_widgets.segments("Pattern", list(SCALES), "kind")


def pattern_values(record: PromptRecord, head: Head, kind: str) -> Float[np.ndarray, "dest src"]:
    """The head's pattern, of a kind of `SCALES`."""
    return record.pattern(head) if kind == "attention" else record.value_weighted(head)


def block_widget(length: int) -> tuple[int, int] | None:
    """Which block of a long prompt's pattern is shown in full; None for all of it."""
    names = block_names(length)
    if not names:
        return None
    dest_column, src_column = st.columns(2)
    with dest_column:
        dest = url_widgets.select("Positions", ["all, pooled", *names], "block")
    if dest not in names:
        return None
    with src_column:
        src = url_widgets.select("attend to", names, "among", default=dest)
    return names.index(dest), names.index(src)


def selected_block(length: int) -> tuple[int, int] | None:
    """The block that `block_widget` shows; None for all of it."""
    names = block_names(length)
    dest, src = (st.session_state.get(key) for key in ("block", "among"))
    return (names.index(dest), names.index(src)) if dest in names and src in names else None


def show_pattern(selection: Selection) -> None:
    """The pattern, with its downloads."""
    if _has_none(selection.record, selection.head):
        return
    kind = pattern_kind_widget()
    block = block_widget(len(selection.record))
    title = f"{kind.capitalize()} pattern of head {selection.head}"
    values = pattern_values(selection.record, selection.head, kind)
    chart = pattern_chart(values, selection.record.tokens, title=title, scale=SCALES[kind], block=block)
    show_chart(chart, "pattern", f"pattern-{selection.head}")


def _has_none(record: PromptRecord, head: Head) -> bool:
    """Whether the head has no pattern, which is then said."""
    if record.has_pattern(head.layer):
        return False
    operator = record.model.operators[head.layer]
    st.caption(escape_markdown(f"Head {head} has no pattern: {operator} has no matrix a head."))
    return True


def destination_slider(record: PromptRecord) -> int:
    """The position whose row of the pattern is shown; the last one whenever the prompt changes."""
    last, ids = len(record) - 1, record.ids.tolist()
    if st.session_state.get(_DEST_OF, ids) != ids:
        url_widgets.set_value(_DEST, last)
    st.session_state[_DEST_OF] = ids
    return url_widgets.slider("What does position … attend to?", 0, last, _DEST, last)


def show_attended_tokens(record: PromptRecord, head: Head, dest: int) -> None:
    """The tokens, coloured by the attention that a position pays to each; above a long prompt the strongest."""
    if _has_none(record, head):
        return
    row = record.pattern(head)[dest]
    text = coloured(record.tokens, row)
    if len(record) <= MAX_TOKENS_UNSCROLLED:
        st.html(text)
        return
    top = np.argsort(-row, kind="stable")[:TOP_POSITIONS]
    listed = ", ".join(f"{i} {visible(record.tokens[i])} {row[i]:.2f}" for i in top)
    st.caption("Strongest: " + escape_markdown(listed))
    with st.container(height=BOX_HEIGHT):
        st.html(text)


def show_tables(selection: Selection) -> None:
    """What the head writes, the next token, and the heads with the most similar patterns."""
    output_column, next_column, similar_column = st.columns(3)
    record, head = selection.record, selection.head
    with output_column:
        help_text = "The tokens whose logits the head’s output at the last position raises and lowers most."
        st.markdown("**Effect on logits**", help=help_text)
        with show_errors():
            effects = record.logit_effects(head, ROWS // 2)
            show_table(effects.assign(token=[visible(token) for token in effects["token"]]))
    with next_column:
        st.markdown("**Next token**", help="The model’s next-token probabilities.")
        show_table(next_token_table(record))
    with similar_column:
        median = record.median_similarity
        help_text = (
            "Cosine of the patterns, after subtracting the uniform pattern from each. Median over all pairs of heads "
            f"on this prompt: {median:.3f}."
        )
        st.markdown("**Most similar heads**", help=help_text)
        show_table(similar_heads_table(record.similarity(head)))


def next_token_table(record: PromptRecord) -> pd.DataFrame:
    """The likeliest next tokens: ``token, probability``."""
    return pd.DataFrame([{"token": visible(t.token), "probability": t.probability} for t in record.next_tokens(ROWS)])


def similar_heads_table(cosines: np.ndarray, k: int = ROWS) -> pd.DataFrame:
    """The heads with the most similar patterns: ``head, cosine``."""
    order = np.argsort(np.where(np.isfinite(cosines), -cosines, np.inf), axis=None, kind="stable")[:k]
    indices = zip(*np.unravel_index(order, cosines.shape), strict=True)
    return pd.DataFrame([{"head": f"{i}.{j}", "cosine": float(cosines[i, j])} for i, j in indices])


def show_table(frame: pd.DataFrame) -> None:
    """A small table; numbers with three decimals."""
    numbers = {name: st.column_config.NumberColumn(format="%.3f") for name in frame.select_dtypes("number")}
    st.dataframe(frame, hide_index=True, column_config=numbers, height="content")
