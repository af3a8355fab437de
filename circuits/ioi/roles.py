"""Roles of heads in indirect object identification, by what path patching says *and* by what the heads do.

Each role has a stage of path patching in which its heads stand out, a sign, a place that they attend to from another,
and for those that write names a copy score (Wang et al., ICLR 2023, arXiv 2211.00593, section 3 and appendix):

=====================  ============================  ====================  ==========================
role                   stands out in                 attends               writes
=====================  ============================  ====================  ==========================
mover                  heads → logits, for           end → IO              copies the name
negative mover         heads → logits, against       end → IO              the name's opposite
subject suppressor     heads → logits, for           end → S1, S2          the name's opposite
inhibition             heads → movers' queries, for  end → S2
duplicate-token        heads → inhibition's values   S2 → S1
induction              heads → inhibition's values   S2 → S1+1
previous-token         heads → induction's keys      S1+1 → S1
=====================  ============================  ====================  ==========================

"Attends" means that the lower end of the 95 % interval of the mean attention is above that of a uniform head; where a
role has rivals (IO against S1 and S2), also that it attends there more than anywhere else among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from workbench import statistics
from workbench.core import Head
from workbench.inputs.paired import PairedInputs

#: A head that writes the name, or its opposite, does so at this share of the names' places at least.
COPIES = 0.5


@dataclass(frozen=True)
class Role:
    """What a head must do to have a role.

    Attributes:
        stage: where it stands out; `sign`: 1 for the answer, −1 against, 0 either.
        source, targets: it attends from `source` to one of `targets`, more than to any of `rivals`.
        writes: 1 when it copies names, −1 when it writes their opposite, 0 when that is not asked.
    """

    name: str
    stage: str
    sign: int
    source: str
    targets: tuple[str, ...]
    rivals: tuple[str, ...] = ()
    writes: int = 0


ROLES = (
    Role("mover", "logits", 1, "end", ("IO",), ("S1", "S2"), 1),
    Role("negative mover", "logits", -1, "end", ("IO",), ("S1", "S2"), -1),
    Role("subject suppressor", "logits", 1, "end", ("S1", "S2"), ("IO",), -1),
    Role("inhibition", "mover-query", 1, "end", ("S2",), ("IO", "S1")),
    Role("duplicate-token", "earlier", 0, "S2", ("S1",), ("S1+1",)),
    Role("induction", "earlier", 0, "S2", ("S1+1",), ("S1",)),
    Role("previous-token", "previous", 0, "S1+1", ("S1",)),
)


def attention(
    patterns: Sequence[np.ndarray], inputs: PairedInputs, source: str, target: str
) -> Float[np.ndarray, " example"]:
    """One head's attention (its pattern ``[dest, src]`` in each prompt) from a named position to another, in each
    prompt; NaN where the target comes after the source."""
    weights = []
    for pattern, at in zip(patterns, inputs.positions, strict=True):
        weights.append(pattern[at[source], at[target]] if at[target] <= at[source] else np.nan)
    return np.array(weights, dtype=float)


def uniform(inputs: PairedInputs, source: str) -> float:
    """Mean attention of a uniform head from a named position to any place that it sees."""
    return float(np.mean([1 / (at[source] + 1) for at in inputs.positions]))


def has_role(
    role: Role,
    effect: float,
    attended: Mapping[tuple[str, str], Float[np.ndarray, " example"]],
    level: float,
    copies: float,
    suppresses: float,
) -> bool:
    """Whether a head that stands out in the role's stage does what the role asks.

    Args:
        effect: its effect in that stage.
        attended: (source, target) → its attention in each prompt.
        level: a uniform head's attention from the role's source.
        copies, suppresses: its copy scores, of its output and of the opposite.
    """
    if role.sign and np.sign(effect) != role.sign:
        return False
    if (role.writes == 1 and copies < COPIES) or (role.writes == -1 and suppresses < COPIES):
        return False
    to_targets = np.sum([attended[role.source, target] for target in role.targets], axis=0)
    if not np.isfinite(to_targets).all() or not statistics.mean_interval(to_targets).low > level * len(role.targets):
        return False
    return all(to_targets.mean() > np.nan_to_num(attended[role.source, rival]).mean() for rival in role.rivals)


@dataclass(frozen=True)
class Described:
    """A head with its role, effect and p-value in the stage, and what it does."""

    head: Head
    role: str
    stage: str
    effect: float
    p_value: float
    attention: Mapping[tuple[str, str], float]
    copies: float
    suppresses: float
