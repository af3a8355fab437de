"""One table of every head's scores, with an empty cache, with none, and from a full one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import workbench
from tests.benchmarks.subject import Settings, Subject
from tests.benchmarks.timing import Bar, Ratio, Result, Row, in_turns, seconds_of

#: Seconds for the default model on two cores, its loading excluded.
BAR = 60
ROUNDS = 3


def run(subject: Subject, settings: Settings) -> list[Result]:
    model, rounds = subject.model, min(settings.rounds, ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        count = iter(range(rounds))

        def empty() -> float:
            own = Path(folder) / str(next(count))
            seconds = seconds_of(lambda: workbench.scores(model, cache=own))
            full.append(seconds_of(lambda: workbench.scores(model, cache=own)))
            return seconds

        full: list[float] = []
        measured = in_turns(
            {"empty": empty, "none": lambda: seconds_of(lambda: workbench.scores(model, cache=False))}, rounds, "scores"
        )
    rows = [
        Row("empty cache", median(measured["empty"]), bar=Bar(BAR, "≤")),
        Row("no cache", median(measured["none"])),
        Row("once more", median(full), ratio=Ratio.within_rounds(measured["empty"], full, "faster")),
    ]
    heads = f"{model.n_layers * model.n_heads} heads"
    notes = ["20 sequences of 50 random tokens repeated; IOI with n = 25; one random model of the same configuration."]
    return [Result("scores", f"Every score of {heads}, random-weight levels included", rows, notes, measured)]
