"""Published heads, overlaps and values (``circuits/published.toml``), beside those measured on the same model only."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.core import Head
from workbench.errors import UsageError
from workbench.findings import Quantity

from .stages import Stages

COLUMNS = ("head", "published_role", "sure", "task", "stage", "effect", "rank", "of", "in_circuit", "n", "source")


@cache
def _all() -> Mapping[str, Any]:
    return tomllib.loads((Path(__file__).parent / "published.toml").read_text(encoding="utf-8"))


def models() -> tuple[str, ...]:
    """Models with published heads."""
    return tuple(_all())


def of_model(name: str) -> Mapping[str, Any] | None:
    """What was published for a model of that name (``gpt2-medium``, ``openai-community/gpt2-medium``), or None."""
    return _all().get(name.rsplit("/", 1)[-1])


def heads_beside(published: Mapping[str, Any], stages: Mapping[str, Stages], size: int) -> pd.DataFrame:
    """One row for each published head in each stage of each task it was published for: its measured effect and rank.

    `size` is the number of in-circuit heads of a stage; ``in_circuit`` says whether the head is among them.
    """
    rows = []
    entries = [
        (entry, Head.parse(text), task)
        for entry in published["heads"]
        for text in entry["heads"]
        for task in entry["tasks"]
    ]
    for entry, head, task in entries:
        for stage in stages[task].done.values() if task in stages else ():
            rank, of = rank_of(head, stage.sweep.ranking())
            rows.append(
                {
                    "head": str(head),
                    "published_role": entry["role"],
                    "sure": entry["sure"],
                    "task": task,
                    "stage": stage.name,
                    "effect": float("nan") if rank is None else float(stage.effect[head.layer, head.index]),
                    "rank": float("nan") if rank is None else rank,
                    "of": of,
                    "in_circuit": rank is not None and rank <= size,
                    "n": stage.sweep.n,
                    "source": entry.get("source", published["source"]),
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def overlaps_beside(published: Mapping[str, Any], overlaps: pd.DataFrame) -> pd.DataFrame:
    """The published overlaps, with the measured one of the same pair where there is one. Shares are shared ÷ union."""
    rows = []
    for entry in published.get("overlaps", ()):
        pair = {entry["task_a"], entry["task_b"]}
        rows_of_pair = [row for row in overlaps.to_dict("records") if {row["task_a"], row["task_b"]} == pair]
        measured = rows_of_pair[0] if rows_of_pair else {}
        rows.append(
            {
                "task_a": entry["task_a"],
                "task_b": entry["task_b"],
                "published": entry["share"],
                "sure": entry["sure"],
                "ours": measured.get("jaccard", float("nan")),
                "low": measured.get("low", float("nan")),
                "high": measured.get("high", float("nan")),
                "null_95": measured.get("null_95", float("nan")),
                "n": min(measured["n_a"], measured["n_b"]) if measured else 0,
                "published_n": published.get("n_prompts", np.nan),
                "note": entry.get("note", ""),
                "source": published["source"],
            }
        )
    return pd.DataFrame(rows)


def rank_of(head: Head, ranking: np.ndarray) -> tuple[int | None, int]:
    """Rank of a head (1 is the strongest) among the heads that send; None when it is no sender or does not exist."""
    of = int(np.isfinite(ranking).sum())
    inside = head.layer < ranking.shape[0] and head.index < ranking.shape[1]
    if not inside or not np.isfinite(ranking[head.layer, head.index]):
        return None, of
    return int((ranking > ranking[head.layer, head.index]).sum()) + 1, of


def in_words(heads: pd.DataFrame, overlaps: pd.DataFrame, published: Mapping[str, Any]) -> Sequence[str]:
    """Lines for the summary."""
    n = f", n = {published['n_prompts']}" if "n_prompts" in published else ""
    lines = [f"Beside the published circuit ({published['source']}{n})"]
    for head in dict.fromkeys(heads["head"]):
        rows = [row for row in heads.to_dict("records") if row["head"] == head]
        sending = [row for row in rows if np.isfinite(row["rank"])]
        where = "sends in no stage"
        if sending:
            best = min(sending, key=lambda row: row["rank"])
            where = f"rank {best['rank']:.0f} of {best['of']} in {best['task']}, {best['stage']}"
            where += " (in circuit)" if best["in_circuit"] else ""
        lines.append(f"  {head:>6}  {rows[0]['published_role']:<16}  {where}")
    for row in overlaps.to_dict("records"):
        measured = (
            "not computed"
            if not np.isfinite(row["ours"])
            else f"{Quantity(row['ours'], row['low'], row['high'])}, n = {row['n']}"
        )
        lines.append(f"  {row['task_a']} with {row['task_b']}: published {row['published']:.3g}, measured {measured}")
    return lines


def circuit(name: str, task: str) -> Mapping[str, list[Head]]:
    """Role → heads of the circuit that was published for a model's task.

    Raises:
        UsageError: none was.
    """
    entries = [e for e in (of_model(name) or {}).get("heads", ()) if task in e["tasks"]]
    if not entries:
        raise UsageError(f"No circuit of {task} is published for {name} in circuits/published.toml. Leave circuit out.")
    return {entry["role"]: [Head.parse(text) for text in entry["heads"]] for entry in entries}


def values_beside(name: str, finding: str, task: str, measured: Mapping[str, Quantity]) -> pd.DataFrame:
    """One row for each published value of a finding: beside it the measured one, with its interval, and whether that
    reaches into the published value's tolerance.

    Args:
        measured: by the name of the quantity.
    """
    known = of_model(name) or {}
    rows = []
    for entry in known.get("values", ()):
        if entry["finding"] != finding or entry.get("task", task) != task or entry["quantity"] not in measured:
            continue
        value, low, high = astuple(measured[entry["quantity"]])
        within = bool(low <= entry["value"] + entry["tolerance"] and high >= entry["value"] - entry["tolerance"])
        rows.append(
            {key: entry[key] for key in ("quantity", "value", "tolerance", "sure")}
            | {"ours": value, "low": low, "high": high, "within": within, "source": known["source"]}
        )
    return pd.DataFrame(rows)


def values_in_words(values: pd.DataFrame) -> list[str]:
    """Lines for the summary."""
    return [
        f"Published {row['quantity']} ({row['source']}{', not checked' if row['sure'] == 'memory' else ''}): "
        f"{row['value']:.3g} ± {row['tolerance']:.2g}; measured {Quantity(row['ours'], row['low'], row['high'])}, "
        f"{'within' if row['within'] else 'outside'}"
        for row in values.to_dict("records")
    ]
