"""A finding and its report, as plain types: each file in ``circuits/findings`` ends in ``finding = Finding(...)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from workbench.errors import UnknownName, UsageError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure

Verdict = Literal["supported", "undecided", "not supported"]
VERDICTS: tuple[Verdict, ...] = ("supported", "undecided", "not supported")
#: The version of the numbers that the engine computes, raised by hand when a change of the engine moves any of them:
#: results of an older version are then made again. What a finding itself computes has `Finding.results_version`.
RESULTS_VERSION = 1
#: With fewer prompts nothing is judged: the smallest two-sided p-value is ``2 / 2^n``, so below six none can be under
#: 0.05, and a bootstrap interval is hardly more than the range.
FEWEST = 6


class Progress(Protocol):
    """What a finding reports to while it runs: how far it is, and what is already worth looking at."""

    def __call__(self, done: int, total: int, what: str) -> None:
        """`done` of `total` steps of `what` are finished."""
        ...

    def early(
        self,
        name: str,
        *,
        table: pd.DataFrame | None = None,
        figure: Figure | None = None,
        picture: Picture | None = None,
    ) -> None:
        """A table or figure that is ready before the report; the report may replace it under the same name."""
        ...


@dataclass(frozen=True)
class Quiet:
    """A `Progress` that keeps no early results and passes steps on to `tell`, if any."""

    tell: Callable[[int, int, str], None] | None = None

    def __call__(self, done: int, total: int, what: str) -> None:
        if self.tell is not None:
            self.tell(done, total, what)

    def early(self, name: str, *, table: Any = None, figure: Any = None, picture: Any = None) -> None:
        pass


def listening(progress: Callable[[int, int, str], None] | None) -> Progress:
    """Any ``progress(done, total, what)``, or None, as a `Progress`; unless it takes early results, they go nowhere."""
    if progress is not None and hasattr(progress, "early"):
        return cast(Progress, progress)
    return Quiet(progress)


@dataclass(frozen=True)
class Report:
    """What a finding found.

    Attributes:
        verdict: ``supported``, ``undecided`` or ``not supported``, by the rules that the finding's file states.
        summary: a few lines for people, with n, intervals and controls.
        tables: data frames by name; ``heads`` is read by `workbench.results.circuit.Circuit.from_run`.
        figures: Plotly figures by name; pictures: the same names drawn with matplotlib.
        facts: anything else to keep with the run (data hashes, sizes), JSON-able.

    Raises:
        UnknownName: the verdict is none of `VERDICTS`.
    """

    verdict: Verdict
    summary: str
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise UnknownName("verdict", self.verdict, VERDICTS)

    @property
    def exit_code(self) -> int:
        """0 when the run is done (supported or undecided), 1 when the claim is not supported."""
        return int(self.verdict == "not supported")


@dataclass(frozen=True)
class Finding:
    """A named, parameterised experiment.

    Attributes:
        name: as on the command line (``circuit-reuse``).
        title, question: a line each, for people.
        claim: what *supported* would mean, in words.
        thresholds: the numbers the verdict compares with, by name.
        run: ``run(model, settings, progress) -> Report``.
        defaults: the settings and their default values; other settings are refused by `settings`.
        full: the settings of the long form (``--full``).
        source: the paper.
        tasks: the tasks that it draws prompts from, besides those in its settings (``task``, ``tasks``).
        results_version: the version of its numbers, raised by hand when a change of the finding moves any of them.
    """

    name: str
    title: str
    question: str
    claim: str
    thresholds: Mapping[str, Any]
    run: Callable[[Any, dict[str, Any], Progress], Report]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    full: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    tasks: tuple[str, ...] = ()
    results_version: int = 1

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults with `given` in their place.

        Raises:
            UnknownName: a setting that this finding does not have.
            UsageError: a value of another kind than the default.
        """
        for name in given:
            if name not in self.defaults:
                raise UnknownName("setting", name, self.defaults, hint=f"It belongs to the finding {self.name!r}.")
            if not _like(given[name], self.defaults[name]):
                raise UsageError(
                    f"Setting {name!r} of {self.name!r} is {given[name]!r}, and {self.defaults[name]!r} is its kind."
                )
        return {**self.defaults, **given}

    def judge(self, model: Any, settings: Mapping[str, Any], progress: Progress) -> Report:
        """`run`, with its verdict taken back where the prompts are too few for any."""
        report, n = self.run(model, dict(settings), progress), settings.get("n", FEWEST)
        if n >= FEWEST or report.verdict == "undecided":
            return report
        why = f"Undecided: with n = {n} nothing is judged; give at least {FEWEST} prompts (--n {FEWEST})."
        rest, said, _ = report.summary.rpartition(f"{report.verdict.capitalize()}: ")
        return replace(report, verdict="undecided", summary=(rest if said else f"{report.summary}\n\n") + why)

    def not_judged(self, model: Any, settings: Mapping[str, Any], why: str) -> Report:
        """The report of a run that cannot judge the claim: the model does not do the task, or has no such heads."""
        import pandas as pd

        about = f"Model {model.provenance.get('name')}, n = {settings['n']}."
        table = pd.DataFrame([{"quantity": "why nothing was judged", "value": why, "n": settings["n"]}])
        return Report("undecided", f"{self.question}\n{about}\n\nUndecided: {why}.", tables={"summary": table})


def _like(value: Any, default: Any) -> bool:
    """Whether a value can stand for a default: a number for a number, a list for a tuple."""
    if isinstance(default, list | tuple):
        return isinstance(value, list | tuple) and (not default or all(_like(item, default[0]) for item in value))
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return default is None or isinstance(value, type(default))
