"""Random cases compared with plain hooks: ``python -m tests.families.random_check`` goes through many of them."""

from __future__ import annotations

import argparse
import random
import time
import warnings
from collections import Counter
from dataclasses import replace
from typing import Any

import torch
import transformers
from hypothesis import HealthCheck, Phase, given, seed, settings

import workbench as wb
from tests.families import paired
from tests.families.adapters import ADAPTERS
from tests.families.cell import TOLERANCE, Cell, Comparison, workbench_call
from tests.families.columns import HEAD_SITES
from tests.families.paths import Path
from tests.families.random_cases import TRAITS, Case, cases
from tests.families.random_not_yet import is_not_yet
from tests.families.scoring import ATTRIBUTION, require_present
from tests.families.subject import Subject, measured, rows_of, some_of
from tests.families.tiny import one_line
from tests.oracle.plain_attribution import PlainAttribution
from tests.oracle.plain_decoder import NoOracle
from workbench.core import Head
from workbench.inputs.paired import PairedInputs

#: Sweeps in bfloat16 may be that many times as far from full bfloat16 forwards as these are from float32.
HALF_ERRORS = 4.0


def check(case: Case) -> Cell:
    """The cell of a case: exact, stated, unchecked or wrong."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        subject = _Subject(case)
        try:
            subject.hf(subject.inputs.clean[0][None], use_cache=False)
        except Exception as error:
            return Cell("unchecked", f"its own forward fails: {one_line(error)}")
        compare = {"sweep": _sweep, "record": _record, "path_patch": _path_patch, "scores": _scores}[case.call]
        return measured(lambda _: compare(subject, case), subject)


class _Subject(Subject):
    """A subject with an adapter and prompts of its own."""

    def __init__(self, case: Case, dtype: torch.dtype | None = None) -> None:
        super().__init__(
            case.configuration, getattr(torch, case.dtype) if dtype is None else dtype, ADAPTERS[case.adapter]
        )
        self.case = case
        base = paired(case.prompts, lengths=case.configuration.lengths, seed=case.seed)
        corrupt = []
        draw = random.Random(case.seed)
        for clean, named in zip(base.clean, base.positions, strict=True):
            ids = clean.clone()
            for position in {named["S"], draw.randrange(named["S"], len(ids))}:
                ids[position] = (ids[position] + draw.randrange(1, 90)) % 101
            corrupt.append(ids)
        self.prompts = replace(base, corrupt=tuple(corrupt))

    @property
    def inputs(self) -> PairedInputs:  # pyright: ignore[reportIncompatibleVariableOverride] - a cached property there
        return self.prompts


def _sweep(subject: _Subject, case: Case) -> Cell:
    arguments = dict(case.arguments)
    site, by, direction = arguments["site"], arguments["by"], arguments["direction"]
    if arguments["edit"] != "patch":
        arguments["direction"] = direction = "noise"
    inputs = subject.inputs
    denoise = direction == "denoise"
    bases, sources = (inputs.corrupt, inputs.clean) if denoise else (inputs.clean, inputs.corrupt)
    if "position" in by:  # every position, of prompts of one length
        length = len(inputs.clean[0])
        chosen = [i for i, ids in enumerate(inputs.clean) if len(ids) == length]
    else:
        chosen = list(range(len(inputs)))
    batch = some_of(inputs, chosen)
    with workbench_call():
        positions = "all" if "position" in by else None
        result = wb.sweep(subject.model, batch, **arguments, positions=positions, cache=False)
    plain, comparison, draw = subject.plain, Comparison(), random.Random(case.seed)
    exact = _Subject(case, torch.float32) if case.dtype == "bfloat16" else subject
    own_error = 0.0
    layers = plain.layers if site in HEAD_SITES else list(range(plain.n_layers))
    rows, plain_site = rows_of(result, layers), subject.plain_site(site)
    for _ in range(12):
        column = draw.randrange(len(chosen))
        example, number = chosen[column], draw.randrange(len(layers))
        sizes = dict(zip(result.axes, result.values.shape, strict=False))
        head = (
            draw.randrange(sizes.get("head", sizes.get("kv_head", 1)))
            if len({"head", "kv_head"} & set(sizes))
            else None
        )
        position = draw.randrange(sizes["position"]) if "position" in sizes else None
        values = []
        for side in (subject, exact):
            new = _values(side, arguments["edit"], sources[example], plain_site, layers[number])
            index = (slice(None) if position is None else position, *(() if head is None else (head,)))

            def change(x: Any, new: Any = new, index: Any = index) -> None:
                x[index] = 0 if new is None else new[index]

            values.append(side.plain_score(bases[example], example, {(plain_site, layers[number]): change}))
        base = subject.plain_score(bases[example], example)
        own_error = max(own_error, abs(values[0] - values[1]))
        index = tuple(i for i in (rows[number], head, position) if i is not None)
        comparison.add(result.values[(*index, column)], values[0], base)
    tolerance = HALF_ERRORS * own_error + 1e-3 if case.dtype == "bfloat16" else TOLERANCE
    return _judged(comparison, tolerance)


def _values(side: Subject, edit: str, source: Any, site: str, layer: int) -> Any:
    return None if edit == "zero" else side.plain.read(source, site, layer)[0]


def _record(subject: _Subject, case: Case) -> Cell:
    site = case.arguments["sites"][0]
    comparison, plain = Comparison(relative=True), subject.plain
    with workbench_call():
        recording = wb.record(subject.model, subject.inputs, [site], cache=False)
        runs: Any = [recording.clean, recording.corrupt]
        own = [[run[site][i] for i in range(len(subject.inputs))] for run in runs]
    layers = plain.layers if site in HEAD_SITES else list(range(plain.n_layers))
    for prompts, activations in zip((subject.inputs.clean, subject.inputs.corrupt), own, strict=True):
        for ids, activation in zip(prompts, activations, strict=True):
            for row, oracle in zip(layers, plain.read(ids, subject.plain_site(site), *layers), strict=True):
                row = row if len(activation) == plain.n_layers else layers.index(row)
                comparison.add(activation[row], oracle.transpose(0, 1) if site == "pattern" else oracle)
    return comparison.cell()


def _path_patch(subject: _Subject, case: Case) -> Cell:
    plain, inputs, draw = subject.plain, subject.inputs, random.Random(case.seed)
    arguments = dict(case.arguments)
    into, everywhere = arguments["into"], arguments["freeze"] == "all"
    top = plain.layers[-1]
    receivers = None if into is None else [Head(top, draw.randrange(plain.n_heads))]
    shared: dict[str, Any] = {"share_kv": True} if into in ("k", "v") else {}
    with workbench_call():
        result = wb.path_patch(subject.model, inputs, receivers, **arguments, **shared, cache=False)
    bases, sources = inputs.clean, inputs.corrupt
    if arguments["direction"] == "denoise":
        bases, sources = sources, bases
    rows = dict(zip(plain.layers, rows_of(result, plain.layers), strict=True))
    comparison = Comparison()
    for _ in range(8):
        example = draw.randrange(len(inputs))
        layer, head = draw.choice(plain.layers if into is None else plain.layers[:-1]), draw.randrange(plain.n_heads)
        at = inputs.positions[example][arguments["position"]]
        path = Path(subject, example, (bases[example], sources[example]), at, everywhere, receivers or [], into)
        base = subject.plain_score(bases[example], example)
        comparison.add(result.values[rows[layer], head, example], path.score(layer, head), base)
    return comparison.cell()


def _scores(subject: _Subject, case: Case) -> Cell:
    comparison, plain = Comparison(), subject.plain
    with workbench_call():
        scores = wb.scores_on(subject.model, subject.inputs, cache=False)
        own = scores.samples[ATTRIBUTION]
    require_present(scores, ATTRIBUTION)
    example = case.seed % len(subject.inputs)
    heads, _, total = PlainAttribution(plain).heads(
        subject.inputs.clean[example], lambda logits: subject.metric(logits, example)
    )
    if abs(float(heads.sum()) - total) > 1e-3 * max(1.0, abs(total)):
        raise NoOracle("what heads add to the logits is no sum")
    comparison.add(own[example][plain.layers], heads)
    return comparison.cell()


def _judged(comparison: Comparison, tolerance: float) -> Cell:
    state = "wrong" if comparison.difference > tolerance else "exact"
    return Cell(state, f"tolerance {tolerance:.0e}", comparison.difference, comparison.effect)


# --- many cases -------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.families.random_check", description=__doc__)
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="also cases that are known to be wrong")
    parser.add_argument("--types", default="", metavar="TYPES", help="model types, separated by commas")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    start = time.monotonic()
    types = tuple(name for name in arguments.types.split(",") if name) or tuple(TRAITS)

    @seed(arguments.seed)
    @settings(
        max_examples=arguments.examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(case=cases(types))
    def run(case: Case) -> None:
        if is_not_yet(case) and not arguments.all:
            counts["known"] += 1
            return
        cell = check(case)
        counts[cell.state] += 1
        if cell.state == "wrong":
            print(f"WRONG {cell.difference} of {cell.effect} {cell.text}\n  {case}", flush=True)
        elif cell.text.startswith("the oracle fails"):
            print(f"{cell.text}\n  {case}", flush=True)

    run()
    print(f"{dict(counts)}, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
