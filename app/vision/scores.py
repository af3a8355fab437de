"""The scores of heads on an image, as the grid shows them."""

from __future__ import annotations

import numpy as np

import workbench as wb
from app import url_widgets
from app.heads.score import UNIFORM, Score, nothing
from workbench.head_scores.result import UNITS
from workbench.io.tables import printed

SCORE = "image-score"
#: Value of the URL's ``image-score`` → label.
LABELS = {
    "distance": "mean attention distance",
    "entropy": "entropy",
    "to_cls": "attention to CLS",
    "to_registers": "attention to registers",
    "to_self": "attention to the position itself",
    "similarity": "similarity to another head",
}
#: Score → over which positions.
COUNTED = {"distance": "patches"}
HELP = (
    "Each is a mean over the positions of this image. **Mean attention distance**: of the patches that a patch attends "
    "to, weighted by attention, in patches. **Similarity**: the largest cosine with another head's pattern, after the "
    "uniform pattern is subtracted from both. The line above the grid gives what uniform attention would have."
)


def score_widget() -> str:
    """The list of scores."""
    return url_widgets.select("Colour heads by", list(LABELS), SCORE, format_func=LABELS.__getitem__, help=HELP)


def image_score(scores: wb.HeadScores, name: str) -> Score:
    """A score of `LABELS`; without values, with the reason, where no head has one."""
    values, label = np.asarray(scores[name]), LABELS[name]
    title, units = label[0].upper() + label[1:], UNITS[name]
    without = scores.without_value(name)
    if not np.isfinite(values).any():
        return nothing(Score(values, title, units, "", without=without))
    positions = scores.positions[name]
    if name not in scores.uniform:
        note = f"Over {positions:,} positions. 0: the pattern is unrelated to every other head's."
        return Score(values, title, units, note, signed=bool((values < 0).any()), positions=positions, without=without)
    uniform = scores.uniform[name]
    level = float(np.nanmean(uniform))
    note = f"Mean over {positions:,} {COUNTED.get(name, 'positions')}. Chance level: {UNIFORM} {printed(level)}."
    return Score(
        *(values, title, units, note, [level]),
        chance=uniform,
        chance_name=UNIFORM,
        positions=positions,
        without=without,
    )
