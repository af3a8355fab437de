"""The charts of the finding ``conditioning``: answers trial by trial, blocking, and blocking by the angle of cues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench import statistics
from workbench.plotting.charts import Bars, Line, Lines, Panels
from workbench.registry import imported

from .measure import ATTENTION, BEST, DELTA, HEBB, LEAST_SQUARES, UNTRAINED, Curves, quantity

if TYPE_CHECKING:
    from probes.conditioning.protocols import Protocol

protocols = imported("probes.conditioning.protocols")

#: Of the panels: all but what Hebb's rule and untrained networks may exceed.
RANGE = (-1.15, 2.15)


def curves_chart(curves: Curves, n: int) -> Panels:
    """The answer to the cue in question after each trial: a panel for each protocol, a line for each learner."""
    names = (HEBB, DELTA, ATTENTION, UNTRAINED, BEST)
    return Panels(
        {
            _title(protocol): {name: _line(curves, name, protocol.name) for name in names}
            for protocol in protocols.PROTOCOLS.values()
        },
        title=f"Conditioning by rules and by attention · n = {n} episodes",
        subtitle="attention: mean of three networks; bands: all of their 95 % bootstrap intervals over episodes",
        x_title="trials",
        y_title="answer (1 = the outcome)",
        note="* no prompt in training has its structure. Best possible: the Kalman filter of the prompts that "
        "attention is taught.",
        y_range=RANGE,
    )


def blocking_chart(curves: Curves, n: int) -> Bars:
    """The answers to the cue after blocking, and after its control as marks."""
    learners = curves.learners
    blocked = [quantity(curves.last(learner, protocols.BLOCKING.name)) for learner in learners]
    control = np.array([curves.last(learner, protocols.CONTROL.name).mean() for learner in learners])
    return Bars(
        np.array([one.value for one in blocked]),
        np.array([one.low for one in blocked]),
        np.array([one.high for one in blocked]),
        [learner.title for learner in learners],
        title=f"Blocking · n = {n} episodes",
        subtitle="answer to B after A, and then A with B · 95 % intervals",
        scale="answer to B (1 = the outcome)",
        reference=control,
        reference_name="control: another cue than A was met before",
        bar_name="blocked",
        note=f"{HEBB}: 20 trials of step 0.1 add up to 2. {LEAST_SQUARES.capitalize()}: nothing drifts.",
    )


def angle_chart(angles: pd.DataFrame, n: int) -> Lines:
    """What the compound phase adds to the answer to B, by the cosine of A and B."""
    lines: dict[str, Line] = {}
    for name in (DELTA, ATTENTION, BEST):
        rows = angles[angles.learner.str.startswith(name)]
        for label in ("blocked", "control"):
            table = rows.pivot_table(
                index="cosine",
                values=[f"{label}_added", f"{label}_added_low", f"{label}_added_high"],
                aggfunc={f"{label}_added": "mean", f"{label}_added_low": "min", f"{label}_added_high": "max"},
            )
            low, high = table[f"{label}_added_low"].to_numpy(), table[f"{label}_added_high"].to_numpy()
            band = (low, high) if name == ATTENTION else (None, None)
            lines[f"{name}, {label}"] = Line(
                table.index.to_numpy(), table[f"{label}_added"].to_numpy(), *band, dashed=label == "control"
            )
    return Lines(
        lines,
        title=f"Blocking with cues that are alike · n = {n} episodes",
        subtitle="what the compound phase adds to the answer to B: what B is answered before it, being like A, is "
        "subtracted",
        x_title="cosine of A and B",
        y_title="added answer to B (1 = the outcome)",
        note="Dashed: another cue than A was met before. Bands: all 95 % bootstrap intervals of the three networks. "
        f"The {HEBB} memory adds 2 or more everywhere.",
    )


def _title(protocol: Protocol) -> str:
    return f"{protocol.name}{'*' if protocol.is_held_out else ''}: answer to {protocol.test}"


def _line(curves: Curves, name: str, protocol: str) -> Line:
    each = [curves[learner.title, protocol] for learner in curves.of(name)]
    trials, mean = np.arange(each[0].shape[1], dtype=float), np.mean([one.mean(0) for one in each], axis=0)
    if len(each) == 1:
        return Line(trials, mean, dashed=name == BEST)
    intervals = [statistics.mean_interval(one.T) for one in each]
    low, high = np.min([one.low for one in intervals], axis=0), np.max([one.high for one in intervals], axis=0)
    return Line(trials, mean, low, high)
