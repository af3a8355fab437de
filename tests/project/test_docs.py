"""The documentation keeps up with the code."""

from __future__ import annotations

import re

import workbench.registry  # defines an error of its own
from workbench.errors import WorkbenchError
from workbench.registry import ROOT


def test_every_error_has_a_section():
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^## (\w+)$", text, flags=re.MULTILINE))
    kinds, pending = set(), [WorkbenchError]
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        # The command line's own variants say the same in another form.
        kinds |= {kind.__name__} if not kind.__module__.startswith("workbench.cli") else set()
    assert kinds <= sections
    assert workbench.registry.BrokenEntry.__name__ in kinds
