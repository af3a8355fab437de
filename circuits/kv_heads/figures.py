"""Figures of key–value heads as memories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from workbench.plotting.charts import Bars, Heatmap, Line, Lines, Scatter, of_heads

from .comparison import COMPARED, Compared
from .measure import Measured

#: Readings of the figure of roles, each with few words.
READINGS = {
    "law_centred": "random values",
    "law_uncentred": "if it were linear",
    "real_centred": "own values",
    "real_values_centred": "own values, keys as they are",
    "softmax_real": "softmax, own values",
}


def participation(measured: Measured, title: str) -> Heatmap:
    """The participation ratio of every head's centred keys."""
    ratio = measured.geometry.participation_ratio("centred").mean(0)
    uncentred = measured.geometry.participation_ratio("uncentred").mean(0)
    layers, heads = map(np.arange, ratio.shape)
    hover = np.empty(ratio.shape, dtype=object)
    for at in np.ndindex(*ratio.shape):
        hover[at] = f"{at[0]}.kv{at[1]}: centred {ratio[at]:.1f}, uncentred {uncentred[at]:.1f}"
    return of_heads(
        ratio,
        [str(layer) for layer in layers],
        [f"kv{head}" for head in heads],
        hover=hover,
        title=f"Directions that keys use · {title}",
        subtitle="participation ratio of centred keys of length one, the mean over texts",
        scale="participation ratio",
        y_title="key–value head",
        diverging=False,
        note=f"Uncentred, “if the head were linear”: {np.min(uncentred):.1f} to {np.max(uncentred):.1f}, "
        f"median {np.median(uncentred):.1f}. The first position is left out.",
    )


def spectrum(measured: Measured, title: str) -> Lines:
    """How much of the keys lies in their first directions, over heads."""
    lines = {
        name: _over_heads(measured.geometry.singular_values[kind])
        for kind, name in (("uncentred", "keys as they are"), ("centred", "centred keys"))
    }
    return Lines(
        lines,
        title=f"Spectrum of keys · {title}",
        subtitle="share of the keys' squared length in their k largest directions: median and range over heads",
        x_title="k, number of directions (log scale)",
        y_title="share",
        log_x=True,
        note="Of one text each, the mean over texts; keys of length one, without the first position.",
    )


def _over_heads(s: Float[np.ndarray, "text layer kv_head direction"]) -> Line:
    square = np.square(s)
    shares = (square.cumsum(-1) / square.sum(-1, keepdims=True)).mean(0).reshape(-1, s.shape[-1])
    directions = np.arange(1, s.shape[-1] + 1, dtype=float)
    return Line(directions, np.median(shares, 0), shares.min(0), shares.max(0))


def predicted(measured: Measured, against: str, words: str, title: str, subtitle: str) -> Scatter:
    """The law of centred keys against a measured error, a point for each head."""
    law, error = (measured.errors[name].mean(0) for name in ("law_centred", against))
    names = [f"{layer}.kv{head}" for layer, head in np.ndindex(*law.shape)]
    return Scatter(
        law.ravel(),
        error.ravel(),
        names,
        title=f"Interference, predicted and measured · {title}",
        subtitle=subtitle,
        x_title="predicted from the keys alone, n / PR − 1 (squared error)",
        y_title=f"measured with {words} (squared error)",
        log=True,
        diagonal="y = x",
        note="One point for each key–value head, the mean over texts; read from a Hebbian memory of centred keys.",
    )


def roles(compared: Sequence[Compared], texts: str, title: str) -> Bars:
    """Every role's advantage over the other heads of its layers, by way of reading."""
    rows = [one for error in READINGS for one in compared if (one.error, one.texts) == (error, texts)]
    rows = [one for one in rows if one.verdict != "not tested"]
    value = np.array([one.matched.advantage.value for one in rows], dtype=float)
    return Bars(
        value,
        np.array([one.matched.advantage.low for one in rows], dtype=float),
        np.array([one.matched.advantage.high for one in rows], dtype=float),
        [f"{one.role}: {READINGS[one.error]}" for one in rows],
        title=f"Roles against other heads of their layers · {title}",
        subtitle="how far the interference lies below that of the layer's other key–value heads at the same sink share",
        scale="advantage (difference of ln squared error)",
        x_title="role: values that are read",
        reference=np.array([one.matched.null_95 for one in rows], dtype=float),
        reference_name="95th percentile of heads drawn within layers",
        bar_name="advantage",
        hover=np.array([f"{one.role}, {COMPARED[one.error]}: {one.matched.advantage:+.2f}" for one in rows]),
        note="Intervals: one-sided 95 % bounds at both ends, corrected for the number of roles. Above 0: less "
        "interference.",
    )
