"""The open sampling step. It is URL state."""

from __future__ import annotations

from app import url_widgets

STEP = "sample-step"
HELP = "Counted from 0, the first step, which starts from noise. Arrow keys move it when it has the focus."


def step_widget(n_steps: int) -> int:
    """The slider."""
    return url_widgets.slider("Step", 0, n_steps - 1, STEP, 0, help=HELP)


def select_step(step: int) -> None:
    """Select a step; for callbacks."""
    url_widgets.set_value(STEP, step)
