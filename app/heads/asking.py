"""The position that the page asks about: as destination or as source, in the open head or in all heads, and the other
position of the pair. All of it is URL state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st
from jaxtyping import Bool, Float

from app import url_state, url_widgets
from app.heads.prompt_record import PromptRecord
from workbench.core import Head
from workbench.plotting.attention_view import DESTINATION, ROLES, SOURCE
from workbench.plotting.position_attention import OVER_HEADS, PositionAttention

#: Parameters of the URL.
POSITION, ROLE, SCOPE, PAIR, OVER, SCORE = "position", "role", "scope", "with", "over", "score"
#: Values of `SCOPE`.
THIS_HEAD, ALL_HEADS = SCOPES = ("this head", "all heads")
#: The score of the grid that is the attention of the pair.
PAIR_SCORE = "pair"
QUESTIONS = {DESTINATION: "What does it attend to?", SOURCE: "Who attends to it?"}
#: The score before all heads were asked, and the prompt that the state is about.
_EARLIER_SCORE, _PROMPT, _NEW_PAIR = "score-before-pair", "asking-of", "asking-new-pair"


@dataclass(frozen=True)
class Asking:
    """What the page asks.

    Attributes:
        position: which position.
        role: ``destination``: what does it attend to? ``source``: who attends to it?
        scope: of `SCOPES`.
        other: the other position of the pair.
        over: how all heads are put together, ``maximum`` or ``mean``.
    """

    position: int
    role: str = DESTINATION
    scope: str = THIS_HEAD
    other: int = 0
    over: str = OVER_HEADS[0]

    @property
    def dest(self) -> int:
        """The pair's destination."""
        return self.position if self.role == DESTINATION else self.other

    @property
    def src(self) -> int:
        """The pair's source."""
        return self.other if self.role == DESTINATION else self.position

    @property
    def all_heads(self) -> bool:
        """Whether all heads are asked."""
        return self.scope == ALL_HEADS


def asking_widgets(record: PromptRecord, head: Head) -> Asking:
    """The widgets; the last position is asked about whenever the prompt changes."""
    last, ids = len(record) - 1, record.ids.tolist()
    if st.session_state.get(_PROMPT, ids) != ids:
        url_widgets.set_value(POSITION, last)
        st.session_state[_NEW_PAIR] = True
    is_new = _PROMPT not in st.session_state and url_state.get_param(PAIR) is None
    st.session_state[_PROMPT] = ids
    with st.container(horizontal=True, vertical_alignment="bottom"):
        role = url_widgets.segments("Ask about a position", list(ROLES), ROLE, format_func=QUESTIONS.__getitem__)
        scope = url_widgets.segments("In", list(SCOPES), SCOPE, on_change=_follow_scope)
        over = OVER_HEADS[0]
        if scope == ALL_HEADS:
            over = url_widgets.segments("Over heads", list(OVER_HEADS), OVER)
        else:
            url_widgets.hidden_select(OVER_HEADS, OVER)
        position = url_widgets.number("Position", 0, last, POSITION, last, on_change=_new_pair, width=110)
        asking = Asking(position, role, scope, 0, over)
        if st.session_state.pop(_NEW_PAIR, False) or is_new:
            url_widgets.set_value(PAIR, strongest(weights_of(record, head, asking), position))
        other = url_widgets.number("Paired with", 0, last, PAIR, 0, width=110)
    return Asking(position, role, scope, other, over)


def weights_of(record: PromptRecord, head: Head, asking: Asking) -> Float[np.ndarray, " pos"]:
    """What the text is shaded by: a row or a column of the open head's pattern, or of all heads' together."""
    if asking.all_heads:
        return _of_all_heads(record, asking).over_heads(asking.over)
    if not record.has_pattern(head.layer):
        return np.full(len(record), np.nan)
    pattern = record.pattern(head)
    return pattern[asking.position] if asking.role == DESTINATION else pattern[:, asking.position]


def masked_of(record: PromptRecord, head: Head, asking: Asking) -> Bool[np.ndarray, " pos"]:
    """The positions of `weights_of` that the mask hides: of the open head, or of every head."""
    if asking.all_heads:
        return _of_all_heads(record, asking).masked_everywhere
    return record.masked_at(asking.position, asking.role)[head.layer]


def _of_all_heads(record: PromptRecord, asking: Asking) -> PositionAttention:
    place = (asking.position, asking.role)
    return PositionAttention(record.tokens, record.attention_at(*place), *place, masked=record.masked_at(*place))


def strongest(weights: Float[np.ndarray, " pos"], position: int) -> int:
    """The position with the largest weight besides the first, which most heads attend to, and the position itself;
    one of these where there is no other."""
    size = np.nan_to_num(np.abs(weights), nan=0.0)
    others = [i for i in range(1, len(size)) if i != position and size[i] > 0]
    return max(others, key=lambda i: size[i]) if others else 0


def ask(position: int, is_pair: bool = False) -> None:
    """Ask about another position, or pair it with the present one; for callbacks."""
    url_widgets.set_value(PAIR if is_pair else POSITION, position)
    if not is_pair:
        _new_pair()


def ask_pair(dest: int, src: int) -> None:
    """Ask about a pair, whose position it is by the role that is selected; for callbacks."""
    is_dest = st.session_state.get(ROLE, DESTINATION) == DESTINATION
    url_widgets.set_value(POSITION, dest if is_dest else src)
    url_widgets.set_value(PAIR, src if is_dest else dest)


def earlier_score() -> str | None:
    """The score that the grid shows again when all heads are no longer asked; None where there is none."""
    shows_pair = st.session_state.get(SCOPE) == ALL_HEADS and st.session_state.get(SCORE) == PAIR_SCORE
    return st.session_state.get(_EARLIER_SCORE) if shows_pair else None


def _new_pair() -> None:
    st.session_state[_NEW_PAIR] = True


def _follow_scope() -> None:
    """All heads are asked: the grid shows the pair. One head is: it shows what it showed before."""
    current = st.session_state.get(SCORE)
    if st.session_state.get(SCOPE) == ALL_HEADS:
        if current != PAIR_SCORE:
            st.session_state[_EARLIER_SCORE] = current
        url_widgets.set_value(SCORE, PAIR_SCORE)
    elif current == PAIR_SCORE:
        earlier = st.session_state.pop(_EARLIER_SCORE, None)
        if earlier is not None:
            url_widgets.set_value(SCORE, earlier)
