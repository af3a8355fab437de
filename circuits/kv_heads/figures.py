"""Figures of key/value heads as memories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.plotting.charts import Bars, Heatmap, Line, Lines, Scatter, of_heads

from .comparison import COMPARED, Compared
from .measure import Measured

#: Readings in the figure of roles, in a word or two.
READINGS = {"law_centred": "random", "real_centred": "own", "softmax_real": "softmax, own"}


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
        y_title="key/value head",
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
        x_title="k, number of directions",
        y_title="share of squared length",
        note="Of one text each, the mean over texts; keys of length one, without the first position.",
    )


def _over_heads(s: Float[np.ndarray, "text layer kv_head direction"]) -> Line:
    square = np.square(s)
    shares = (square.cumsum(-1) / square.sum(-1, keepdims=True)).mean(0).reshape(-1, s.shape[-1])
    directions = np.arange(1, s.shape[-1] + 1, dtype=float)
    return Line(directions, np.median(shares, 0), shares.min(0), shares.max(0))


def with_random_values(measured: Measured, title: str) -> Scatter:
    """The law of centred keys against the error with random values."""
    subtitle = "random values, the mean over 20 draws, against the law of these keys"
    return _against_law(measured, "random_centred", "random values", title, subtitle, regression=False, labelled=2)


def with_own_values(measured: Measured, title: str) -> Scatter:
    """The same against the error with the head's own values."""
    subtitle = "the head's own values, centred and of length one, against the law of its keys"
    return _against_law(measured, "real_centred", "the head's own values", title, subtitle)


def _against_law(measured: Measured, error_name: str, words: str, title: str, subtitle: str, **options: Any) -> Scatter:
    law, error = (measured.errors[name].mean(0) for name in ("law_centred", error_name))
    names = [f"{layer}.kv{head}" for layer, head in np.ndindex(*law.shape)]
    return Scatter(
        law.ravel(),
        error.ravel(),
        names,
        title=f"Interference · {title}",
        subtitle=subtitle,
        x_title="predicted from the keys alone, n / PR − 1 (squared error)",
        y_title=f"measured with {words} (squared error)",
        log=True,
        diagonal="as predicted (y = x)",
        note="One point for each key/value head, the mean over texts; read from a Hebbian memory of centred keys.",
        **options,
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
        title=f"Roles · {title}",
        subtitle="advantage over other heads of the layer, at the same sink share",
        scale="advantage (ln squared error)",
        x_title="role: values (random; the head's own; its own, read by softmax)",
        hover=np.array([f"{one.role}, {COMPARED[one.error]}: {one.matched.advantage:+.2f}" for one in rows]),
        note="Above 0: less interference. Intervals: one-sided 95 % bounds at both ends, corrected for the number of "
        "roles. The control is in the table.",
    )
