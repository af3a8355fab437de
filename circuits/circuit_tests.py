"""The three tests of a circuit (Wang et al., ICLR 2023, arXiv 2211.00593, section 4), from one sweep over head sets.

``F(S)`` is the mean logit difference when only the heads S are left, all others set to their means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from workbench.core import Head
from workbench.findings import Quantity
from workbench.plotting.charts import Bars
from workbench.plotting.quantity import number
from workbench.results.sweep import Sweep

from .circuit_source import Roles
from .distinct import how_many_halves, random_halves, random_like

ALL, NONE, CIRCUIT, RANDOM = "all heads", "no heads", "circuit", "random circuit"
HALF = "random half"


@dataclass(frozen=True)
class CircuitTests:
    """What the sets of `tested_sets` measured, as shares of ``F(all) − F(∅)``.

    Attributes:
        roles: role → heads of the circuit.
        values: name of a set → the logit difference of each prompt with only that set left.
    """

    roles: Roles
    values: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, sweep: Sweep, roles: Roles) -> CircuitTests:
        return cls(roles, dict(zip(sweep.labels["set"], sweep.values, strict=True)))

    @property
    def whole(self) -> np.ndarray:
        """``F(all) − F(∅)`` of each prompt."""
        return self.values[ALL] - self.values[NONE]

    def faithfulness(self, name: str = CIRCUIT) -> Quantity:
        """``(F(C) − F(∅)) / (F(all) − F(∅))``: 1 as good as the whole model, 0 no better than no heads."""
        return Quantity.ratio(self.values[name] - self.values[NONE], self.whole)

    @cached_property
    def faithful(self) -> dict[str, Quantity]:
        """The faithfulness of the circuit, and of each random circuit beside it (the control)."""
        names = [name for name in self.values if name.startswith(RANDOM)]
        return {name: self.faithfulness(name) for name in (CIRCUIT, *names)}

    @property
    def control(self) -> float:
        """The 95th percentile of the random circuits' faithfulness; NaN without any."""
        random = [share.value for name, share in self.faithful.items() if name != CIRCUIT]
        return float(np.percentile(np.array(random), 95)) if random else float("nan")

    def table(self) -> pd.DataFrame:
        """A row for the circuit and for each random one: its faithfulness."""
        rows = [share.columns("share", "") for share in self.faithful.values()]
        return pd.DataFrame(rows).assign(set=list(self.faithful))

    def chart(self, title: str) -> Bars:
        """The circuit's faithfulness beside that of random circuits."""
        value, low, high = np.array([astuple(share) for share in self.faithful.values()]).T
        return Bars(
            value,
            low,
            high,
            list(self.faithful),
            title=title,
            subtitle="heads outside the set ablated to their means · 1: as good as the whole model, 0: as no heads",
            scale="faithfulness (share of the logit difference kept)",
            note="Random circuits have the same number of heads in each layer.",
        )

    def completeness(self) -> pd.DataFrame:
        """``F(all − K) − F(C − K)`` for each set K of the circuit's heads: 0 is complete."""
        rows = []
        for name, values in self.values.items():
            removed = name.removeprefix(f"{ALL} without ")
            if removed != name:
                gap = Quantity.ratio(values - self.values[f"{CIRCUIT} without {removed}"], self.whole)
                rows.append({"removed": removed, **gap.columns("share", "")})
        return pd.DataFrame(rows)

    def minimality(self) -> pd.DataFrame:
        """What each head changes: the larger of taking it alone, and of taking it last of its role."""
        rows = []
        for role, heads in self.roles.items():
            for head in heads:
                alone = self.values[CIRCUIT] - self.values[f"{CIRCUIT} without {head}"]
                last = self.values[f"{CIRCUIT} without {role} but {head}"] - self.values[f"{CIRCUIT} without {role}"]
                largest = max((size(change, self.whole) for change in (alone, last)), key=lambda share: share.value)
                rows.append({"head": str(head), "role": role, **largest.columns("share", "")})
        return pd.DataFrame(rows)

    def in_words(self, completeness: pd.DataFrame, minimality: pd.DataFrame, possible: int) -> list[str]:
        """Lines of the summary.

        Args:
            possible: how many random circuits there are (`circuits.distinct.how_many_like`).
        """
        whole, none, circuit = (self.values[name].mean() for name in (ALL, NONE, CIRCUIT))
        random = np.array([share.value for name, share in self.faithful.items() if name != CIRCUIT])
        sizes = f"mean {number(random.mean())}, largest {number(random.max())} of " if len(random) else ""
        control = f"{sizes}{len(random)}{', all that there are' * (len(random) == possible)}"
        needed, least = (minimality["low"] > 0).sum(), minimality.sort_values("share").head(5)
        return [
            f"Logit difference: {number(whole)} with all heads, {number(none)} with none, {number(circuit)} with the "
            "circuit.",
            "",
            f"Faithfulness {self.faithful[CIRCUIT]}; random circuits of the same layers: {control}.",
            "Completeness (the model less the circuit when the same heads are taken from both; 0 is complete)"
            f"{self._all_subsets(completeness)}",
            *(f"  {row['removed']:<32} {_share(row)}" for row in completeness.to_dict("records")),
            f"Minimality: {needed} of {len(minimality)} (head, role) pairs change the circuit, their whole interval "
            "above 0. The least needed:",
            *(f"  {row['head']} ({row['role']}) {_share(row)}" for row in least.to_dict("records")),
        ]

    def _all_subsets(self, completeness: pd.DataFrame) -> str:
        """Where the circuit is so small that every set of its heads was tested: how many they are."""
        heads = {head for members in self.roles.values() for head in members}
        if any(name.startswith(HALF) for name in completeness["removed"]):
            return ""
        others = len(completeness) - len(self.roles)
        return f": each role, and all {others} other sets of some of its {len(heads)} heads"


def tested_sets(
    roles: Roles, every: frozenset[Head], n_heads: int, subsets: int, random_circuits: int, seed: int
) -> dict[str, frozenset[Head]]:
    """Every set of heads that is left, by its name. `subsets` random halves are taken from the circuit; where it has no
    more sets of heads, each of them is taken, and named by its heads."""
    circuit = frozenset(head for heads in roles.values() for head in heads)
    left = {ALL: every, NONE: frozenset(), CIRCUIT: circuit}
    removed = {f"without {role}": frozenset(heads) for role, heads in roles.items()}
    of_roles = set(removed.values())
    few = how_many_halves(circuit, of_roles) <= subsets
    for k, half in enumerate(random_halves(circuit, subsets, np.random.default_rng(seed), of_roles)):
        removed["without " + (" ".join(map(str, sorted(half))) if few else f"{HALF} {k}")] = half
    for name, heads in removed.items():
        left |= {f"{CIRCUIT} {name}": circuit - heads, f"{ALL} {name}": every - heads}
    for head in sorted(circuit):
        left[f"{CIRCUIT} without {head}"] = circuit - {head}
    for role, heads in roles.items():
        for head in heads:  # the others of its role are gone: what the head does alone
            left[f"{CIRCUIT} without {role} but {head}"] = circuit - (frozenset(heads) - {head})
    for k, other in enumerate(random_like(circuit, n_heads, random_circuits, seed)):
        left[f"{RANDOM} {k}"] = other
    return left


def size(change: np.ndarray, whole: np.ndarray) -> Quantity:
    """The magnitude of a change as a share; its interval starts at 0 where that of the signed change holds 0."""
    share = Quantity.ratio(change, whole)
    if share.value < 0:
        share = Quantity(-share.value, -share.high, -share.low)
    return Quantity(share.value, max(0.0, share.low), share.high)


def _share(row: Mapping[Any, Any]) -> Quantity:
    return Quantity(row["share"], row["low"], row["high"])
