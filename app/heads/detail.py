"""One head closely: its pattern, what a position attends to, what it writes, its neighbours and its weights."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st
from jaxtyping import Float

from app import url_widgets
from app.downloadable import show_chart
from app.heads import pattern_chart
from app.heads.prompt_record import PromptRecord
from app.heads.selection import Selection
from app.messages import escape_markdown
from workbench.core import Head
from workbench.plotting.attention_view import coloured, visible

#: Prompts of more tokens are shown in a box that scrolls, of so many points.
MAX_TOKENS_UNSCROLLED, BOX_HEIGHT = 200, 260
#: Positions that are listed above such a box.
TOP_POSITIONS = 6
#: Rows of a table.
ROWS = 8
SCALES = {"attention": "attention", "value-weighted": "attention × norm of what is moved"}
_DEST, _DEST_OF = "dest", "dest-of"


def pattern_kind() -> str:
    """``attention`` or ``value-weighted``."""
    return url_widgets.segments("Pattern", list(SCALES), "kind")


def pattern_values(look: PromptRecord, head: Head, kind: str) -> Float[np.ndarray, "dest src"]:
    """The chosen kind of pattern."""
    return look.pattern(head) if kind == "attention" else look.value_weighted(head)


def block_widget(length: int) -> tuple[int, int] | None:
    """Which block of a long prompt's pattern is shown in full; None for all of it."""
    names = pattern_chart.block_names(length)
    if not names:
        return None
    dest_, src_ = st.columns(2)
    with dest_:
        dest = url_widgets.select("Positions", ["all, pooled", *names], "block")
    if dest not in names:
        return None
    with src_:
        src = url_widgets.select("attend to", names, "among", first=dest)
    return names.index(dest), names.index(src)


def show_pattern(side: Selection) -> None:
    """The pattern, with its downloads."""
    kind = pattern_kind()
    block = block_widget(len(side.record))
    title = f"{kind.capitalize()} pattern of head {side.head}"
    values = pattern_values(side.record, side.head, kind)
    chart = pattern_chart.pattern_chart(values, side.record.tokens, title=title, scale=SCALES[kind], block=block)
    show_chart(chart, "pattern", f"pattern-{side.head}")


def destination_slider(look: PromptRecord) -> int:
    """The position whose row is shown; the last one whenever another prompt is looked at."""
    last, ids = len(look) - 1, look.ids.tolist()
    if st.session_state.get(_DEST_OF, ids) != ids:
        url_widgets.set_value(_DEST, last)
    st.session_state[_DEST_OF] = ids
    return url_widgets.slider("What does position … attend to?", 0, last, _DEST, last)


def show_attended_tokens(look: PromptRecord, head: Head, dest: int) -> None:
    """The tokens, each coloured by what the position attends to; of a long prompt first those attended to most."""
    row = look.pattern(head)[dest]
    text = coloured(look.tokens, row)
    if len(look) <= MAX_TOKENS_UNSCROLLED:
        st.html(text)
        return
    best = np.argsort(-row, kind="stable")[:TOP_POSITIONS]
    st.caption("Most: " + escape_markdown(", ".join(f"{i} {visible(look.tokens[i])} {row[i]:.2f}" for i in best)))
    with st.container(height=BOX_HEIGHT):
        st.html(text)


def show_tables(side: Selection) -> None:
    """What the head writes, what comes next, and the heads with the most similar patterns."""
    write, after, near = st.columns(3)
    with write:
        st.markdown(
            "**Writes at the end**", help="Logits that the head raises and lowers most, through the final norm."
        )
        writes = side.record.logit_effects(side.head, ROWS // 2)
        show_table(writes.assign(token=[visible(token) for token in writes["token"]]))
    with after:
        st.markdown("**Next token**", help="What the whole model says.")
        show_table(next_token_table(side.record))
    with near:
        level = side.record.median_similarity
        st.markdown("**Nearest heads**", help=f"Cosine of patterns. Two heads have {level:.3f} here (median).")
        show_table(similar_heads_table(side.record.similarity(side.head)))


def next_token_table(look: PromptRecord) -> pd.DataFrame:
    """The likeliest next tokens."""
    return pd.DataFrame([{"token": visible(t.token), "probability": t.probability} for t in look.next_tokens(ROWS)])


def similar_heads_table(similar: np.ndarray, k: int = ROWS) -> pd.DataFrame:
    """The heads with the most similar patterns."""
    order = np.argsort(np.where(np.isfinite(similar), -similar, np.inf), axis=None, kind="stable")[:k]
    where = zip(*np.unravel_index(order, similar.shape), strict=True)
    return pd.DataFrame([{"head": f"{i}.{j}", "cosine": float(similar[i, j])} for i, j in where])


def show_table(frame: pd.DataFrame) -> None:
    """A small table; numbers with three decimals."""
    numbers = {name: st.column_config.NumberColumn(format="%.3f") for name in frame.select_dtypes("number")}
    st.dataframe(frame, hide_index=True, column_config=numbers, height="content")
