"""One path-patching stage over all senders against the published procedure, run on TransformerLens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from statistics import median

import numpy as np

import workbench
from tests.benchmarks import rivals
from tests.benchmarks.subject import Settings, Subject, prompts_of
from tests.benchmarks.timing import Bar, Ratio, Result, Row, in_turns, sample_cells, seconds_of, timed
from workbench.core import Head

BAR = Bar(60)
#: How many heads of the first stage receive in the second: 2 % of 270.
RECEIVERS = 5


def run(subject: Subject, settings: Settings) -> list[Result]:
    """Heads → logits, and heads → queries of the strongest heads of that."""
    logits = stage(subject, settings, None)
    prompts = prompts_of("ioi", subject.model.tokenizer, settings.prompts)
    effect = np.abs(workbench.path_patch(subject.model, prompts.pairs, cache=False).delta.mean(-1))
    effect[0] = 0  # below layer 0 there is no sender
    strongest = np.argsort(-effect, axis=None)[:RECEIVERS]
    movers = [Head(int(i) // subject.model.n_heads, int(i) % subject.model.n_heads) for i in strongest]
    return [logits, stage(subject, settings, movers)]


def stage(subject: Subject, settings: Settings, receivers: Sequence[Head] | None) -> Result:
    model, bridge = subject.model, subject.bridge
    prompts = prompts_of("ioi", model.tokenizer, settings.prompts)
    top = model.n_layers if receivers is None else max(head.layer for head in receivers)
    senders = list(product(range(top), range(model.n_heads)))
    clean = rivals.transformer_lens_cache(bridge, prompts.clean)
    corrupt = rivals.transformer_lens_cache(bridge, prompts.corrupt)
    into = None if receivers is None else [(head.layer, head.index) for head in receivers]

    def workbench_patch() -> workbench.Sweep:
        return workbench.path_patch(model, prompts.pairs, receivers, cache=False)

    def rival_patch(lean: bool) -> Callable[[list[rivals.Cell]], np.ndarray]:
        return lambda of: rivals.published_path_patching(bridge, clean, corrupt, prompts, of, into, lean).numpy()

    result = workbench_patch()
    cells = sample_cells(senders, result.delta, settings.cells)
    expected = np.array([result.values[cell] for cell in cells])
    contestants = {"published procedure": rival_patch(lean=False), "the same without waste": rival_patch(lean=True)}
    for score in contestants.values():
        score(cells[:1])
    scores: dict[str, np.ndarray] = {}
    measured = in_turns(
        {
            "workbench": lambda: seconds_of(workbench_patch),
            **{name: timed(lambda score=score: score(cells), scores, name) for name, score in contestants.items()},
        },
        settings.rounds,
        "path",
    )
    rows = [Row("workbench", median(measured["workbench"]), cells=(len(senders), len(senders)))]
    for name in contestants:
        full = [s * len(senders) / len(cells) for s in measured[name]]
        bar = BAR if name == "published procedure" else None
        difference = float(np.abs(scores[name] - expected).max())
        rows.append(
            Row(name, median(full), bar=bar, cells=(len(cells), len(senders)), difference=difference,
                ratio=Ratio.within_rounds(full, measured["workbench"], "workbench"))
        )  # fmt: skip
    target = "the logits" if receivers is None else f"the queries of {', '.join(map(str, receivers))}"
    pairs = len(senders) * len(prompts)
    notes = [
        f"Largest effect among the {len(cells)} compared senders: {np.abs(expected - result.base).max():.3g} logits.",
        f"Exactly zero and skipped: {result.info['skipped_cells']} of {pairs} sender × prompt cells.",
        "Published: a freezing hook for every head and a full cache in the first of a sender's two runs.",
        "Without waste: one freezing hook a layer, and only the receivers' inputs cached.",
    ]
    title = f"Path patching, {len(senders)} senders → {target}: IOI, {len(prompts)} × {prompts.length} tokens"
    return Result(f"path/{'logits' if receivers is None else 'queries'}", title, rows, notes, measured)
