"""The second side of a comparison: another prompt, another head or another model, as the page's widgets and the link
say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from app import models, sidebar, url_state, url_widgets
from app.heads.selection import Selection, nearest_head
from workbench.core import Head
from workbench.errors import UsageError

PROMPT, HEAD, MODEL = "prompt", "head", "model"
KINDS = [PROMPT, HEAD, MODEL]
#: The first prompt of the explorer with its names exchanged where the sentence begins anew: the other name follows.
DEFAULT_SECOND_PROMPT = "When Mary and John went to the store, Mary gave a drink to"
#: In the link.
_PROMPT, _HEAD, _MODEL, _DIFFERS = "prompt2", "head2", "model2", "differs"


def second_selection(first: Selection, kind: str) -> Selection:
    """The other side, by its widget.

    Raises:
        UsageError: it is none: an empty or too long prompt, no head, or no other model on this machine.
    """
    for key, kind in ((_PROMPT, PROMPT), (_HEAD, HEAD), (_MODEL, MODEL)):
        if kind != kind:
            url_state.remove_param(key)
    if kind == PROMPT:
        text = url_widgets.area("Second prompt", _PROMPT, DEFAULT_SECOND_PROMPT, height=80)
        look = models.look(first.model_name, sidebar.token_ids(first.model, text, "The second prompt"))
        return replace(first, label="second", look=look)
    if kind == HEAD:
        given = url_widgets.line(
            "Second head", _HEAD, str(_most_similar_head(first)), help="layer.head, such as 23.3", max_chars=9
        )
        return replace(first, label="second", head=nearest_head(first.model, Head.parse(given)))
    others = [name for name in models.available() if name != first.model_name]
    if not others:
        raise UsageError("There is no second model on this machine: fetch one (workbench models fetch NAME).")
    name = url_widgets.select("Second model", others, _MODEL)
    model = models.load(name)
    look = models.look(name, sidebar.token_ids(model))
    return Selection("second", name, model, look, nearest_head(model, first.head))


def select_second_head(head: Head) -> None:
    """Make a head the second one; for callbacks."""
    url_widgets.set_value(_HEAD, str(head))


def remove_params() -> None:
    """Nothing is compared: take it out of the link."""
    for key in (_PROMPT, _HEAD, _MODEL, _DIFFERS):
        url_state.remove_param(key)


def comparison_kind() -> str:
    """What differs."""
    return url_widgets.segments("What differs", KINDS, _DIFFERS)


def same_shape(first: Selection, other: Selection) -> bool:
    """Whether the two models have the same layers and heads."""
    return (first.model.n_layers, first.model.n_heads) == (other.model.n_layers, other.model.n_heads)


def _most_similar_head(first: Selection) -> Head:
    """The head whose pattern is most alike."""
    similar = first.record.similarity(first.head)
    layer, index = np.unravel_index(np.argmax(np.where(np.isfinite(similar), similar, -np.inf)), similar.shape)
    return Head(int(layer), int(index))
