"""How a check says what is wrong: all of it at once, for the author."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator


def raise_problems(what: str, problems: Iterable[str]) -> None:
    """Raise `AssertionError` with a line for each problem; nothing where there is none."""
    if lines := list(dict.fromkeys(problems)):
        raise AssertionError("\n".join([f"{what} does not pass its checks:", *(f"- {line}" for line in lines)]))


def run_in_order(checks: Iterable[Callable[[], Iterable[str]]]) -> Iterator[str]:
    """The problems of each check; after the first check that has any, those that build on it are not run."""
    for check in checks:
        problems = list(check())
        yield from problems
        if problems:
            return
