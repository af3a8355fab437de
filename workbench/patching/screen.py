"""`screen`: a sweep whose cells are estimated first, and only those that rank highest are run exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from workbench.core import Head
from workbench.errors import UnknownName, UsageError
from workbench.patching.attribution import attribution
from workbench.patching.metric import Metric
from workbench.patching.plan import Plan
from workbench.patching.progress import Progress
from workbench.patching.resolve import resolve_inputs, resolve_model
from workbench.patching.sweep import sweep
from workbench.results.sweep import Sweep

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Screen:
    """A screen's two halves.

    Attributes:
        exact: the cells that were run, each as in `sweep`; the others are blank. Its p-values are corrected for the
            cells that were run, which were chosen on the same examples.
        estimate: every cell, as the screen's method estimates it.
        confirmed: which cells were run.
    """

    exact: Sweep
    estimate: Sweep
    confirmed: Bool[np.ndarray, "*cells"]

    def top(self, k: int | None = None, *, percent: float | None = None) -> list[Head]:
        """The heads with the largest exact |effect| among those that were run; see `Sweep.top`.

        Raises:
            UsageError: more heads are asked for than were run.
        """
        found, wanted = self.exact.top(k, percent=percent), len(self.estimate.top(k, percent=percent))
        if len(found) < wanted:
            raise UsageError(f"{len(found)} heads were run exactly and {wanted} are asked for: raise confirm.")
        return found

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
    site: str = "z",
    by: str | Sequence[str] = "head",
    edit: str = "patch",
    direction: str | None = None,
    metric: str | Metric | Callable[..., Tensor] = "logit_difference",
    layers: Sequence[int] | int | None = None,
    heads: Sequence[int] | int | None = None,
    positions: Sequence[int | str] | str | None = None,
    attend_to: Any = None,
    mean_over: Any = None,
    seed: int = 0,
    memory_gb: float = 1.0,
    cache: Any = None,
    progress: Progress | None = None,
) -> Screen:
    """Estimate every cell of a sweep, then run exactly the share of them with the largest estimated |mean change|.

    Args:
        method: ``attribution`` (to first order, from one backward pass a prompt; needs a metric with a gradient), or
            ``bfloat16`` (the sweep itself in half precision, where the processor computes in it).
        confirm: the share of the grid's cells to run, above 0; the number is rounded up.
        cache: of the exact cells; estimates are not kept.

    The other arguments are those of `sweep`; edits are given by name.

    Raises:
        UnknownName: no such method, site, edit, metric or position.
        UsageError: arguments that do not go together, a metric without gradient, or no bfloat16 on this processor.
    """
    if method not in ESTIMATES:
        raise UnknownName("screen method", method, ESTIMATES)
    if not isinstance(confirm, int | float) or not 0 < confirm <= 1:
        raise UsageError(f"confirm={confirm!r}: a share of the cells, above 0 and at most 1.")
    if not isinstance(edit, str):
        raise UsageError("A screen takes edits by name; give a function to sweep.")
    inputs = resolve_inputs(task, model)
    asked: dict[str, Any] = {
        "site": site,
        "by": by,
        "edit": edit,
        "direction": direction,
        "metric": metric,
        "layers": layers,
        "heads": heads,
        "positions": positions,
        "attend_to": attend_to,
        "mean_over": mean_over if mean_over is None or isinstance(mean_over, str) else resolve_inputs(mean_over, model),
        "seed": seed,
        "memory_gb": memory_gb,
    }
    guess = ESTIMATES[method](model, inputs, asked, progress)
    size = guess.mean_delta.size
    order = np.argsort(-np.nan_to_num(guess.ranking().ravel()), kind="stable")
    chosen = np.zeros(size, bool)
    chosen[order[: math.ceil(confirm * size)]] = True
    chosen = chosen.reshape(guess.mean_delta.shape)
    exact = sweep(model, inputs, where=chosen, cache=cache, progress=progress, **asked)
    return Screen(exact, guess, chosen)


def _attribution(model: Any, inputs: Any, asked: Mapping[str, Any], progress: Progress | None) -> Sweep:
    return attribution(Plan.of(model, inputs, where=None, **asked), progress)


def _bfloat16(model: Any, inputs: Any, asked: Mapping[str, Any], progress: Progress | None) -> Sweep:
    from workbench.models.bfloat16 import has_bfloat16, in_bfloat16
    from workbench.models.language import HookedLM

    resolve_model(model)  # refuses what a sweep refuses
    if not isinstance(model, HookedLM):
        raise UsageError("method='bfloat16' is for language models: use method='attribution'.")
    if not has_bfloat16(model.device):
        raise UsageError("This processor does not compute in bfloat16: use method='attribution'.")
    found = sweep(in_bfloat16(model), inputs, cache=False, progress=progress, **asked)
    return replace(found, info={**found.info, "screen": "bfloat16"})


#: Method → ``f(model, inputs, arguments, progress) -> Sweep`` of estimates.
ESTIMATES = {"attribution": _attribution, "bfloat16": _bfloat16}
