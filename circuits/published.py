"""Published heads, overlaps and values (``circuits/published.toml``), beside ours for the same model and no other."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.core import Head
from workbench.errors import UsageError

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


def heads_beside(published: Mapping[str, Any], found: Mapping[str, Stages], kept: int) -> pd.DataFrame:
    """One row for each published head in each stage of each task it was published for: its effect and rank here.

    `kept` is the number of heads a stage keeps; ``in_circuit`` says whether the head is among them.
    """
    rows = []
    wanted = [
        (entry, Head.parse(text), task)
        for entry in published["heads"]
        for text in entry["heads"]
        for task in entry["tasks"]
    ]
    for entry, head, task in wanted:
        for stage in found[task].done.values() if task in found else ():
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
                    "in_circuit": rank is not None and rank <= kept,
                    "n": stage.sweep.n,
                    "source": entry.get("source", published["source"]),
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def overlaps_beside(published: Mapping[str, Any], overlaps: pd.DataFrame) -> pd.DataFrame:
    """The published overlaps, with ours for the same pair where it was computed. Shares are shared ÷ union."""
    rows = []
    for entry in published.get("overlaps", ()):
        pair = {entry["task_a"], entry["task_b"]}
        mine = [row for row in overlaps.to_dict("records") if {row["task_a"], row["task_b"]} == pair]
        ours = mine[0] if mine else {}
        rows.append(
            {
                "task_a": entry["task_a"],
                "task_b": entry["task_b"],
                "published": entry["share"],
                "sure": entry["sure"],
                "ours": ours.get("jaccard", float("nan")),
                "low": ours.get("low", float("nan")),
                "high": ours.get("high", float("nan")),
                "null_95": ours.get("null_95", float("nan")),
                "n": min(ours["n_a"], ours["n_b"]) if ours else 0,
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
        where = "no sender here"
        if sending:
            best = min(sending, key=lambda row: row["rank"])
            where = f"rank {best['rank']:.0f} of {best['of']} in {best['task']}, {best['stage']}"
            where += " (in circuit)" if best["in_circuit"] else ""
        lines.append(f"  {head:>6}  {rows[0]['published_role']:<16}  {where}")
    for row in overlaps.to_dict("records"):
        ours = (
            "not computed"
            if not np.isfinite(row["ours"])
            else f"{row['ours']:.2f} [{row['low']:.2f}, {row['high']:.2f}], n = {row['n']}"
        )
        lines.append(f"  {row['task_a']} with {row['task_b']}: published {row['published']:.3g}, here {ours}")
    return lines


def circuit(name: str, task: str) -> Mapping[str, list[Head]]:
    """Role → heads of the circuit that was published for a model's task.

    Raises:
        UsageError: none was.
    """
    entries = [e for e in (of_model(name) or {}).get("heads", ()) if task in e["tasks"]]
    if not entries:
        raise UsageError(f"No circuit of {task} was published for {name} that is known here: leave circuit out.")
    return {entry["role"]: [Head.parse(text) for text in entry["heads"]] for entry in entries}


def values_beside(name: str, finding: str, task: str, ours: Mapping[str, tuple[float, float, float]]) -> pd.DataFrame:
    """One row for each published value of a finding: beside it ours, with its interval, and whether that reaches into
    the published value's tolerance.

    Args:
        ours: quantity → value, lower and upper end.
    """
    known = of_model(name) or {}
    rows = []
    for entry in known.get("values", ()):
        if entry["finding"] != finding or entry.get("task", task) != task or entry["quantity"] not in ours:
            continue
        value, low, high = ours[entry["quantity"]]
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
        f"{row['value']:.3g} ± {row['tolerance']:.2g}; here {row['ours']:.2f} [{row['low']:.2f}, {row['high']:.2f}], "
        f"{'within' if row['within'] else 'outside'}"
        for row in values.to_dict("records")
    ]
