"""Recorded heads as memories: the directions that keys of each key/value head use, and the spectrum of the open one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from jaxtyping import Float

from app import models, sidebar, url_widgets
from app.components.head_grid import head_grid
from app.downloadable import Chart, download_buttons, show_chart
from app.memory.view import View
from app.messages import Notice
from app.part import ABOVE, Part
from app.small_table import show_table
from app.stoppable import Progress, check_not_stopped
from app.swapped_names import result_name
from data.texts import names, passages
from probes.head_memory.geometry import KINDS, KeyGeometry, of_texts, spectra_of
from probes.head_memory.interference import interference
from probes.head_memory.recorded import Recorded, cut_texts, recorded
from workbench.core import Head
from workbench.plotting.source import Source

TEXTS, KIND, MEASURE = "memory-texts", "memory-centred", "memory-measure"
PROMPT = "the prompt"
#: Texts that are read, and tokens of each.
COUNT, TOKENS = 3, 256
KIND_LABELS = {"centred": "centred: what a softmax tells apart", "uncentred": "as they are: if the head were linear"}
KIND_NOTES = {"centred": "Centred keys", "uncentred": "Keys as they are, “if the head were linear”"}
RATIO, RANK, ERROR = "participation ratio", "entropy rank", "interference by law, n / PR − 1"
#: Errors of `interference`, as the table calls them.
ERRORS = {
    "random_centred": "Hebbian memory, random values",
    "real_centred": "Hebbian memory, the head’s own centred values",
    "delta": "delta rule, random values",
    "softmax": "softmax read, random values",
    "softmax_real": "softmax read, the head’s own centred values",
}
#: Models and texts whose keys stay in memory.
MAX_RECORDED = 2


@dataclass(frozen=True, eq=False)
class Keys:
    """What is recorded on texts: keys and values of each, and the spectra of the keys."""

    texts: tuple[Recorded, ...]
    geometry: KeyGeometry


def render(view: View) -> None:
    """The part.

    Raises:
        Notice: the model is none of language.
    """
    model = models.load(view.model_name)
    if model.modality != "language":
        raise Notice(f"Keys are recorded on texts, and {view.model_name} is a {model.modality} model.")
    columns = st.columns([3, 4, 4, 2])
    with columns[0]:
        texts = url_widgets.select("Texts", (*names(), PROMPT), TEXTS)
    with columns[1]:
        kind = url_widgets.select("Keys", list(KIND_LABELS), KIND, format_func=KIND_LABELS.__getitem__)
    with columns[2]:
        measure = url_widgets.select("Measure", (RATIO, RANK, ERROR), MEASURE)
    with columns[3]:
        sidebar.head_widget()
    if texts == PROMPT:
        sidebar.prompt_widget()
    keys = _keys(view.model_name, model, texts)
    values = _values(keys.geometry, kind, measure)
    group = model.n_heads // model.n_kv_heads
    _take_own_name(group)
    sidebar.suggest_head(lambda: Head(*map(int, np.unravel_index(values.argmax(), values.shape))))
    head = sidebar.selected_head(model)
    opened = Head(head.layer, head.index // group)
    title, units = measure[:1].upper() + measure[1:], "squared error" if measure == ERROR else "directions"
    note = f"{KIND_NOTES[kind]}; {_read_on(keys)}, without the first position."
    head_grid(
        values,
        title=title,
        units=units,
        selected=opened,
        key="memory-heads",
        on_pick=lambda picked: sidebar.select_head(Head(picked.layer, picked.index * group)),
        diverging=False,
        note=note,
        shared=group > 1,
    )
    options = {"title": title, "subtitle": note, "scale": units, "x_title": "layer", "y_title": "key/value head"}
    labels = tuple([str(i) for i in range(size)] for size in values.shape)
    chart = Chart("heatmap", (values.T,), labels, options, source=_source(view, kind, texts))
    download_buttons(chart, "memory-heads-grid", f"keys-{measure.partition(' by')[0].replace(' ', '-')}-{kind}")
    _opened(view, keys, kind, opened, texts)


def _take_own_name(group: int) -> None:
    """A key/value head in the box, such as ``4.kv0``, stands for the first head that reads it."""
    text = url_widgets.current(sidebar.HEAD, "").strip()
    if match := re.fullmatch(r"(\d+)\.kv(\d+)", text):
        sidebar.select_and_rerun(Head(int(match[1]), int(match[2]) * group))


def _read_on(keys: Keys) -> str:
    """How many texts, of how many tokens."""
    lengths = sorted({text.keys.shape[2] for text in keys.texts})
    tokens = f"{lengths[0]} tokens" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]} tokens"
    if len(keys.texts) == 1:
        return f"one text of {tokens}"
    return f"the mean over {len(keys.texts)} texts of {tokens} (the finding reads 12)"


def _source(view: View, kind: str, texts: str, head: str = "") -> Source:
    """What figures name; of the prompt, its text."""
    details = (("texts", texts), ("keys", kind))
    return Source(result_name(view.model_name), sidebar.prompt() if texts == PROMPT else "", head, details=details)


def _keys(name: str, model: Any, texts: str) -> Keys:
    place = st.empty()  # also where nothing is shown: what follows keeps its place in the page
    inputs = (sidebar.prompt(),) if texts == PROMPT else tuple(passages(texts, COUNT))
    stored, key = _stored(), (name, inputs)
    if key not in stored:
        check_not_stopped(place, key, "Record the keys", "Stopped: no keys are recorded.")
        cut = cut_texts(model, inputs, None if texts == PROMPT else TOKENS)
        every = tuple(recorded(model, cut, progress=Progress(place, key)))
        place.empty()
        while len(stored) >= MAX_RECORDED:
            stored.pop(next(iter(stored)), None)
        stored[key] = Keys(every, of_texts([spectra_of(text.keys) for text in every], cut))
    return stored[key]


@models.cleared_on_release
@st.cache_resource(show_spinner=False)
def _stored() -> dict[Any, Keys]:
    return {}


def _values(geometry: KeyGeometry, kind: str, measure: str) -> Float[np.ndarray, "layer kv_head"]:
    measures = {RATIO: geometry.participation_ratio, RANK: geometry.entropy_rank, ERROR: geometry.predicted}
    return measures[measure](kind).mean(0)


def _opened(view: View, keys: Keys, kind: str, head: Head, texts: str) -> None:
    """The spectrum and the errors of one key/value head."""
    name = f"{head.layer}.kv{head.index}"
    st.subheader(f"Key/value head {name}", anchor=False)
    shares = keys.geometry.spectrum(head, kind)
    shares = shares[: np.flatnonzero(shares > 0).max() + 1]
    none = np.full(len(shares), np.nan)
    options = {
        "title": f"Spectrum of the keys of {name}",
        "subtitle": f"{KINDS[kind]}; on {texts}",
        "scale": "share of the keys’ squared length",
        "bar_name": "share",
        "x_title": "direction, largest first",
        "reference": np.full(len(shares), 1 / len(shares)),
        "reference_name": "all alike",
    }
    labels = [str(at + 1) for at in range(len(shares))]
    source = _source(view, kind, texts, name)
    left, right = st.columns([6, 5], gap="medium")
    with left:
        chart = Chart("bars", (shares, none, none), (labels,), options, source=source)
        show_chart(chart, "memory-spectrum", f"keys-{name}-{kind}")
    with right:
        _show_errors(keys, head)


def _show_errors(keys: Keys, head: Head) -> None:
    """What memories read with the keys of a head."""
    errors = [_errors(text, head) for text in keys.texts]
    n = ", ".join(sorted({str(text.keys.shape[2] - 1) for text in keys.texts}))
    law = keys.geometry.predicted("centred").mean(0)[head.layer, head.index]
    rows = {"law of random values, n / PR − 1": law}
    rows |= {title: float(np.mean([of_text[at] for of_text in errors])) for at, title in ERRORS.items()}
    show_table(pd.DataFrame({"memory of centred keys": list(rows), "squared error": list(rows.values())}))
    st.caption(
        f"Of centred keys, whichever are selected above, and values of length one; {n} pairs of each text. An empty "
        "memory has 1. The law is exact in expectation over independent values; a head’s own values are not."
    )


def _errors(text: Recorded, head: Head) -> dict[str, float]:
    keys, values = (x[head.layer, head.index, 1:][None] for x in text)
    return {name: error.item() for name, error in interference(keys, values, np.random.default_rng(0)).items()}


HELP = (
    "**Heads**: the keys of every key/value head, as attention receives them, on passages of a novel, of speeches or "
    "on the prompt. The participation ratio PR says how many directions they use alike; with random values a Hebbian "
    "memory of n such pairs errs by n / PR − 1. A click opens a head with its spectrum, and the pages Heads and "
    "Patching open on it, too. All keys of a head share one direction, which a softmax over sources does not see: "
    "centred keys are the main measure."
)
part = Part("heads", 30, ABOVE, render, ("language",), HELP)
