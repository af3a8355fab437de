"""The documentation keeps up with the code."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np

import workbench as wb
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


def example(end: str, file: Path) -> dict[str, Any]:
    """The names of the Python block of CONTRIBUTING that ends in an object of that kind, run as that file."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if end in code]
    file.write_text(code, encoding="utf-8")
    return runpy.run_path(str(file))


def test_the_metric_in_contributing_works(tmp_path):
    metric = example("metric = Metric(", tmp_path / "my_metric.py")["metric"]
    assert metric.name == "my_metric"
    task = wb.task("ioi", n=2)
    model = wb.load("tiny")
    sweep = wb.sweep(model, task, metric=metric, layers=[1], direction="noise")
    logits = wb.run(model, task, edits=[]).logits
    answers = [answer for (answer,) in task.inputs(model.tokenizer).answer]
    np.testing.assert_allclose(sweep.base, [row[token] for row, token in zip(logits, answers, strict=True)], atol=1e-4)


def test_the_page_in_contributing_renders_without_a_run(tmp_path, monkeypatch):
    """And says how to make one; with a run, the browser tests of every page do the same."""
    page = example("page = Page(", tmp_path / "my_page.py")["page"]
    assert page.name == "my-page"
    messages: list[str] = []
    monkeypatch.setattr("app.run_figure.finished_runs", list)
    monkeypatch.setattr("streamlit.info", messages.append)
    page.render()
    assert len(messages) == 1 and "workbench reproduce head-ablation" in messages[0]
