"""What metrics read of a sample: its pixels, or the classes that a classifier gives it."""

from __future__ import annotations

import json
from typing import Any

from app import models, url_widgets
from workbench.models import catalog
from workbench.registry import ROOT

READOUT = "sample-readout"
PIXELS = "pixels"
HELP = "What metrics read of the finished sample: its pixels, or the classes that one of these classifiers gives it."


def readout_widget(model: Any) -> str:
    """The list; the name of a classifier, or an empty text for pixels."""
    options = [PIXELS, *classifiers(model)]
    chosen = url_widgets.select("Metrics read", options, READOUT, format_func=_label, help=HELP)
    return "" if chosen == PIXELS else chosen


def classifiers(model: Any) -> list[str]:
    """The workbench's own classifiers that take the model's images and have as many classes."""
    config = model.hf.config
    fitting = (config.image_shape, config.n_classes)
    entries = catalog.entries().values()
    return [x.name for x in entries if x.source == "bundled" and x.modality == "vision" and _takes(x.path) == fitting]


def _takes(path: str) -> tuple[tuple[int, int, int], int]:
    """The shape of images that a classifier in a folder takes, and its classes, as its configuration has them."""
    config = json.loads((ROOT / path / "config.json").read_text(encoding="utf-8"))
    size = config["image_size"]
    return (config["num_channels"], size, size), len(config.get("id2label") or {})


def weights_of(readout: str) -> str | None:
    """The hash of a classifier's weights."""
    return str(models.load(readout).provenance.get("sha256")) if readout else None


def _label(option: str) -> str:
    return "the image’s pixels" if option == PIXELS else f"classes by {option}"
