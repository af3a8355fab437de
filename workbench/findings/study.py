"""`Study`: one run of a finding, with what every study needs of it: prompts, the gate, progress, the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from workbench.core import full_name
from workbench.errors import BadInput, UsageError
from workbench.findings.progress import Progress
from workbench.findings.report import Judgement, NotJudged, Report
from workbench.findings.tables import summary_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure

    from workbench.findings.finding import Finding
    from workbench.findings.gate import Gate
    from workbench.inputs.paired import PairedInputs
    from workbench.inputs.pairs import Task

#: Prompts over which means are taken, where the task has so many.
REFERENCE = 50


class Chart(Protocol):
    """Whatever draws itself both ways: the charts of `workbench.plotting.charts`, and a `Sweep`."""

    def figure(self) -> Figure: ...

    def picture(self) -> Picture: ...


@dataclass(frozen=True, eq=False)
class Rendered:
    """A chart that is drawn already, so that a report does not draw it again."""

    plotly: Figure
    matplotlib: Picture

    def figure(self) -> Figure:
        return self.plotly

    def picture(self) -> Picture:
        return self.matplotlib


@dataclass(frozen=True)
class Study:
    """One run of a finding on a model.

    Attributes:
        model: what it is measured on; None where the finding needs no model.
        settings: the finding's defaults with the changes of this run.
    """

    finding: Finding
    model: Any
    settings: Mapping[str, Any]
    progress: Progress

    @property
    def n(self) -> int:
        """The setting ``n``: prompts of the study, or draws of a simulation."""
        return self.settings["n"]

    @property
    def seed(self) -> int:
        """The setting ``seed``: of every draw."""
        return self.settings["seed"]

    @property
    def model_name(self) -> str:
        """The model's name, with operators that were swapped in, for titles; empty where there is none."""
        if self.model is None:
            return ""
        return full_name(self.model.provenance.get("name"), self.model.provenance.get("operators"))

    # --- prompts

    def task(self, name: str, n: int, **options: str) -> Task:
        """A task to be drawn n times with the study's seed."""
        import workbench as wb

        return wb.task(name, n=n, seed=self.seed, **options)

    def pairs(self, task: str, n: int, **options: str) -> PairedInputs:
        """n prompt pairs of a task, tokenised for the model.

        Raises:
            NotJudged: the task does not apply to the model's tokeniser, or has fewer pairs.
        """
        from workbench.findings.task_pairs import tokenize

        try:
            return tokenize(self.model, self.task(task, n, **options))
        except (BadInput, UsageError) as error:
            raise NotJudged(f"{task} does not apply to the model's tokeniser ({error})") from error

    def gate(self, pairs: PairedInputs) -> Gate:
        """How the model does on the prompts.

        Raises:
            NotJudged: it does not do the task (`workbench.findings.gate`).
        """
        from workbench.findings.gate import gate

        result = gate(self.model, pairs)
        if not result.passed:
            raise NotJudged(f"{pairs.name} is {result.status} ({result.reason})")
        return result

    def reference(self, pairs: PairedInputs, n: int = REFERENCE) -> PairedInputs:
        """Prompts over which means are taken: the pairs and more of the same draw, n in all, so that a mean is over
        several prompts of each length; the pairs alone where the task has no more."""
        if len(pairs) >= n:
            return pairs
        try:
            return self.pairs(pairs.name, n)
        except NotJudged:
            return pairs

    # --- progress

    def step(self, label: str) -> Callable[..., None]:
        """A ``progress(done, total, ...)`` for a call of the engine, reported under `label`."""

        def tell(done: int, total: int, _: str = "") -> None:
            self.progress(done, total, label)

        return tell

    def announce(self, label: str, probe: Callable[[], object], times: float) -> None:
        """Time `probe`, and report how long `label` will take, which is `times` as much work."""
        began = time.perf_counter()
        probe()
        minutes = (time.perf_counter() - began) * times / 60
        self.progress(0, 0, f"{label}: about {max(1, round(minutes))} min")

    def publish(self, name: str, chart: Chart) -> Rendered:
        """Show a chart before the report is ready; the result may stand in the report's charts."""
        chart = self._named(chart)
        rendered = Rendered(chart.figure(), chart.picture())
        self.progress.publish(name, figure=rendered.figure(), picture=rendered.picture())
        return rendered

    # --- the report

    def report(
        self,
        judgement: Judgement,
        lines: Iterable[str],
        *,
        tables: Mapping[str, pd.DataFrame],
        charts: Mapping[str, Chart] | None = None,
        data: Mapping[str, PairedInputs] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Report:
        """The report: question, model and n, then `lines`, then the verdict with its reason.

        Args:
            lines: what was measured, in words, each number with its interval and n.
            tables: by name; ``summary`` (`summary_table`) is read by the documentation, ``heads`` (`head_columns`,
                ``task``, ``stage`` and, if it has roles, ``role``) by `Circuit.from_run`.
            charts: by name, each drawn by Plotly and by matplotlib.
            data: the prompts that were measured; their hashes go into ``run.json``.
        """
        from workbench.findings.task_pairs import fingerprint

        charts = {name: self._named(chart) for name, chart in (charts or {}).items()}
        hashes = {name: fingerprint(pairs) for name, pairs in (data or {}).items()}
        return Report(
            verdict=judgement.verdict,
            summary="\n".join([*self._heading(), *lines, "", str(judgement)]),
            tables=dict(tables),
            figures={name: chart.figure() for name, chart in charts.items()},
            pictures={name: chart.picture() for name, chart in charts.items()},
            facts={"data": hashes, **(facts or {})} if hashes else dict(facts or {}),
            reason=judgement.reason,
        )

    def not_judged(self, reason: str) -> Report:
        """The report of a run that raised `NotJudged`."""
        judgement = Judgement("not judged", reason)
        table = summary_table({"why nothing was judged": reason}, self.n)  # a reason in the place of a number
        return self.report(judgement, [], tables={"summary": table})

    def _named(self, chart: Chart) -> Chart:
        """A chart with the model and the version at its foot, if it does not say what it is of."""
        from workbench.plotting import charts
        from workbench.plotting.source import Source

        if isinstance(chart, charts.Chart) and chart.source is None:
            return replace(chart, source=Source(self.model_name))
        return chart

    def _heading(self) -> list[str]:
        model = f"Model {self.model_name}, " if self.model_name else ""
        return [self.finding.question, f"{model}n = {self.n}."]
