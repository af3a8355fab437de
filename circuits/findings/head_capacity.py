"""How many pairs could the heads of a trained model hold apart, and do heads with a known role hold more?

The keys of every key/value head are recorded on texts, as attention receives them, and read as an associative memory
of one text (`probes.head_memory`). Their participation ratio PR says how many directions they use; with values at
random a Hebbian memory of n such pairs errs by n / PR − 1. All keys of a head share one direction, which a softmax over
sources does not see: centred keys are the main measure, and keys as they are say what the head would have if it were
linear. The same is measured with random values, with the head's own values, and with a softmax read.

Roles (`circuits.kv_heads.roles`) are compared with the other key/value heads of the same layers at the same
share of attention to the first position (`circuits.kv_heads.matched`). What the claim says was first seen on
speeches, with the default model; it is tested on a novel. Control: heads drawn within the layers.

Tables: ``key_value_heads`` (one row per key/value head and set of texts), ``roles`` (one row per role, way of reading
and set of texts; errors of ``law`` are predicted, those of ``real`` are with the head's own values), ``summary``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

import workbench as wb
from workbench import statistics
from workbench.errors import UsageError
from workbench.findings import Finding, NotJudged, Quantity, Report, Study, Threshold, judge, summary_table
from workbench.findings.report import Judgement
from workbench.registry import imported

from ..kv_heads import comparison, figures
from ..kv_heads.matched import DRAWS, layers_together
from ..kv_heads.measure import Measured, measure
from ..kv_heads.roles import ROLES, roles_of

passages = imported("data.texts").passages
cut_texts = imported("probes.head_memory.recorded").cut_texts

#: What the claim is about.
ROLE, ERROR = "previous-token", "real_centred"
#: Prompts of the scores that give the movers.
PROMPTS = 25


def run(study: Study) -> Report:
    """Settings: n: texts of each set. tokens: of each text. texts: the sets, the last of which is tested. seed: of
    random values, permutations and prompts."""
    model, sets, n = study.model, study.settings["texts"], study.n
    try:
        inputs = {name: cut_texts(model, passages(name, n), study.settings["tokens"]) for name in sets}
    except UsageError as error:
        raise NotJudged(str(error).rstrip(".")) from error
    pairs = study.pairs("ioi", PROMPTS)
    scores = wb.scores(model, pairs, seed=study.seed, random_baseline=False, progress=study.step("head scores"))
    roles = roles_of(scores, model.n_kv_heads)
    measured = [measure(study, name, texts, study.seed) for name, texts in inputs.items()]
    compared = comparison.compare(measured, roles, study.seed)
    tested, title = measured[-1], f"{study.model_name} · {sets[-1]}, n = {n}"
    tables = {
        "key_value_heads": pd.concat([one.table().assign(**_marks(roles)) for one in measured], ignore_index=True),
        "roles": comparison.table(compared, n),
        "summary": summary_table(_numbers(tested, compared), n),
    }
    return study.report(
        _judgement(compared, sets[-1]),
        _lines(measured, compared, roles),
        tables={name: frame for name, frame in tables.items() if len(frame)},
        charts=_charts(tested, compared, title),
        data={**inputs, "ioi": pairs},
    )


def _judgement(compared: Sequence[comparison.Compared], texts: str) -> Judgement:
    claimed = [one for one in compared if (one.role, one.error, one.texts) == (ROLE, ERROR, texts)]
    if not claimed or not np.isfinite(claimed[0].matched.advantage.value):
        return Judgement("not judged", f"too few {ROLE} heads have other key/value heads in their layer")
    exceeded = Quantity.exact(1 - claimed[0].p_corrected)
    return judge(finding.thresholds, advantage=claimed[0].matched.advantage, control=exceeded)


def _marks(roles: comparison.Roles) -> dict[str, np.ndarray]:
    return {f"is_{role.replace('-', '_')}": has.ravel() for role, has in roles.items()}


def _numbers(tested: Measured, compared: Sequence[comparison.Compared]) -> dict[str, Quantity | float | str]:
    """The main numbers: medians over heads, how well the law predicts, and the claim's advantage."""
    ratio = {kind: tested.geometry.participation_ratio(kind).mean(0) for kind in ("centred", "uncentred")}
    law = tested.log_error("law_centred")
    rank = statistics.spearman(law, tested.log_error("real_centred"))
    numbers: dict[str, Any] = {
        "participation ratio of centred keys, median over heads": float(np.median(ratio["centred"])),
        "participation ratio of keys as they are, median": float(np.median(ratio["uncentred"])),
        "entropy rank of centred keys, median": float(np.median(tested.geometry.entropy_rank().mean(0))),
        "largest gap of prediction and random values (share)": _largest_gap(tested),
        "rank correlation of prediction and own values": Quantity(rank.rho, rank.low, rank.high),
    }
    for one in compared:
        if (one.error, one.texts) == (ERROR, tested.name) and one.verdict != "not tested":
            numbers[f"advantage of {one.role} heads"] = one.matched.advantage
    return numbers


def _largest_gap(measured: Measured) -> float:
    ratio = measured.errors["random_centred"].mean(0) / measured.errors["law_centred"].mean(0)
    return float(np.abs(ratio - 1).max())


def _lines(measured: Sequence[Measured], compared: Sequence[comparison.Compared], roles: comparison.Roles) -> list[str]:
    tested = measured[-1]
    heads = {role: [f"{i}.kv{j}" for i, j in np.argwhere(has)] for role, has in roles.items()}
    numbers = _numbers(tested, compared)
    lines = [f"Texts: {', '.join(f'{one.name} ({one.inputs.clean[0].shape[0]} tokens each)' for one in measured)}.", ""]
    lines += [f"{role} heads: {', '.join(heads[role]) or 'none'}" for role in ROLES]
    if (together := layers_together(tested.sink.shape[1])) > 1:
        lines.append(f"A layer has too few key/value heads: {together} neighbouring layers are taken for one.")
    lines += ["", f"On {tested.name}, over {tested.sink.size} key/value heads"]
    lines += [
        f"  {name}: {value if isinstance(value, Quantity) else format(float(value), '.3g')}"
        for name, value in numbers.items()
    ]
    for one in measured:
        lines += ["", f"Advantage of each role by way of reading, on {one.name} (p corrected over the roles)"]
        lines += comparison.in_words(compared, one.name)
    return lines


def _charts(tested: Measured, compared: Sequence[comparison.Compared], title: str) -> dict[str, Any]:
    charts: dict[str, Any] = {
        "participation_ratio": figures.participation(tested, title),
        "spectrum": figures.spectrum(tested, title),
        "random_values": figures.with_random_values(tested, title),
        "own_values": figures.with_own_values(tested, title),
    }
    if any(one.verdict != "not tested" for one in compared):
        charts["roles"] = figures.roles(compared, tested.name, title)
    return charts


finding = Finding(
    name="head-capacity",
    title="How many pairs a head could hold apart",
    question="How many pairs could each head hold apart, and do heads with a known role hold more?",
    claim=(
        "Previous-token heads read their own values with less interference than the other key/value heads of their "
        "layers, at the same share of attention to the first position."
    ),
    thresholds={
        "advantage": Threshold(
            "advantage of previous-token heads (difference of ln squared error)",
            above=0,
            detail="over the other key/value heads of their layers at the same sink share; keys and values centred; on "
            "the last set of texts; interval corrected for the number of roles",
        ),
        "control": Threshold(
            "share of draws of other heads of the same layers that have less of an advantage",
            above=1 - comparison.ALPHA,
            refuted_by="value",
            detail=f"one-sided, {DRAWS} permutations, corrected over the roles (Holm)",
        ),
    },
    run=run,
    defaults={"n": 12, "tokens": 256, "texts": ("speeches", "novel"), "seed": 0},
    full={"n": 24},
    source="Roy & Vetterli, EUSIPCO 2007 (effective rank); Qiao 2025, arXiv 2508.08289 (attention as Hebbian memory)",
    tasks=("ioi",),
)
