"""`Finding`: a named experiment with its question, claim, thresholds and settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench import arguments
from workbench.errors import UnknownName, UsageError
from workbench.findings.progress import Progress, Quiet
from workbench.findings.report import FEWEST, Judgement, NotJudged, Report
from workbench.findings.study import Study
from workbench.findings.threshold import Threshold

if TYPE_CHECKING:
    from workbench.models.language import HookedLM

#: The version of the numbers that the engine computes, raised by hand when a change of the engine moves any of them:
#: results of an older version are then made again. What a finding itself computes has `Finding.results_version`.
RESULTS_VERSION = 1


@dataclass(frozen=True)
class Finding:
    """A named, parameterised experiment: the last object of a file in ``circuits/findings``.

    Attributes:
        name: as on the command line, and as the file is named (``circuit-reuse``).
        title, question: a line each, for people.
        claim: what *supported* would mean, in words.
        thresholds: the rules of the verdict by name, as `workbench.findings.judge` takes them.
        run: ``run(study) -> Report``; it may raise `NotJudged`.
        defaults: the settings and their default values, ``n`` and ``seed`` among them; no others are accepted.
        full: the settings of the long form (``--full``).
        source: the paper.
        tasks: the tasks that it draws prompts from, besides those in its settings (``task``, ``tasks``).
        files: the settings that may be paths: a run stores such a file by its own name and its hash.
        results_version: the version of its numbers, raised by hand when a change of the finding moves any of them.
        needs_model: False where it simulates, or brings models of its own: `Study.model` is then None.

    Examples:
        >>> from workbench.registry import FINDINGS
        >>> finding = FINDINGS["head-ablation"]
        >>> finding.name, finding.settings({"n": 6})["n"]
        ('head-ablation', 6)
    """

    name: str
    title: str
    question: str
    claim: str
    thresholds: Mapping[str, Threshold]
    run: Callable[[Study], Report]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    full: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    tasks: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    results_version: int = 1
    needs_model: bool = True

    def __post_init__(self) -> None:
        for name in ("name", "title", "question", "claim", "source"):
            arguments.text(name, getattr(self, name), empty=name != "name")
        for name in ("thresholds", "defaults", "full"):
            arguments.mapping(name, getattr(self, name), "a mapping from names")
        arguments.function("run", self.run, optional=False)
        if arguments.sequence("tasks", self.tasks, "names of tasks"):
            object.__setattr__(self, "tasks", arguments.texts("tasks", self.tasks, "names of tasks"))
        if arguments.sequence("files", self.files, "names of settings"):
            object.__setattr__(self, "files", arguments.texts("files", self.files, "names of settings"))
        arguments.whole_number("results_version", self.results_version, at_least=1)
        arguments.flag("needs_model", self.needs_model)

    def settings(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults with `changes` in their place.

        Raises:
            UnknownName: a setting that this finding does not have.
            UsageError: a value of another kind than the default.
        """
        return self._with_changes("changes", changes)

    def report(
        self, model: HookedLM | Any, settings: Mapping[str, Any] | None = None, progress: Progress | None = None
    ) -> Report:
        """The report of one run.

        Where `run` raises `NotJudged`, and with an ``n`` below `FEWEST`, its verdict is ``not judged``.

        Args:
            model: what it is measured on; None where it needs no model.
            settings: changes of the defaults.
            progress: receives steps, and tables and figures that are ready early.

        Raises:
            UnknownName, UsageError: as `settings` does.
        """
        if model is not None and not self.needs_model:
            raise arguments.refusal("model", model, "None", f"The finding {self.name!r} needs no model.")
        if model is not None and not hasattr(model, "provenance"):
            raise arguments.refusal("model", model, "a model of the workbench", "Use wb.load(name).")
        arguments.function("progress", progress)
        changes = {} if settings is None else settings
        study = Study(self, model, self._with_changes("settings", changes), progress or Quiet())
        try:
            report = self.run(study)
        except NotJudged as reason:
            return study.not_judged(str(reason))
        n = study.settings.get("n", FEWEST)
        if n >= FEWEST:
            return report
        return report.with_judgement(
            Judgement("not judged", f"n = {n} is too few; use at least {FEWEST} (--n {FEWEST})")
        )

    def _with_changes(self, argument: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults with changes, which were given for the `argument` of that name."""
        for name in arguments.mapping(argument, changes, "a mapping from settings to values"):
            if name not in self.defaults:
                expected = f"settings of the finding {self.name!r}, {arguments.listing(list(self.defaults))}"
                raise UnknownName("setting", str(name), self.defaults, argument=argument, expected=expected)
            if not _same_kind(changes[name], self.defaults[name]):
                raise UsageError(
                    f"{name}={changes[name]!r}: expected {_kind(self.defaults[name])}, such as "
                    f"{self.defaults[name]!r}, for the finding {self.name!r}."
                )
        return {**self.defaults, **changes}


def _same_kind(value: Any, default: Any) -> bool:
    """Whether a value can stand for a default: a number for a number, a list for a tuple."""
    if isinstance(default, list | tuple):
        return isinstance(value, list | tuple) and (not default or all(_same_kind(item, default[0]) for item in value))
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return default is None or isinstance(value, type(default))


def _kind(default: Any) -> str:
    """What is expected in the place of a default, in words."""
    kinds = {bool: "True or False", int: "a whole number", float: "a number", str: "a string"}
    return kinds.get(type(default), "a list")
