"""What the memories of the Miras family have in common: W is trained on each pair, by the steps of the operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.operator import Operator
from workbench.attention.primitives.memory import Memory as Steps
from workbench.attention.settings import Setting, written

from .rule import Read, Settings, State, Write


def settings_of(operator: Operator) -> dict[str, Setting]:
    """Those of an operator but `unit`: keys are taken as they come."""
    return {name: setting for name, setting in operator.settings.items() if name != "unit"}


def printed_of(operator: Operator) -> dict[str, Any]:
    """The operator's own settings, which are as printed."""
    return {name: setting.default for name, setting in settings_of(operator).items()}


def operator_text(operator: Operator, settings: Settings) -> str:
    """The operator with these settings, and keys as they come."""
    own = {name: value for name, value in settings.items() if name in operator.settings}
    return written(operator.name, {**own, "unit": False}, operator.settings)


def functions(steps: Steps) -> tuple[Write, Read]:
    """Writing and reading, from the operator's steps. What is stored is its state, ``[trial, d_value, d_key]``.

    Position by position, ``e = W k − v`` and then the step.
    """

    def write(state: State | None, k: Tensor, v: Tensor, settings: Settings) -> State:
        call, rates = Call(settings=settings), _rates(settings, k)
        if state is None:
            state = steps.start(k.new_zeros(k.shape[0], v.shape[2], k.shape[2]), call)
        for t in range(k.shape[1]):
            error = steps.weights(state, call) @ k[:, t, :, None] - v[:, t, :, None]
            state = steps.step(state, error, k[:, t, None], rates, call)
        return state

    def read(state: State, q: Tensor, settings: Settings) -> Tensor:
        return q @ steps.weights(state, Call(settings=settings)).mT

    return write, read


def _rates(settings: Settings, like: Tensor) -> Mapping[str, Tensor]:
    rates = {name: settings.get(name) for name in ("eta", "alpha", "delta")}
    return {name: like.new_tensor(rate) for name, rate in rates.items() if rate is not None}
