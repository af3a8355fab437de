"""How many pairs does an associative memory hold, and do closed forms say so?

Random keys and values of length one are written into a memory and read with the stored keys, in many trials; each mean
over trials is compared with a closed form. Mean-square error and cosine at loads from d/8 to 4 d: the Hebbian memory
(its worst case and its sign error, too), the memory with decay, the delta rule with and without a gate, the
pseudo-inverse, and softmax (judged from 64 pairs on, because its law needs many). Mean-square error of noise in the
query, of chains of memories, of several heads, with an outlier value and with correlated keys. No model is needed.

A point's bar is the larger of 2 % of the law and three standard errors, and every point has to lie within its bar. A
point whose bar is 2 % hardly ever fails by chance; how many points would, were every law exact, is printed for all of
them together, and nothing else is done about their number. Up to 16 pairs there are ten times as many trials.

Three criteria give three capacities of the Hebbian memory. For each of them the number of pairs at which it reaches its
limit is measured at several d, and the exponents of d are compared. What has an approximate law or none (the pairs up
to a worst case, argmax, the sign error by a normal distribution, a rule that limits errors, the delta rule with
correlated keys) is compared with another simulation, made in numpy before this one, whose own error is part of the bar;
the gap of the law is printed without a verdict.

Controls: every section begins where nothing is varied (one layer, one head, a value of length one, random keys), and a
memory that reads 0 has an error of 1. Tables: ``laws`` (one row per point), ``criteria``, ``simulation``, ``summary``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd

from workbench.findings import Finding, Report, Study, summary_table

from ..capacity import agreement, criteria, figures, measure, words
from ..capacity.points import Row
from ..capacity.verdict import SIMULATION, THRESHOLDS, decide, judged, widest_bar


def run(study: Study) -> Report:
    """Settings: n: trials of a point; ten times as many where one is small, up to 40 where it has hundreds of items.
    seed: of all draws. dims: dimensions of keys and values of the rules' curves. criteria_dims: of the worst case and
    the mean square. argmax_dims: of the argmax."""
    settings, n, seed = study.settings, study.n, study.seed
    sections: dict[str, Callable[[], Iterator[Row]]] = {
        "the error of every rule": lambda: measure.curves(settings["dims"], n, seed),
        "noise, depth, width and heads": lambda: measure.propagation(n, seed),
        "an outlier value": lambda: measure.outliers(n, seed),
        "correlated keys": lambda: measure.correlated_keys(n, seed),
        "another simulation": lambda: agreement.rows(n, seed),
    }
    rows: list[Row] = []
    for done, (label, section) in enumerate(sections.items()):
        study.progress(done, len(sections) + 1, label)
        rows += section()
    study.progress(len(sections), len(sections) + 1, "three criteria")
    measured = list(criteria.capacities(settings["criteria_dims"], settings["argmax_dims"], n, seed))
    exponents = criteria.exponents(measured)
    laws = pd.DataFrame(row for row in rows if row["family"] != SIMULATION)
    simulation = pd.DataFrame(row for row in rows if row["family"] == SIMULATION)
    largest = max(judged(rows), key=lambda row: row["in_bars"])
    by_error, chance = words.by_chance(rows)
    return study.report(
        decide(rows, exponents),
        words.in_words(rows, measured, exponents),
        tables={
            "laws": laws.rename(columns={"expected": "law"}),
            "criteria": criteria.table(measured),
            "simulation": simulation.drop(columns=["by_chance", "judged"]).rename(
                columns={"expected": "other_simulation"}
            ),
            "summary": summary_table(
                {
                    "points judged": len(judged(rows)),
                    f"largest gap, in bars: {largest['rule']}, {largest['criterion']}": largest["in_bars"],
                    "points with a bar of three standard errors": by_error,
                    "points beyond their bars by chance, were every law exact": chance,
                    "widest bar, as a share of the law": widest_bar(rows).value,
                    **{f"exponent of d, {words.CRITERIA[name]}": value for name, value in exponents.items()},
                },
                n,
            ),
        },
        charts={
            "load": figures.load(rows, settings["dims"][-1]),
            "criteria": figures.criteria(measured),
            "depth": figures.depth(rows),
            "heads": figures.heads(rows),
            "outlier": figures.outlier(rows),
            "correlated-keys": figures.correlated(rows),
        },
    )


finding = Finding(
    name="associative-capacity",
    title="How much an associative memory holds",
    question="How many pairs does an associative memory hold, and do closed forms say so?",
    claim=(
        "Simulated memories err as the closed forms say, through load, depth, width and heads, with an outlier value "
        "and with correlated keys; and the pairs that a Hebbian memory holds grow with d more slowly in the worst case "
        "(√d) than in mean square (d), and faster by argmax (d² / log n)."
    ),
    thresholds=THRESHOLDS,
    run=run,
    # 200 trials took less than a minute on two cores.
    defaults={
        "n": 200,
        "seed": 0,
        "dims": (64,),
        "criteria_dims": (16, 64, 256, 1024),
        "argmax_dims": (16, 32, 64, 128),
    },
    full={"n": 1000, "dims": (16, 64, 256), "argmax_dims": (16, 32, 64, 128, 256)},
    needs_model=False,
    source="Qiao 2025, arXiv 2508.08289, whose three capacities it tests with laws of its own",
)
