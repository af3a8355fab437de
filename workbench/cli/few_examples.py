"""What is said below intervals from few examples."""

from __future__ import annotations

from workbench.findings import FEWEST


def few_examples(n: int, examples: str) -> str:
    """The note on an interval from n of the `examples`; empty for one, which has no interval, and where n is enough."""
    few = 1 < n < FEWEST
    return f"n = {n}: an interval from so few {examples} is little more than their range." if few else ""
