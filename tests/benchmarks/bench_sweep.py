"""An exact sweep over all heads against four other ways to the same numbers, and against the matrix-work limit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from statistics import median
from typing import Any

import numpy as np

import workbench
from tests.benchmarks import rivals
from tests.benchmarks.limit import Limit, matrix_work
from tests.benchmarks.subject import Prompts, Settings, Subject, prompts_of
from tests.benchmarks.timing import Bar, Ratio, Result, Row, chosen, in_turns, seconds_of, timed

TITLES = {"ioi": "IOI", "colored_objects": "Colored Objects"}
#: Against each rival, and against the limit.
BARS = {
    "ioi": {"TransformerLens": 9, "nnsight": 8, "torch hook": 8, "torch hook, last logits": 6, "limit": 1.3},
    "colored_objects": {
        "TransformerLens": 28,
        "nnsight": 20,
        "torch hook": 20,
        "torch hook, last logits": 16,
        "limit": 1.3,
    },
}


def run(subject: Subject, settings: Settings) -> list[Result]:
    return [sweep_against_rivals(subject, settings, name) for name in BARS]


def sweep_against_rivals(subject: Subject, settings: Settings, name: str) -> Result:
    """One prompt file: every rival on `settings.cells` heads, ours on all of them."""
    model = subject.model
    prompts = prompts_of(name, model.tokenizer, settings.prompts)
    everything = list(product(range(model.n_layers), range(model.n_heads)))
    contestants = _contestants(subject, prompts)

    result = workbench.sweep(model, prompts.pairs, site="z", by="head", cache=False)  # also warms up
    cells = chosen(everything, result.delta, settings.cells)
    expected = np.array([result.values[cell] for cell in cells])
    for score in contestants.values():
        score(cells[:1])
    scores: dict[str, Any] = {}
    measure = matrix_work(subject.plain, model.n_heads, prompts.length - prompts.first_difference, len(prompts))
    limits: list[Limit] = [measure()]

    def time_limit() -> float:
        limits.append(measure())
        return limits[-1].full

    measured = in_turns(
        {
            "workbench": lambda: seconds_of(
                lambda: workbench.sweep(model, prompts.pairs, site="z", by="head", cache=False)
            ),
            "limit": time_limit,
            **{rival: timed(lambda score=score: score(cells), scores, rival) for rival, score in contestants.items()},
        },
        settings.rounds,
        f"sweep {name}",
    )
    differences = {rival: float(np.abs(np.asarray(scores[rival]) - expected).max()) for rival in contestants}
    whole = {rival: [s * len(everything) / len(cells) for s in measured[rival]] for rival in contestants}
    return Result(
        f"sweep/{name}",
        f"Sweep of z over {len(everything)} heads: {TITLES[name]}, {len(prompts)} × {prompts.length} tokens, "
        f"first difference at {prompts.first_difference}",
        _rows(name, measured, whole, limits[1:], differences, (len(cells), len(everything))),
        _notes(result, expected, cells, limits),
        {**measured, "limit, tight": [limit.tight for limit in limits[1:]]},
    )


def _contestants(subject: Subject, prompts: Prompts) -> dict[str, Callable[[list[Any]], Any]]:
    """Rival → scores of some cells. What they read from the clean run is read beforehand and not timed."""
    lens = rivals.transformer_lens_cache(subject.bridge, prompts.clean)
    z = rivals.hooked_z(subject.plain, prompts.clean)
    return {
        "TransformerLens": lambda cells: rivals.transformer_lens(subject.bridge, lens, prompts, cells),
        "nnsight": lambda cells: rivals.nnsight(subject.traced, z, prompts, cells),
        "torch hook": lambda cells: rivals.torch_hook(subject.plain, z, prompts, cells),
        "torch hook, last logits": lambda cells: rivals.torch_hook(
            subject.plain, z, prompts, cells, last_logits_only=True
        ),
    }


def _rows(
    name: str,
    measured: dict[str, list[float]],
    whole: dict[str, list[float]],
    limits: list[Limit],
    differences: dict[str, float],
    counts: tuple[int, int],
) -> list[Row]:
    our_seconds = measured["workbench"]
    tight = [limit.tight for limit in limits]
    rows = [
        Row("workbench", median(our_seconds), cells=(counts[1], counts[1])),
        Row("  against the matrix-work limit", median(measured["limit"]), bar=Bar(BARS[name]["limit"], "≤"),
            ratio=Ratio.within_rounds(our_seconds, measured["limit"], "the limit")),
        Row("  against the tight limit", median(tight), ratio=Ratio.within_rounds(our_seconds, tight, "the limit")),
    ]  # fmt: skip
    for rival, seconds in whole.items():
        rows.append(
            Row(rival, median(seconds), bar=Bar(BARS[name][rival]), cells=counts, difference=differences[rival],
                ratio=Ratio.within_rounds(seconds, our_seconds, "workbench"))
        )  # fmt: skip
    return rows


def _notes(result: Any, expected: np.ndarray, cells: list[Any], limits: list[Limit]) -> list[str]:
    effect = np.abs(expected - result.base).max()
    rate = limits[-1].flop / limits[-1].full / 1e9
    return [
        f"Exactly zero and skipped: {result.info['skipped_cells']} of {result.values.size} (head, prompt) cells.",
        f"Largest effect among the {len(cells)} compared cells: {effect:.3g} logits.",
        f"Limit: {limits[-1].flop / 1e12:.3g} TFLOP of q, k, v, o, gate, up and down alone, at {rate:.0f} GFLOP/s.",
        "Tight limit: in the last layer only keys and values at every position, the rest at the answer's.",
        "The workbench's time holds tokenisation, base and source runs and the result; the rivals' only their loops.",
    ]
