"""How the error of a memory grows with the number of pairs, beside its law."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from workbench import arguments
from workbench.errors import UsageError

from .criteria import CRITERIA, Criterion
from .draws import Keys, draw, keys_of
from .laws import Law, Sizes
from .memory import Memory, rule_of
from .rule import Settings

#: Numbers held at once by the trials that are computed together, and by one trial at most.
TOGETHER, LARGEST = 2**25, 2**28


class Curve(NamedTuple):
    """What `workbench.results.memory_curve.MemoryCurve` is made of."""

    samples: Float[np.ndarray, "load trial"]
    law: Float[np.ndarray, " load"]
    info: dict[str, Any]


@torch.no_grad()
def measure(
    rule: str,
    settings: Settings,
    *,
    d: int,
    n: Sequence[int],
    trials: int,
    criterion: str,
    keys: str,
    d_value: int | None,
    passes: int,
    seed: int,
) -> Curve:
    """The criterion of every trial at each load, the law at each load (NaN where there is none), and what was done.

    Args:
        n: loads, ascending.
        d_value: None for what the criterion needs, or d.

    Raises:
        UnknownName: no such rule, setting, criterion or kind of keys.
        UsageError: values that are not possible, or do not go together.
    """
    kind, chosen = rule_of(rule, **settings)
    arguments.one_of("criterion", criterion, CRITERIA)
    measured, keys_ = CRITERIA[criterion], keys_of(keys)
    if measured.one_hot and not kind.linear_in_v(chosen):
        raise UsageError(
            f"criterion={criterion!r}: expected a rule that is linear in the values, because it is over all of them, "
            f"and {kind.name} is not. Measure it by 'mse'."
        )
    needed = n[-1] if measured.one_hot else measured.d_value
    if d_value is not None and needed is not None and d_value != needed:
        raise arguments.refusal("d_value", d_value, f"{needed} or None", because=f"the criterion is {criterion!r}")
    width = needed or d_value or d
    per_trial = 4 * n[-1] * (d + width + n[-1]) + 4 * d * width
    if per_trial > LARGEST:
        gigabytes = f"{4 * per_trial / 1e9:.1f} GB"
        raise UsageError(f"n={n[-1]}, d={d}: one trial would need {gigabytes}. Use fewer pairs or dimensions.")
    size = max(1, TOGETHER // per_trial)
    text, law, parts, of_keys = kind.text(chosen), kind.laws.get(criterion), [], []
    for start in range(0, trials, size):
        some = range(start, min(trials, start + size))
        k, v = draw(keys_, some, n[-1], d, 1 if measured.one_hot else width, seed)
        if measured.one_hot:
            v = torch.eye(width).expand(len(some), -1, -1)
        parts.append(_of_trials(text, measured, k, v, n, passes))
        if keys_.kind != "random" and law is not None and law.of_gram is not None:
            gram = (k.double() @ k.double().mT).numpy()
            of_keys.append(np.stack([law.of_gram(gram[:, :load, :load]) for load in n]))
    words, values = _law(law, keys_, passes, Sizes(d, width, chosen), n, of_keys)
    info = {
        "rule": text,
        "title": kind.title,
        "source": kind.source,
        "criterion": criterion,
        "scale": measured.scale,
        "empty": measured.empty,
        "falls": measured.falls,
        "d": d,
        "d_value": width,
        "keys": str(keys_),
        "passes": passes,
        "trials": trials,
        "seed": seed,
        "law": words,
        "note": kind.note(chosen),
    }
    return Curve(np.concatenate(parts, 1).astype(np.float64), values, info)


def _of_trials(
    text: str, criterion: Criterion, k: torch.Tensor, v: torch.Tensor, loads: Sequence[int], passes: int
) -> Float[np.ndarray, "load trial"]:
    """In one pass each load goes on from the one before."""
    memory, rows, stored = Memory(text), [], 0
    for load in loads:
        if passes > 1:
            memory, stored = Memory(text), 0
        for _ in range(passes):
            if stored < load:
                memory.write(k[:, stored:load], v[:, stored:load])
        stored = load if passes == 1 else 0
        rows.append(criterion.measure(memory.read(k[:, :load]), v[:, :load]))
    return torch.stack(rows).numpy()


def _law(
    law: Law | None, keys: Keys, passes: int, sizes: Sizes, loads: Sequence[int], of_keys: list[np.ndarray]
) -> tuple[dict[str, Any] | None, Float[np.ndarray, " load"]]:
    """The law in words, and its values; `of_keys` are those of the keys that were drawn, ``[load, trial]``."""
    if law is not None and (law.any_keys or (keys.kind == "random" and passes == 1)):
        words = {"formula": law.formula, "exact": law.exact, "note": law.note}
        return words, np.array([law.value(load, sizes) for load in loads], dtype=np.float64)
    if law is not None and of_keys and passes == 1:
        words = {"formula": law.of_gram_formula, "exact": True, "note": "of the keys that were drawn"}
        return words, np.concatenate(of_keys, 1).mean(1)
    return None, np.full(len(loads), np.nan)
