"""The findings kit: what a finding is made of, so that its file reads like the method section of a paper.

A finding is one file in ``circuits/findings`` that ends in ``finding = Finding(...)``. Its `Threshold` objects are
written down before it is run; its function ``run(study)`` measures and returns ``study.report(...)``. The parts:

- `Study`: one run. ``study.pairs(task, n)`` draws and tokenises, ``study.gate(pairs)`` stops unless the model does the
  task, ``study.reference(pairs)`` gives prompts to average over, ``study.step(label)`` reports progress.
- `Quantity`: a measured number with its 95 % interval: ``.columns("gain")`` for a table, ``f"{gain:+.2f}"`` for a line.
- `Threshold` and `judge`: the printed rule, the check and the verdict from one object.
- `NotJudged`: raise it where the claim cannot be judged; the report then says why.
- `summary_table`, `head_columns`: the two tables that other parts read.
- Charts are in `workbench.plotting.charts`: a description each, drawn by Plotly and by matplotlib.

``examples/findings`` has a complete one to copy; `workbench.testing.check_finding` says what one still needs.
"""

from __future__ import annotations

from workbench.findings.finding import RESULTS_VERSION, Finding
from workbench.findings.progress import Progress, Quiet
from workbench.findings.report import FEWEST, VERDICTS, Judgement, NotJudged, Report, Verdict
from workbench.findings.study import Study
from workbench.findings.tables import head_columns, summary_table
from workbench.findings.threshold import Threshold, judge
from workbench.plotting.quantity import Quantity

__all__ = [
    "FEWEST",
    "RESULTS_VERSION",
    "VERDICTS",
    "Finding",
    "Judgement",
    "NotJudged",
    "Progress",
    "Quantity",
    "Quiet",
    "Report",
    "Study",
    "Threshold",
    "Verdict",
    "head_columns",
    "judge",
    "summary_table",
]
