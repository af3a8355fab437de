"""`scores_table`: every metric that reads an outcome, before and after its edits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError
from workbench.registry import METRICS

if TYPE_CHECKING:
    import pandas as pd

    from workbench.patching.run import Outcome


def metrics_of(outputs: str) -> list[str]:
    """The names of the metrics that read such outputs of a model."""
    return [name for name in METRICS.names() if METRICS[name].can_read(outputs)]


def scores_table(outcome: Outcome) -> pd.DataFrame:
    """The mean over the inputs of each metric that can read an outcome: ``metric, before, after, change, units``.

    Metrics that these inputs do not fit (such as those of answers where there are none) are left out.

    Raises:
        UsageError: the unedited run was left out.
    """
    import pandas as pd

    _ = outcome.base_logits
    rows = []
    for name in metrics_of(outcome.outputs_are):
        try:
            before, after = (float(outcome.scores(name, base=base).double().mean()) for base in (True, False))
        except WorkbenchError:
            continue
        rows.append((name.replace("_", " "), before, after, after - before, METRICS[name].units))
    return pd.DataFrame(rows, columns=["metric", "before", "after", "change", "units"])
