"""Which of guidance's two passes an edit reaches."""

from __future__ import annotations

from typing import Any

from app import url_widgets
from workbench.core import PASSES

BOTH = "both"
LABELS = {BOTH: "both", **PASSES}
HELP = "Guidance runs the model twice in each step, with the class and without it. The edit is made in these passes."


def passes_widget(model: Any, key: str) -> str:
    """The list, where there is guidance; one of `PASSES`, or `BOTH`.

    Args:
        key: of the URL.
    """
    if model.branches == 1:
        url_widgets.hidden_select(list(LABELS), key)
        return BOTH
    return url_widgets.select("Passes", list(LABELS), key, format_func=LABELS.__getitem__, help=HELP)


def edited_pass(passes: str) -> str | None:
    """The positions of the edit, as `workbench.Edit` names them; None for all."""
    return PASSES.get(passes)


def in_words(passes: str) -> str:
    """``in the pass with the class``; empty for both."""
    return "" if passes == BOTH else f"in the pass {PASSES[passes]}"
