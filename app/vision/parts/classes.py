"""The classes that the model finds likeliest."""

import numpy as np
import streamlit as st

from app.downloadable import Chart, show_chart
from app.part import LEFT, Part
from app.vision.on_image import classes
from app.vision.view import View

#: Classes that are shown; the downloads have as many.
MOST = 10


def render(view: View) -> None:
    """The part."""
    if view.model.outputs_are != "logits":
        st.caption("This model has no classes: it gives a feature.")
        return
    every = classes(view)
    names, values = [name for name, _ in every[:MOST]], np.array([value for _, value in every[:MOST]])
    none = np.full(len(values), np.nan)
    which = f"The likeliest {len(names)} of {len(every):,} classes" if len(every) > len(names) else "All classes"
    options = {
        "title": f"Classes of {view.images.pictures[0].name}",
        "subtitle": f"{which}, without any edit.",
        "scale": "probability",
        "x_title": "class",
        "bar_name": "probability",
    }
    chart = Chart("bars", (values, none, none), (names,), options, source=view.source_of_all_heads)
    show_chart(chart, "image-classes", "vision-classes")


HELP = "**Classes** are the model's probabilities of its classes (the softmax of its logits)."
part = Part("classes", 20, LEFT, render, ("vision",), HELP)
