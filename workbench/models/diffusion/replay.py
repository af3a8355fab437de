"""The calls of a transformer in one run of its pipeline, to be answered again without computing them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from workbench.errors import HookError
from workbench.models.precision import same_tensor


@dataclass(frozen=True)
class _Call:
    """One call: its step, its tensors by the names of their arguments, and what it gave."""

    step: int
    inputs: Mapping[str, Tensor]
    output: Any


@dataclass
class RecordedCalls:
    """What a transformer was called with, and gave, in one run of a pipeline.

    A later run is answered from here up to a step: the pipeline itself runs whole (schedule, guidance, scheduler,
    decoder), so that nothing is assumed of its loop, and each call has to be the recorded one, bit for bit.
    """

    calls: list[_Call] = field(default_factory=list)

    @property
    def n_steps(self) -> int:
        """How many steps the run had."""
        return max((call.step for call in self.calls), default=-1) + 1

    def record(self, forward: Callable[[], Any], arguments: Mapping[str, Any], step: int) -> Any:
        """Compute a call, and record it. What it has in common with the call before is stored once."""
        earlier = self.calls[-1].inputs if self.calls else {}
        inputs = {
            name: earlier[name] if name in earlier and same_tensor(x, earlier[name]) else x.detach().clone()
            for name, x in _tensors(arguments).items()
        }
        output = forward()
        self.calls.append(_Call(step, inputs, copy.deepcopy(output)))
        return output

    def until(self, step: int) -> Callable[[Callable[[], Any], Mapping[str, Any], int], Any]:
        """What answers the calls of steps before `step`, and has the others computed.

        Raises:
            HookError: when called, with something else than in the recorded run.
        """
        calls = iter(self.calls)

        def answer(forward: Callable[[], Any], arguments: Mapping[str, Any], now: int) -> Any:
            if now >= step:
                return forward()
            call, tensors = next(calls, None), _tensors(arguments)
            if call is None or call.step != now or call.inputs.keys() != tensors.keys():
                raise HookError(f"The pipeline called its transformer in step {now} as it did not in the first run.")
            if different := [name for name, x in tensors.items() if not same_tensor(x, call.inputs[name])]:
                raise HookError(
                    f"The pipeline called its transformer in step {now} with another {different[0]} than in the first "
                    "run. Pass the generator on to the pipeline, and draw nothing elsewhere."
                )
            return copy.deepcopy(call.output)

        return answer


def _tensors(arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors among arguments, also inside of mappings, lists and tuples, by their places."""
    tensors: dict[str, Tensor] = {}
    for name, value in arguments.items():
        if isinstance(value, Tensor):
            tensors[name] = value
        elif isinstance(value, Mapping):
            tensors |= _tensors({f"{name}.{key}": entry for key, entry in value.items()})
        elif isinstance(value, list | tuple):
            tensors |= _tensors({f"{name}.{i}": entry for i, entry in enumerate(value)})
    return tensors
