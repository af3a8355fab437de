"""A silenced type error or lint rule names its code and gives a reason: ``# pyright: ignore[CODE] - why``."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.registry import ROOT

SILENCED = re.compile(r"#\s*(type:\s*ignore|pyright:\s*ignore|noqa)")
WITH_CODE_AND_REASON = re.compile(r"# ((type|pyright): ignore\[[\w, -]+\]|noqa: [A-Z]+\d+(, ?[A-Z]+\d+)*) - \S.*")
FOLDERS = ("workbench", "circuits", "probes", "data", "app", "tests", "examples", "docs")


def unexplained(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of each comment that silences something without a code and a reason."""
    if not SILENCED.search(text):
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        silences = token.type == tokenize.COMMENT and SILENCED.search(token.string)
        if silences and not WITH_CODE_AND_REASON.fullmatch(token.string):
            yield token.start[0], token.string


def files() -> list[Path]:
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py*"))]
    return [p for p in paths if p.suffix in (".py", ".pyi")]


def test_what_is_silenced_has_a_code_and_a_reason():
    lines = [
        f"{path.relative_to(ROOT)}:{line}: {comment}"
        for path in files()
        for line, comment in unexplained(path.read_text(encoding="utf-8"))
    ]
    if lines:
        pytest.fail("\n".join([*lines, "Write '# pyright: ignore[CODE] - REASON', or change the code."]))


@pytest.mark.parametrize(
    ("comment", "explained"),
    [
        ("# pyright: ignore[reportArgumentType] - a wrong type on purpose", True),
        ("# noqa: E741 - the field's name for it", True),
        ("# pyright: ignore[reportArgumentType]", False),
        ("# pyright: ignore", False),
        ("# type: ignore - because", False),
        ("# noqa", False),
        ("# noqa: S102", False),
        ("# nothing is silenced", True),
    ],
)
def test_the_form_of_a_reason(comment, explained):
    assert (list(unexplained(f"x = 1  {comment}\n")) == []) == explained
