"""The documentation keeps up with the code."""

from __future__ import annotations

import random
import re
import runpy

import workbench.registry  # defines an error of its own
from workbench.errors import WorkbenchError
from workbench.inputs.pairs import Pair, Task
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


def test_the_task_in_contributing_works(tmp_path):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    file = tmp_path / "my_task.py"
    file.write_text(code, encoding="utf-8")
    task = runpy.run_path(str(file))["task"]
    assert isinstance(task, Task)
    pair = task.draw(random.Random(0))
    assert isinstance(pair, Pair) and pair.clean != pair.corrupt and task.n == 25
