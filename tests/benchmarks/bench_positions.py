"""An exact sweep over all heads × positions of the IOI prompts against TransformerLens."""

from __future__ import annotations

from itertools import product
from statistics import median

import numpy as np

import workbench
from tests.benchmarks import rivals
from tests.benchmarks.subject import Settings, Subject, prompts_of
from tests.benchmarks.timing import Bar, Ratio, Result, Row, chosen, in_turns, seconds_of, timed

BAR = Bar(40)


def run(subject: Subject, settings: Settings) -> list[Result]:
    model, bridge = subject.model, subject.bridge
    prompts = prompts_of("ioi", model.tokenizer, settings.prompts)
    first, length = prompts.first_difference, prompts.length
    everything = list(product(range(model.n_layers), range(model.n_heads), range(length)))
    live = [cell for cell in everything if cell[2] >= first]
    clean = rivals.transformer_lens_cache(bridge, prompts.clean)

    def sweep() -> workbench.Sweep:
        return workbench.sweep(model, prompts.pairs, site="z", by=("head", "position"), positions="all", cache=False)

    result = sweep()
    cells = chosen(everything, result.delta, settings.cells)
    expected = np.array([result.values[cell] for cell in cells])
    rivals.transformer_lens(bridge, clean, prompts, cells[:1])
    scores = {}
    measured = in_turns(
        {
            "workbench": lambda: seconds_of(sweep),
            "TransformerLens": timed(
                lambda: rivals.transformer_lens(bridge, clean, prompts, cells), scores, "TransformerLens"
            ),
        },
        settings.rounds,
        "positions",
    )
    whole = [s * len(everything) / len(cells) for s in measured["TransformerLens"]]
    lively = [s * len(live) / len(cells) for s in measured["TransformerLens"]]
    difference = float(np.abs(scores["TransformerLens"].numpy() - expected).max())
    rows = [
        Row("workbench", median(measured["workbench"]), cells=(len(everything), len(everything))),
        Row("TransformerLens", median(whole), bar=BAR, cells=(len(cells), len(everything)), difference=difference,
            ratio=Ratio.within_rounds(whole, measured["workbench"], "workbench")),
        Row("TransformerLens, leaving out the zero cells too", median(lively), cells=(len(cells), len(live)),
            ratio=Ratio.within_rounds(lively, measured["workbench"], "workbench")),
    ]  # fmt: skip
    notes = [
        f"Exactly zero and skipped: {result.info['skipped_cells']} of {result.values.size} (head, position, prompt) "
        f"cells, among them all before the first difference, at position {first}.",
        f"Largest effect among the {len(cells)} compared cells: {np.abs(expected - result.base).max():.3g} logits.",
    ]
    title = f"Sweep of z over {len(everything)} heads × positions: IOI, {len(prompts)} × {length} tokens"
    return [Result("positions", title, rows, notes, measured)]
