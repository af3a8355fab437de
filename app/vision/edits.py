"""Edits of the open head, or of the heads in the set, on the open image: the widgets, and what they do to its classes
or its feature."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

import workbench as wb
from app import models, url_widgets
from app.classes_chart import classes_chart
from app.downloadable import Chart, download_button
from app.patching.sweep_controls import BASES
from app.vision.pair_input import description as pair_description
from app.vision.view import View
from app.work.images import read_pair
from workbench.core import Edit, Head
from workbench.example_names import named_image
from workbench.io.files import jsonable
from workbench.io.tables import printed
from workbench.plotting.source import Source

#: Parameters of the URL.
KIND, WHICH, AT = "image-edit", "image-edited", "image-at"
#: Value of the URL's ``image-edit`` → what an edit and a sweep are given.
KINDS: dict[str, dict[str, Any]] = {
    "patch, denoise": {"edit": "patch", "direction": "denoise"},
    "patch, noise": {"edit": "patch", "direction": "noise"},
    "zero": {"edit": "zero"},
    "mean": {"edit": "mean", "mean_over": "positions"},
}
LABELS = {**BASES, "zero": "set to zero", "mean": "set to the mean over this image’s positions"}
OPEN_HEAD, SET = "the open head", "the heads of the set"
EVERYWHERE, SELECTED = "every position", "the selected position"


@dataclass(frozen=True)
class Editing:
    """What is edited, and how.

    Attributes:
        heads: that are edited together.
        kind: of `KINDS`.
        position: a label; empty for every position.
    """

    heads: tuple[Head, ...]
    kind: str
    position: str

    @property
    def is_patch(self) -> bool:
        return KINDS[self.kind]["edit"] == "patch"

    @property
    def base(self) -> str:
        """Which image's run is edited."""
        return "corrupt" if self.kind == "patch, denoise" else "clean"

    @property
    def edits(self) -> tuple[Edit, ...]:
        """For `workbench.run`."""
        kind, position = KINDS[self.kind]["edit"], self.position or None
        return tuple(Edit("z", head.layer, head.index, position, kind=kind) for head in self.heads)

    def description(self) -> str:
        """In a few words: ``z of head 3.2 set to zero, at every position``."""
        names = ", ".join(map(str, self.heads))
        at = f"at {self.position}" if self.position else f"at {EVERYWHERE}"
        what = {"patch, denoise": "patched from the clean image", "patch, noise": "patched from the corrupt image"}
        return f"z of head{'' if len(self.heads) == 1 else 's'} {names} {what.get(self.kind, LABELS[self.kind])}, {at}"


def kind_widget() -> str:
    """The kind of edit."""
    help_text = (
        "patch the corrupt run (denoise): the clean image’s values are inserted into the corrupt image’s run; patch "
        "the clean run (noise): the reverse. The others are made in the clean image’s run."
    )
    return url_widgets.select("Edit", list(KINDS), KIND, format_func=LABELS.__getitem__, help=help_text)


def where_widget(position: str) -> str:
    """Where it is made: a label, or empty for every position."""
    labels = {EVERYWHERE: EVERYWHERE, SELECTED: f"patch {position}" if "," in position else position}
    help_text = f"Every position, or the one that is selected above: {position}."
    at = url_widgets.segments("At", list(labels), AT, format_func=labels.__getitem__, help=help_text)
    return position if at == SELECTED else ""


def which_widget(head: Head, heads: Sequence[Head]) -> tuple[Head, ...]:
    """Which heads are edited together."""
    help_text = f"The open head is {head}; the set is below. What is edited is z, before W_O."
    which = url_widgets.segments("Edited", [OPEN_HEAD, SET], WHICH, help=help_text)
    return tuple(heads) if which == SET else (head,)


def compute_outcome(model_name: str, images: Mapping[str, Any], editing: Editing) -> wb.Outcome:
    """The classes' logits without and with the edits.

    Args:
        images: as `app.work.images.read_pair` takes them.

    Raises:
        WorkbenchError: as `workbench.run`.
    """
    source = json.dumps(images, sort_keys=True)
    plain = _run(model_name, source, editing.base, ()).logits
    return replace(_run(model_name, source, editing.base, editing.edits), plain=plain)


def compute_feature_change(model_name: str, images: Mapping[str, Any], editing: Editing) -> pd.DataFrame:
    """`workbench.feature_change` of the edits."""
    return _feature_change(model_name, json.dumps(images, sort_keys=True), editing.base, editing.edits)


@st.cache_resource(max_entries=64, show_spinner=False)
def _run(model_name: str, images: str, base: str, edits: tuple[Edit, ...]) -> wb.Outcome:
    model = models.load(model_name)
    pair = read_pair(json.loads(images), model)
    return wb.run(model, pair, edits, base=base, mean_over="positions", unedited=False)


@st.cache_resource(max_entries=64, show_spinner=False)
def _feature_change(model_name: str, images: str, base: str, edits: tuple[Edit, ...]) -> pd.DataFrame:
    model = models.load(model_name)
    return wb.feature_change(model, read_pair(json.loads(images), model), edits, base=base, mean_over="positions")


def class_chart(outcome: wb.Outcome, editing: Editing, source: Source) -> Chart:
    """Both distributions in one chart."""
    subtitle = f"{_counted(editing.heads)} edited in the {editing.base} image’s run"
    facts = {"base": f"{editing.base} image"}
    return classes_chart(outcome, "Classes before and after the edits", subtitle, editing.edits, source, facts)


def _counted(heads: Sequence[Head]) -> str:
    return f"Head {heads[0]}" if len(heads) == 1 else f"{len(heads)} heads"


def class_line(outcome: wb.Outcome, model: Any) -> str:
    """KL divergence, and the logit difference of the classes that a sweep compares."""
    answer, wrong = (model.output_names[ids[0][0]] for ids in (outcome.inputs.answer, outcome.inputs.wrong))
    before, after = (float(outcome.scores(base=base)[0]) for base in (True, False))
    difference = f"Logit of {answer} minus {wrong}: {printed(before, '.3f')} before, {printed(after, '.3f')} after"
    return f"KL(before ‖ after) {float(outcome.kl()[0]):z.3g} nats. {difference}. With one image there is no interval."


def source(view: View, images: Mapping[str, Any], editing: Editing) -> Source:
    """What the downloads name: both images, and what was edited."""
    corrupt = images.get("corrupt")
    edited = f"{editing.description()}, in the {editing.base} image’s run"
    if corrupt is None:
        return replace(view.source_of_all_heads, edited=edited)
    pair = read_pair(images, view.model)
    assert isinstance(pair, wb.ImagePairs)
    (other,) = pair.corrupt.pictures
    of = replace(view.source_of_all_heads, edited=f"{edited}; the corrupt image is {pair_description(corrupt)}")
    return replace(of, details=(("other image", named_image(other.name, other.sha256)),))


def answer_line(model_name: str, images: Mapping[str, Any], model: Any) -> str:
    """Which classes a metric of logits compares."""
    pair = _run(model_name, json.dumps(images, sort_keys=True), "clean", ()).inputs
    answer, wrong = (model.output_names[ids[0][0]] for ids in (pair.answer, pair.wrong))
    of_wrong = f"the corrupt image’s likeliest other than {answer}" if "corrupt" in images else "its second likeliest"
    return f"The answer is class {answer}, the open image’s likeliest; the wrong answer is class {wrong}, {of_wrong}."


def printed_change(table: pd.DataFrame) -> pd.DataFrame:
    """`workbench.feature_change` for the page: a row for each quantity."""
    rows = [
        {
            "quantity": f"{name} to the {row['to']} image’s",
            **{when: row[f"{name}_{when}"] for when in ("before", "after")},
        }
        for row in table.to_dict("records")
        for name in ("cosine", "distance")
    ]
    return pd.DataFrame(rows)


def change_download(table: pd.DataFrame, of: Source) -> None:
    """The numbers as CSV and JSON."""
    with st.container(horizontal=True):
        download_button("CSV", lambda: of.csv(table), "vision-edit.csv", "text/csv", key="edited-feature-csv")
        data = json.dumps({**of.fields(), "rows": jsonable(table.to_dict("records"))}, ensure_ascii=False).encode()
        download_button("JSON", data, "vision-edit.json", "application/json", key="edited-feature-json")
