"""The second load of a model of the catalogue: weights converted before, imports done."""

from __future__ import annotations

from statistics import median

import workbench
from tests.benchmarks.subject import Settings, Subject
from tests.benchmarks.timing import Bar, Result, Row, in_turns, seconds_of

BAR = Bar(2, "≤")


def run(subject: Subject | None, settings: Settings) -> list[Result]:
    def load() -> object:
        return workbench.load(settings.model)

    load()  # fetches and converts what is not here yet, and imports
    measured = in_turns({"workbench.load": lambda: seconds_of(load)}, settings.rounds, "load")
    note = "Verifying the model, the tokeniser and the self-check of exact resumption included."
    row = Row("workbench.load", median(measured["workbench.load"]), bar=BAR)
    return [Result("load", f"Loading {settings.model} again, imports aside", [row], [note], measured)]
