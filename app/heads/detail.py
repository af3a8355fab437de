"""One head closely: its pattern, what a position attends to, what it writes, its neighbours and its weights."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st
from jaxtyping import Float

from app import url_widgets
from app.downloadable import show
from app.heads import pattern_chart
from app.heads.prompt_record import Look
from app.heads.selection import Side
from app.markdown import plain
from workbench.core import Head
from workbench.plotting.attention_view import coloured, visible

#: Prompts of more tokens are shown in a box that scrolls, of so many points.
LONG, BOX = 200, 260
#: Positions that are listed above such a box.
MOST = 6
#: Rows of a table.
ROWS = 8
SCALES = {"attention": "attention", "value-weighted": "attention × norm of what is moved"}
_DEST, _DEST_OF = "dest", "dest-of"


def pattern_kind() -> str:
    """``attention`` or ``value-weighted``."""
    return url_widgets.segments("Pattern", list(SCALES), "kind")


def pattern_of(look: Look, head: Head, kind: str) -> Float[np.ndarray, "dest src"]:
    """The chosen kind of pattern."""
    return look.pattern(head) if kind == "attention" else look.value_weighted(head)


def block_of(length: int) -> tuple[int, int] | None:
    """Which block of a long prompt's pattern is shown in full; None for all of it."""
    names = pattern_chart.blocks(length)
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


def heatmap(side: Side) -> None:
    """The pattern, with its downloads."""
    kind = pattern_kind()
    block = block_of(len(side.look))
    title = f"{kind.capitalize()} pattern of head {side.head}"
    values = pattern_of(side.look, side.head, kind)
    drawn = pattern_chart.shown(values, side.look.tokens, title=title, scale=SCALES[kind], block=block)
    show(drawn, "pattern", f"pattern-{side.head}")


def destination(look: Look) -> int:
    """The position whose row is shown; the last one whenever another prompt is looked at."""
    last, ids = len(look) - 1, look.ids.tolist()
    if st.session_state.get(_DEST_OF, ids) != ids:
        url_widgets.put(_DEST, last)
    st.session_state[_DEST_OF] = ids
    return url_widgets.slider("What does position … attend to?", 0, last, _DEST, last)


def attended(look: Look, head: Head, dest: int) -> None:
    """The tokens, each coloured by what the position attends to; of a long prompt first those attended to most."""
    row = look.pattern(head)[dest]
    text = coloured(look.tokens, row)
    if len(look) <= LONG:
        st.html(text)
        return
    best = np.argsort(-row, kind="stable")[:MOST]
    st.caption("Most: " + plain(", ".join(f"{i} {visible(look.tokens[i])} {row[i]:.2f}" for i in best)))
    with st.container(height=BOX):
        st.html(text)


def tables(side: Side) -> None:
    """What the head writes, what comes next, and the heads with the most similar patterns."""
    write, after, near = st.columns(3)
    with write:
        st.markdown(
            "**Writes at the end**", help="Logits that the head raises and lowers most, through the final norm."
        )
        writes = side.look.writes(side.head, ROWS // 2)
        table(writes.assign(token=[visible(token) for token in writes["token"]]))
    with after:
        st.markdown("**Next token**", help="What the whole model says.")
        table(following(side.look))
    with near:
        level = side.look.usual_similarity
        st.markdown("**Nearest heads**", help=f"Cosine of patterns. Two heads have {level:.3f} here (median).")
        table(nearest(side.look.similar(side.head)))


def following(look: Look) -> pd.DataFrame:
    """The likeliest next tokens."""
    return pd.DataFrame([{"token": visible(t.token), "probability": t.probability} for t in look.next_tokens(ROWS)])


def nearest(similar: np.ndarray, k: int = ROWS) -> pd.DataFrame:
    """The heads with the most similar patterns."""
    order = np.argsort(np.where(np.isfinite(similar), -similar, np.inf), axis=None, kind="stable")[:k]
    where = zip(*np.unravel_index(order, similar.shape), strict=True)
    return pd.DataFrame([{"head": f"{i}.{j}", "cosine": float(similar[i, j])} for i, j in where])


def table(frame: pd.DataFrame) -> None:
    """A small table; numbers with three decimals."""
    numbers = {name: st.column_config.NumberColumn(format="%.3f") for name in frame.select_dtypes("number")}
    st.dataframe(frame, hide_index=True, column_config=numbers, height="content")
