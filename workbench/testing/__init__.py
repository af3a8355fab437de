"""The conformance checks, for anyone who writes a task, a finding, an operator or a model of their own.

::

    wb.testing.check_task(task)        # raises AssertionError with everything that is wrong, and what to write instead
    wb.testing.check_metric(metric)
    wb.testing.check_finding(finding)
    wb.testing.check_operator(operator)
    wb.testing.check_model(model)

``python -m workbench.testing task NAME`` does the same on the command line. The test suite runs these checks on every
file of ``data/tasks``, ``workbench/patching/metrics``, ``workbench/attention/operators`` and ``circuits/findings``.
"""

from workbench.testing.finding import check_finding
from workbench.testing.metric import check_metric
from workbench.testing.model import check_model
from workbench.testing.operator import check_operator
from workbench.testing.task import check_task

__all__ = ["check_finding", "check_metric", "check_model", "check_operator", "check_task"]
