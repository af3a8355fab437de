"""One head in detail: its pattern, what a position attends to, its output, the next token, and similar heads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st
from jaxtyping import Float

from app import url_state, url_widgets
from app.components.pattern import pattern_canvas
from app.components.prompt_text import prompt_text
from app.downloadable import download_buttons
from app.heads.asking import Asking, ask, ask_pair, masked_of, weights_of
from app.heads.pattern_chart import PatternChart, Ranges, pattern_chart
from app.heads.prompt_record import PromptRecord
from app.heads.score import why_nothing_is_similar
from app.heads.selection import Selection
from app.messages import escape_markdown
from app.small_table import SmallTable, show_tables
from workbench.core import Head
from workbench.errors import WorkbenchError
from workbench.head_scores.ranking import order_of
from workbench.io.tables import printed
from workbench.models.in_forward import attends_in_shares
from workbench.plotting import style
from workbench.plotting.attention_view import DESTINATION, numbered, question, visible
from workbench.plotting.colour_scale import COLOURS, ColourScale
from workbench.plotting.position_attention import shading

#: Pixels of a table that scrolls.
BOX_HEIGHT = 260
#: Rows of a table.
ROWS = 8
#: Positions of a prompt, above which the range that is shown can be typed.
LONG = 64
#: Kind of pattern → what its colour bar measures.
SCALES = {"attention": "attention weight", "value-weighted": "attention weight × ‖v W_O‖"}
#: Parameters of the URL.
_ZOOM, COLOUR = "zoom", "colours"
_RANGES = re.compile(r"\s*(\d{1,6})\s*-\s*(\d{1,6})\s*,\s*(\d{1,6})\s*-\s*(\d{1,6})\s*")


def pattern_kind_widget() -> str:
    """``attention`` or ``value-weighted``."""
    return url_widgets.segments("Pattern", list(SCALES), "kind")


def colours_widget() -> str:
    """How weights become colours, in patterns and in the text."""
    help_text = "Linear from 0; by the square root, which shows smaller weights; or log, down to a ten-thousandth."
    return url_widgets.segments("Colours", list(COLOURS), COLOUR, help=help_text)


def selected_colours() -> str:
    """What `colours_widget` has, before it is rendered."""
    value = url_widgets.current(COLOUR, COLOURS[0])
    return value if value in COLOURS else COLOURS[0]


def pattern_values(record: PromptRecord, head: Head, kind: str) -> Float[np.ndarray, "dest src"]:
    """The head's pattern, of a kind of `SCALES`."""
    return record.pattern(head) if kind == "attention" else record.value_weighted(head)


def range_widget(record: PromptRecord) -> Ranges | None:
    """The destinations and sources that patterns show; None for all of them. They are set by zooming in, and of a long
    prompt they can be typed."""
    length, ids = len(record), record.ids.tolist()
    if st.session_state.get(f"{_ZOOM}-of", ids) != ids:
        url_widgets.set_value(_ZOOM, "")
    st.session_state[f"{_ZOOM}-of"] = ids
    place = st.empty()  # also without a widget: else the pattern below would be made anew, and lose the focus
    ranges = selected_range(length)
    if length <= LONG and not _zoom_text():
        url_state.remove_param(_ZOOM)
        return ranges
    with place.container():
        help_text = (
            "Destinations, then sources, such as 100-227,0-127. Empty: all of them. Drag across a pattern to zoom."
        )
        url_widgets.line("Positions shown", _ZOOM, "", placeholder="all", help=help_text, max_chars=40)
        ranges = selected_range(length)
        if ranges is None and _zoom_text().strip():
            st.warning(
                escape_markdown(
                    f"Positions shown={_zoom_text()!r}: expected two ranges from 0 to {length - 1}, such as "
                    f"0-{min(9, length - 1)},0-{min(9, length - 1)}. Showing all."
                )
            )
    return ranges


def selected_range(length: int) -> Ranges | None:
    """What `range_widget` has: None for all positions, and for what is no range of this prompt."""
    match = _RANGES.fullmatch(_zoom_text())
    if match is None:
        return None
    bounds = list(map(int, match.groups()))
    rows, columns = range(bounds[0], bounds[1] + 1), range(bounds[2], bounds[3] + 1)
    return (rows, columns) if all(part and part.stop <= length for part in (rows, columns)) else None


def zoom(ranges: Ranges | None) -> None:
    """Show a range of positions, or all; for callbacks."""
    text = "" if ranges is None else ",".join(f"{part.start}-{part.stop - 1}" for part in ranges)
    url_widgets.set_value(_ZOOM, text)


def _zoom_text() -> str:
    return url_widgets.current(_ZOOM, "")


def limit_of(record: PromptRecord, head: Head, kind: str) -> float | None:
    """The end of a pattern's scale: 1 for shares of attention; None for the largest magnitude."""
    return 1.0 if kind == "attention" and attends_in_shares(record.model, head.layer) else None


def show_pattern(selection: Selection, asking: Asking) -> None:
    """The pattern, with its downloads."""
    record, head = selection.record, selection.head
    if _has_none(record, head):
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind, colours = pattern_kind_widget(), colours_widget()
    ranges = range_widget(record)
    values = pattern_values(record, head, kind)
    chart = pattern_chart(
        values,
        record.tokens,
        title=f"{kind.capitalize()} pattern of head {head}",
        scale=SCALES[kind],
        ranges=ranges,
        signed=bool((values < 0).any()),
        limit=limit_of(record, head, kind),
        colours=colours,
        source=selection.source,
        masked=record.mask(head.layer),
    )
    show_pattern_chart(chart, "pattern", file_name(str(head), kind), values, asking)


def file_name(of: str, kind: str) -> str:
    """What the downloads of a pattern are called, of a kind of `SCALES`."""
    return f"pattern-{of}" if kind == "attention" else f"pattern-{of}-{kind}"


def show_pattern_chart(
    chart: PatternChart,
    key: str,
    name: str,
    values: Float[np.ndarray, "dest src"],
    asking: Asking | None,
) -> None:
    """A pattern on its canvas, with its downloads below; a click on a cell asks about its pair.

    Args:
        values: the whole pattern.
        asking: None where a click does nothing.
    """

    def picked(row: int, column: int, displayed: Ranges) -> None:
        ask_pair(*replace(chart, ranges=displayed).positions(row, column, values))

    pair = {} if asking is None else {"dest": asking.dest, "src": asking.src, "on_pick": picked}
    pattern_canvas(chart, key, on_zoom=zoom, **pair)
    download_buttons(chart, key, name)


def _has_none(record: PromptRecord, head: Head) -> bool:
    """Whether the head has no pattern, which is then said."""
    if record.has_pattern(head.layer):
        return False
    operator = record.model.operators[head.layer]
    st.caption(escape_markdown(f"Head {head} has no pattern: {operator} has no matrix a head."))
    return True


def show_text(record: PromptRecord, head: Head, selected: Asking | None, colours: str, key: str = "text") -> None:
    """The prompt, shaded by what the position attends to, or by who attends to it.

    Args:
        selected: None for the last position, where a click does nothing.
    """
    asking = selected or Asking(len(record) - 1)
    if not asking.all_heads and _has_none(record, head):
        return
    weights, of_all = weights_of(record, head, asking), asking.all_heads
    shares = of_all or attends_in_shares(record.model, head.layer)
    if of_all:
        scale, what = shading(asking.over, weights, colours)
    else:
        scale, what = ColourScale(colours, 1.0 if shares else style.limit(weights)), f"attention weight in head {head}"
    verb = "to" if asking.role == DESTINATION else "from"
    name = numbered(record.tokens)[asking.position]
    prompt_text(
        record.pieces,
        numbered(record.tokens),
        weights,
        masked_of(record, head, asking),
        question=question(name, asking.role),
        verb=verb,
        asking=asking.position,
        pair=None if selected is None else asking.other,
        scale=scale,
        what=what if shares else f"entry of the matrix of head {head}; negative ones without a shade",
        key=key,
        on_ask=None if selected is None else ask,
    )


def show_what_it_writes(selection: Selection) -> None:
    """What the head writes, the next token, and the heads with the most similar patterns."""
    record, head = selection.record, selection.head
    next_token = SmallTable(next_token_table(record), "Next token", "The model’s probabilities.")
    show_tables(_logit_effects(record, head), next_token, _similar_heads(record, head))


def _logit_effects(record: PromptRecord, head: Head) -> SmallTable:
    title = "Effect on logits"
    try:
        effects = record.logit_effects(head, ROWS // 2)
    except WorkbenchError as error:
        return SmallTable(None, title, str(error))
    frame = effects.assign(token=[visible(token) for token in effects["token"]])
    return SmallTable(frame, title, "What the head’s output at the last position raises and lowers most.")


def _similar_heads(record: PromptRecord, head: Head) -> SmallTable:
    title, cosines = "Most similar heads", record.similarity(head)
    if not np.isfinite(cosines).any():
        return SmallTable(None, title, f"None: {why_nothing_is_similar(record, head)}")
    level = printed(record.median_similarity, ".3f")
    note = f"Cosine of the patterns, less the uniform one. Median |cosine| of all pairs of heads: {level}."
    return SmallTable(similar_heads_table(cosines), title, note)


def other_heads(selection: Selection) -> Iterator[None]:
    """Compute what the tables show of every other head, in small steps."""
    for layer in range(selection.model.n_layers):
        selection.record.compute_logit_effects(layer, ROWS // 2)
        yield


def next_token_table(record: PromptRecord) -> pd.DataFrame:
    """The likeliest next tokens: ``token, probability``."""
    return pd.DataFrame([{"token": visible(t.token), "probability": t.probability} for t in record.next_tokens(ROWS)])


def similar_heads_table(cosines: np.ndarray, k: int = ROWS) -> pd.DataFrame:
    """The heads with the most similar patterns: ``head, cosine``; those without a cosine are left out."""
    best = order_of(cosines)[: min(k, int(np.isfinite(cosines).sum()))]
    heads = [str(Head(*divmod(int(i), cosines.shape[1]))) for i in best]
    return pd.DataFrame({"head": heads, "cosine": cosines.ravel()[best]})
