"""One measure of progress over all tasks, so that the time left is that of the whole report."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from workbench.findings import Study
from workbench.inputs.paired import PairedInputs
from workbench.inputs.pairs import Task

from ..stages import work

#: The work of a forward of one token, in the units of `circuits.stages.work`: a layer row each.
FORWARD = 2
#: After a stage's name: the same stage in the two halves.
ANEW = ", anew"
GATE, ABLATION = "gate", "ablation"


class Meter:
    """Counts work done and tells the study's progress."""

    def __init__(self, study: Study, tasks: Mapping[str, Task], pairs: Mapping[str, PairedInputs]) -> None:
        self.progress, self.n = study.progress, {name: len(inputs) for name, inputs in pairs.items()}
        layers, heads = study.model.n_layers, study.model.n_heads
        self.parts: dict[tuple[str, str], int] = {}
        for name, inputs in pairs.items():
            tokens = sum(map(len, inputs.clean))
            self.parts[name, GATE] = FORWARD * layers * tokens
            for stage, size in work(inputs, tasks[name].stages, layers, heads).items():
                self.parts |= {(name, stage): size, (name, stage + ANEW): size}
            self.parts[name, ABLATION] = len(pairs) * (1 + study.settings["random_sets"]) * layers * tokens
        self.done = dict.fromkeys(self.parts, 0)
        self.title = f"{study.finding.name}, {len(tasks)} tasks"

    def of(self, task: str, part: str) -> Callable[[int], None]:
        """A progress that is told how many prompts of a part of a task are finished."""

        def tell(examples: int) -> None:
            self.done[task, part] = self.parts[task, part] * examples // self.n[task]
            self._tell()

        return tell

    def stages(self, task: str, suffix: str = "") -> Callable[[str, int], None]:
        """The same for the stages of a task (`suffix`: `ANEW` in the two halves)."""
        return lambda stage, examples: self.of(task, stage + suffix)(examples)

    def finished(self, task: str) -> None:
        """Whatever of a task's own circuit was not run will not be."""
        self.done |= {key: size for key, size in self.parts.items() if key[0] == task and key[1] != ABLATION}
        self._tell()

    def all_finished(self) -> None:
        self.done = dict(self.parts)
        self._tell()

    def _tell(self) -> None:
        self.progress(sum(self.done.values()), sum(self.parts.values()), self.title)
