"""`screen`: a sweep whose cells are estimated first, and only those that rank highest are run exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from jaxtyping import Bool

from workbench.arguments import one_of, refusal, share
from workbench.cache import store_of
from workbench.core import Head
from workbench.errors import UnknownName, UsageError
from workbench.patching.attribution import attribution
from workbench.patching.plan import Plan
from workbench.patching.progress import Progress
from workbench.patching.resolve import resolve_inputs, resolve_mean_over, resolve_model
from workbench.patching.settings import SweepArguments, SweepSettings
from workbench.patching.sweep import sweep
from workbench.results.sweep import Sweep

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Screen:
    """A screen: exact values of the best cells, and estimates of all.

    Attributes:
        exact: the cells that were run, each as in `sweep`; the others are blank. Its p-values are corrected for the
            cells that were run, which were chosen on the same examples.
        estimate: every cell, as the screen's method estimates it.
        confirmed: which cells were run.

    Examples:
        >>> screen = wb.screen(wb.load("tiny"), wb.task("ioi", n=6), confirm=0.5)
        >>> int(screen.confirmed.sum()), len(screen.top(3))
        (8, 3)
    """

    exact: Sweep
    estimate: Sweep
    confirmed: Bool[np.ndarray, "*cells"]

    def top(self, k: int | None = None, *, percent: float | None = None) -> list[Head]:
        """The heads with the largest exact |effect| among those that were run; see `Sweep.top`.

        Raises:
            UsageError: more heads than were run.
        """
        heads, n = self.exact.top(k, percent=percent), len(self.estimate.top(k, percent=percent))
        if len(heads) < n:
            why = f"{len(heads)} heads were run exactly"
            name, value = ("k", k) if k is not None else ("percent", percent)
            raise refusal(name, value, f"at most {len(heads)} heads, not {n}", "Raise confirm.", because=why)
        return heads

    def table(self) -> pd.DataFrame:
        """As `Sweep.table` of the exact cells, with the columns ``estimate`` (a mean change, in the metric's units) and
        ``confirmed``."""
        estimate = self.estimate.mean_delta.ravel()
        return self.exact.table().assign(estimate=estimate, confirmed=self.confirmed.ravel())

    def __repr__(self) -> str:
        return f"Screen({self.words}; {self.exact!r})"

    @property
    def words(self) -> str:
        """What was run and how it was chosen, for people."""
        method = self.estimate.info.get("screen", "")
        return f"{self.confirmed.sum()} of {self.confirmed.size} cells run exactly, chosen by {method}"

    def _repr_html_(self) -> str:
        from workbench.plotting import notebook

        return notebook.of_screen(self)


def screen(
    model: Any,
    task: Any,
    *,
    method: str = "attribution",
    confirm: float = 0.25,
    cache: Any = None,
    progress: Progress | None = None,
    **sweep_arguments: Unpack[SweepArguments],
) -> Screen:
    """Estimate every cell of a sweep, then run exactly the share of them with the largest estimated |mean change|.

    Args:
        method: ``attribution`` (to first order, from one backward pass per input; needs a metric with a gradient), or
            ``bfloat16`` (the sweep itself in half precision, where the processor computes in it).
        confirm: the share of the grid's cells to run, above 0; the number is rounded up.
        cache: of the exact cells; estimates are not cached.
        sweep_arguments: the other arguments of `workbench.sweep` but ``where``; edits are names.

    Raises:
        UnknownName: no such method, site, edit, metric or position.
        UsageError: arguments that do not go together, a metric without gradient, or no bfloat16 on this processor.

    Examples:
        >>> model = wb.load("tiny")
        >>> screen = wb.screen(model, wb.task("ioi", n=6), confirm=0.5)
        >>> int(screen.confirmed.sum()), screen.confirmed.size
        (8, 16)
    """
    one_of("method", method, ESTIMATES)
    share("confirm", confirm)
    if unknown := sweep_arguments.keys() - SweepArguments.__annotations__.keys():
        raise UnknownName("argument", min(unknown), SweepArguments.__annotations__)
    where, edit = sweep_arguments.get("where"), sweep_arguments.get("edit", "patch")
    if where is not None:
        raise refusal("where", where, "None", because="a screen selects the cells to run itself")
    if not isinstance(edit, str):
        raise refusal("edit", edit, "the name of an edit", "Give a function to sweep.")
    resolve_model(model)
    inputs = resolve_inputs(task, model)
    arguments: SweepArguments = {**sweep_arguments}
    if "mean_over" in arguments:
        arguments["mean_over"] = resolve_mean_over(arguments["mean_over"], model)
    estimate = ESTIMATES[method](model, inputs, arguments, cache, progress)
    n_cells = estimate.mean_delta.size
    order = np.argsort(-np.nan_to_num(estimate.ranking().ravel()), kind="stable")
    confirmed = np.zeros(n_cells, bool)
    confirmed[order[: math.ceil(confirm * n_cells)]] = True
    confirmed = confirmed.reshape(estimate.mean_delta.shape)
    exact = sweep(model, inputs, cache=cache, progress=progress, **{**arguments, "where": confirmed})
    return Screen(exact, estimate, confirmed)


def _attribution(model: Any, inputs: Any, arguments: SweepArguments, cache: Any, progress: Progress | None) -> Sweep:
    return attribution(Plan.of(model, inputs, SweepSettings(**arguments), store_of(cache)), progress)


def _bfloat16(model: Any, inputs: Any, arguments: SweepArguments, cache: Any, progress: Progress | None) -> Sweep:
    from workbench.models.bfloat16 import has_bfloat16, in_bfloat16
    from workbench.models.language import HookedLM

    resolve_model(model)  # refuses what a sweep refuses
    if not isinstance(model, HookedLM):
        raise UsageError("method='bfloat16' is only for language models. Use method='attribution'.")
    if not has_bfloat16(model.device):
        raise UsageError("This processor does not support bfloat16. Use method='attribution'.")
    estimate = sweep(in_bfloat16(model), inputs, cache=False, progress=progress, **arguments)
    return replace(estimate, info={**estimate.info, "screen": "bfloat16"})


#: Method → ``f(model, inputs, arguments, cache, progress) -> Sweep`` of estimates.
ESTIMATES = {"attribution": _attribution, "bfloat16": _bfloat16}
