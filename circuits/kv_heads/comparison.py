"""The table ``roles``: every role against the other heads of its layers, for each way of reading and set of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool
from statsmodels.stats.multitest import multipletests

from workbench.plotting.style import p_text

from .matched import Matched, advantage, blocks, is_testable, not_tested
from .measure import Measured

#: Errors that roles are compared by → in words. Advantages are differences of natural logarithms.
COMPARED: Mapping[str, str] = {
    "law_centred": "centred keys, random values (n / PR − 1)",
    "law_uncentred": "keys as they are, random values (if the head were linear)",
    "real_centred": "centred keys, its own centred values",
    "real_values_centred": "keys as they are, its own centred values",
    "shuffled": "centred keys, its own centred values at other positions",
    "softmax": "softmax read, random values",
    "softmax_real": "softmax read, its own centred values",
}

#: Below which a corrected p-value is small.
ALPHA = 0.05

Roles = Mapping[str, Bool[np.ndarray, "layer kv_head"]]


@dataclass(frozen=True)
class Compared:
    """One role, one way of reading, one set of texts; `p_corrected` by Holm over the roles that are tested."""

    role: str
    error: str
    texts: str
    matched: Matched
    p_corrected: float

    @property
    def verdict(self) -> str:
        """Of the claim that the role's heads have less interference: supported when the lower end of the interval is
        above 0 and the corrected p below 0.05, undecided when one of both is so, else not supported."""
        if not np.isfinite(self.p_corrected):
            return "not tested"
        met = (self.matched.advantage.low > 0) + (self.p_corrected < ALPHA)
        return ("not supported", "undecided", "supported")[met]


def compare(measured: Sequence[Measured], roles: Roles, seed: int) -> list[Compared]:
    """Every role by every error of `COMPARED`, on every set of texts; roles with too few heads are not tested."""
    has_role = {role: blocks(has) for role, has in roles.items()}
    tested = [role for role, has in has_role.items() if is_testable(has)]
    results = []
    for texts in measured:
        for error in COMPARED:
            x, sink = blocks(texts.log_error(error)), blocks(texts.sink)
            matched = {role: not_tested(has) for role, has in has_role.items()}
            matched |= {role: advantage(x, has_role[role], sink, tests=len(tested), seed=seed) for role in tested}
            p = {role: one.p_value for role, one in matched.items() if np.isfinite(one.p_value)}
            corrected: dict[str, float] = {}
            if p:
                corrected = dict(zip(p, np.asarray(multipletests(list(p.values()), method="holm")[1]), strict=True))
            results += [
                Compared(role, error, texts.name, one, float(corrected.get(role, np.nan)))
                for role, one in matched.items()
            ]
    return results


def table(compared: Sequence[Compared], n: int) -> pd.DataFrame:
    """A row for each."""
    return pd.DataFrame(
        [
            {"role": one.role, "texts": one.texts, "error": one.error, "reading": COMPARED[one.error]}
            | one.matched.advantage.columns("advantage")
            | {"null_95": one.matched.null_95, "p_value": one.matched.p_value, "p_corrected": one.p_corrected}
            | {"heads": one.matched.heads, "others": one.matched.others}
            | {"verdict": one.verdict, "n": n}
            for one in compared
        ]
    )


def in_words(compared: Sequence[Compared], texts: str) -> list[str]:
    """Lines of the summary: each role and reading on one set of texts."""
    lines = []
    for error, words in COMPARED.items():
        rows = [one for one in compared if one.error == error and one.texts == texts]
        lines += [f"  {words}", *(f"    {one.role:<15} {_in_words(one)}" for one in rows)]
    return lines


def _in_words(one: Compared) -> str:
    if one.verdict == "not tested":
        return f"not tested: {one.matched.heads} heads have others in their layer"
    return f"{one.matched.advantage:+.2f}, p {p_text(one.p_corrected)}: {one.verdict}"
