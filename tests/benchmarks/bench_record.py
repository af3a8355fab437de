"""Recording z of every layer in memory against the plain Hugging Face forward on the same batches."""

from __future__ import annotations

from statistics import median

import torch

import workbench
from tests.benchmarks.subject import Settings, Subject, prompts_of
from tests.benchmarks.timing import Bar, Ratio, Result, Row, in_turns, seconds_of
from workbench.patching.batches import BATCH_SIZE

BAR = Bar(1.1, "≤")
N = 25
#: These runs are short, so each round holds several turns.
TURNS = 3


def run(subject: Subject, settings: Settings) -> list[Result]:
    return [record(subject, settings, name) for name in ("ioi", "colored_objects")]


def record(subject: Subject, settings: Settings, name: str) -> Result:
    model, hf = subject.model, subject.plain
    prompts = prompts_of(name, model.tokenizer, settings.prompts or N)
    inputs = prompts.pairs.inputs(model.tokenizer)  # both sides start from ids
    batches = [*prompts.clean.split(BATCH_SIZE), *prompts.corrupt.split(BATCH_SIZE)]

    def workbench_record() -> object:
        return workbench.record(model, inputs, sites=["z"], cache=False)

    @torch.no_grad()
    def plain() -> None:
        for batch in batches:
            hf(batch)

    @torch.no_grad()
    def without_logits() -> None:
        for batch in batches:
            hf.base_model(batch, use_cache=False)

    contestants = {
        "workbench": workbench_record,
        "plain forward": plain,
        "plain forward without logits": without_logits,
    }
    for warm_up in contestants.values():
        warm_up()
    measured = in_turns(
        {name: lambda work=work: seconds_of(work) for name, work in contestants.items()},
        settings.rounds * (1 if settings.quick else TURNS),
        f"record {name}",
    )
    rows = [Row("workbench, z of every layer", median(measured["workbench"]))]
    for rival, bar in (("plain forward", BAR), ("plain forward without logits", None)):
        rows.append(
            Row(f"  against the {rival}", median(measured[rival]), bar=bar,
                ratio=Ratio.within_rounds(measured["workbench"], measured[rival], "that"))
        )  # fmt: skip
    title = f"Recording z at {model.n_layers} layers, clean and corrupt: {len(prompts)} × {prompts.length} tokens"
    return Result(f"record/{name}", title, rows, [f"Batches of at most {BATCH_SIZE} prompts on both sides."], measured)
