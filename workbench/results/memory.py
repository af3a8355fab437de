"""`memory`: how many pairs an associative memory holds, by simulation and by law."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from workbench import arguments, registry
from workbench.results.memory_curve import MemoryCurve

#: More pairs, dimensions, trials or passes are a mistake.
MOST = 1_000_000


def memory(
    rule: str = "delta",
    *,
    d: int = 64,
    n: int | Sequence[int] = (8, 16, 32, 64, 128, 256),
    trials: int = 200,
    criterion: str = "mse",
    keys: str = "random",
    d_value: int | None = None,
    passes: int = 1,
    seed: int = 0,
    **settings: Any,
) -> MemoryCurve:
    """Write n random pairs of a key and a value of length one into an associative memory, read it with the stored keys,
    and measure what comes back; for each n the mean over trials, its interval, and the law of this rule.

    Trial t of a seed has the same pairs for every rule and load: the pairs of a smaller load are the first of those of
    a larger one.

    Args:
        rule: such as ``"delta"``, also with settings: ``"gated-delta(decay=0.9)"``; ``workbench memory`` lists them.
        d: dimensions of keys.
        n: how many pairs are stored; one number or several.
        trials: independent memories.
        criterion: ``"mse"`` (``‖y − v‖²``), ``"cosine"``, ``"argmax"`` (share of items whose own value, among those
            stored, has the largest product with what is read), ``"sign"`` (share of values ±1 read with the wrong
            sign), ``"worst case"`` (the largest error of a scalar over all values from −1 to 1; of rules that are
            linear in the values).
        keys: ``"random"``, ``"spectrum(exponent=1)"`` (direction i has a variance of ``i^−exponent``) or
            ``"shared-mean(share=0.25)"`` (a common vector, its squared length so many times the total variance).
        d_value: dimensions of values; None for d, or for what the criterion needs.
        passes: how often the pairs are written, in order.
        seed: of keys and values.
        settings: of the rule, in place of those in its name.

    Raises:
        UnknownName: no such rule, setting, criterion or kind of keys; the nearest are suggested.
        UsageError: a value that is not possible.

    Examples:
        >>> curve = wb.memory("delta", d=32, n=[16, 64], trials=100, beta=1.0)
        >>> curve.law.round(2).tolist()
        [0.29, 1.06]
        >>> bool((abs(curve.gap) < 4 * curve.standard_error).all())
        True
    """
    arguments.text("rule", rule, "the name of a memory's rule, such as 'delta'", do="workbench memory lists them.")
    arguments.text("criterion", criterion)
    arguments.text("keys", keys, "a kind of keys, such as 'random'")
    curve = registry.imported("probes.memory.curve").measure(
        rule,
        settings,
        d=arguments.whole_number("d", d, at_least=2, at_most=MOST),
        n=(loads := _loads(n)),
        trials=arguments.whole_number("trials", trials, at_least=2, at_most=MOST),
        criterion=criterion,
        keys=keys,
        d_value=arguments.whole_number("d_value", d_value, at_least=1, at_most=MOST, optional=True),
        passes=arguments.whole_number("passes", passes, at_least=1, at_most=MOST),
        seed=arguments.whole_number("seed", seed, at_least=0),
    )
    return MemoryCurve(loads, curve.samples, curve.law, curve.info)


def _loads(n: Any) -> tuple[int, ...]:
    """Ascending."""
    do = "Give one number, or a list of them."
    if not isinstance(n, Integral) or isinstance(n, bool):
        entries = arguments.sequence("n", n, "numbers of stored pairs", do=do)
        if not entries:
            raise arguments.refusal("n", n, "at least one number of stored pairs")
    else:
        entries = (n,)
    loads = tuple(arguments.whole_number("n", entry, at_least=1, at_most=MOST) for entry in entries)
    arguments.each_once("n", n, loads, "number of pairs")
    return tuple(sorted(loads))
