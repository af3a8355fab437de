"""`Report`: a verdict with its reason, a summary in words, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from workbench import arguments

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture
    from plotly.graph_objects import Figure

Verdict = Literal["supported", "undecided", "not supported", "not judged"]
VERDICTS: tuple[Verdict, ...] = ("supported", "undecided", "not supported", "not judged")
#: With a smaller n nothing is judged: the smallest two-sided p-value is ``2 / 2^n``, so below six none can be under
#: 0.05, and a bootstrap interval is hardly more than the range.
FEWEST = 6


class NotJudged(Exception):
    """The claim cannot be judged in this run: the model does not do the task, or has no such heads.

    A finding raises it anywhere in its ``run(study)``, with the reason as a clause ("ioi is not done by this model").
    """


@dataclass(frozen=True)
class Judgement:
    """A verdict and its reason, a clause without a full stop. Made by `workbench.findings.judge`."""

    verdict: Verdict
    reason: str

    def __str__(self) -> str:
        """As the last line of a summary: ``Supported: faithfulness 0.80 [0.70, 0.90] is above 0.5.``"""
        return f"{self.verdict.capitalize()}: {self.reason}."


@dataclass(frozen=True)
class Report:
    """The result of a finding.

    Attributes:
        verdict: one of `VERDICTS`, by the rules that the finding's file states.
        summary: a few lines for people, with n, intervals and controls.
        tables: data frames by name; ``summary`` has the main numbers, ``heads`` is read by
            `workbench.results.circuit.Circuit.from_run`.
        figures: Plotly figures by name; pictures: the same names drawn with matplotlib.
        facts: anything else for ``run.json`` (hashes of the prompts, sizes), JSON-able.
        reason: why that verdict, as a clause; empty where the report does not say.

    Raises:
        UnknownName: the verdict is none of `VERDICTS`.

    Examples:
        >>> report = wb.Report("undecided", "n = 6: the interval holds the threshold.")
        >>> report.verdict, report.exit_code
        ('undecided', 0)
    """

    verdict: Verdict
    summary: str
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""

    def __post_init__(self) -> None:
        arguments.one_of("verdict", self.verdict, VERDICTS)
        for name in ("summary", "reason"):
            arguments.text(name, getattr(self, name), empty=True)
        for name in ("tables", "figures", "pictures", "facts"):
            arguments.mapping(name, getattr(self, name), "a mapping from names")

    @property
    def exit_code(self) -> int:
        """1 when the claim is not supported, else 0: supported, undecided, or not judged."""
        return int(self.verdict == "not supported")

    def with_judgement(self, judgement: Judgement) -> Report:
        """The same report with another judgement, which is then the last line of its summary."""
        body = self.summary.removesuffix(str(Judgement(self.verdict, self.reason))).rstrip()
        summary = f"{body}\n\n{judgement}"
        return replace(self, verdict=judgement.verdict, reason=judgement.reason, summary=summary)
