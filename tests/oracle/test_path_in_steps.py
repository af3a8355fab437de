"""Path patching in a model that runs its layers once a sampling step, against the procedure with plain hooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from tests.conformance.toys import D_HEAD, ResumableToy, Toy, pictures
from tests.oracle.plain_hooks import head_slice
from workbench.errors import UsageError

PICTURES = pictures(3)
PICTURES = replace(
    PICTURES, clean=tuple(x.double() for x in PICTURES.clean), corrupt=tuple(x.double() for x in PICTURES.corrupt)
)
AT = 3
RECEIVERS = [wb.Head(1, 2), wb.Head(2, 0)]
#: A change of a module's activation in each step, ``(step, activation) -> activation``, and at which end.
Change = tuple[nn.Module, str, Callable[[int, Tensor], Tensor]]


class Neighbours(nn.Module):
    """Mixes positions, as the end of a step may: then a change spreads without any attention."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5 * x.roll(1, 1)


def toy_of(n_steps: int) -> Toy:
    toy = Toy(n_steps=n_steps)
    toy.leave = nn.Sequential(toy.leave, Neighbours())  # pyright: ignore[reportAttributeAccessIssue] - any module will do
    return toy.double()


def metric(toy: Toy, picture: Tensor, example: int, changes: Sequence[Change] = ()) -> float:
    """The metric of a full forward of the plain module with changes by plain hooks."""
    with ExitStack() as stack:
        for module, end, change in changes:
            steps = iter(range(toy.n_steps))

            def before(_: Any, args: Any, change: Any = change, steps: Any = steps) -> Any:
                return (change(next(steps), args[0]), *args[1:])

            def after(_: Any, __: Any, output: Tensor, change: Any = change, steps: Any = steps) -> Tensor:
                return change(next(steps), output)

            register = module.register_forward_pre_hook if end == "input" else module.register_forward_hook
            stack.callback(register(before if end == "input" else after).remove)  # pyright: ignore[reportArgumentType] - either
        logits = toy(picture[None])[0]
    return float(logits[PICTURES.answer[example][0]] - logits[PICTURES.wrong[example][0]])


def reading(into: list[Tensor]) -> Callable[[int, Tensor], Tensor]:
    def read(_: int, x: Tensor) -> Tensor:
        into.append(x.clone())
        return x

    return read


def published(
    toy: Toy, example: int, steps: Sequence[int], sender: wb.Head, receivers: Any, into: str, freeze: str, mlps: str
) -> float:
    """The metric of the clean picture along the sender's direct paths, patched in `steps`."""
    clean, corrupt, blocks = PICTURES.clean[example], PICTURES.corrupt[example], list(toy.blocks.children())
    base: dict[int, list[Tensor]] = {i: [] for i in range(3)}
    source: dict[int, list[Tensor]] = {i: [] for i in range(3)}
    mlp_out: dict[int, list[Tensor]] = {i: [] for i in range(3)}
    parts: Any = blocks
    metric(toy, corrupt, example, [(b.o, "input", reading(source[i])) for i, b in enumerate(parts)])
    reads: list[Change] = [(b.o, "input", reading(base[i])) for i, b in enumerate(parts)]
    metric(toy, clean, example, [*reads, *((b.mlp, "output", reading(mlp_out[i])) for i, b in enumerate(parts))])
    rows: Any = slice(None) if freeze == "all" else slice(AT, AT + 1)

    def frozen(layer: int) -> Callable[[int, Tensor], Tensor]:
        def change(step: int, z: Tensor) -> Tensor:
            z, columns = z.clone(), head_slice(sender.index, D_HEAD)
            z[:, rows] = base[layer][step][:, rows]
            if layer == sender.layer and step in steps:
                z[:, AT, columns] = source[layer][step][:, AT, columns]
            return z

        return change

    first: list[Change] = [(b.o, "input", frozen(i)) for i, b in enumerate(parts)]
    if mlps == "freeze":
        first += [(b.mlp, "output", lambda step, _, out=mlp_out[i]: out[step]) for i, b in enumerate(parts)]
    if receivers is None:
        return metric(toy, clean, example, first)
    inputs: dict[int, list[Tensor]] = {head.layer: [] for head in receivers}
    reads = [(getattr(parts[layer], into), "output", reading(xs)) for layer, xs in inputs.items()]
    metric(toy, clean, example, [*first, *reads])

    def receive(layer: int) -> Callable[[int, Tensor], Tensor]:
        def change(step: int, x: Tensor) -> Tensor:
            if (step, layer) <= (min(steps), sender.layer):
                return x
            x = x.clone()
            for head in (head for head in receivers if head.layer == layer):
                columns = head_slice(head.index, D_HEAD)
                x[:, rows, columns] = inputs[layer][step][:, rows, columns]
            return x

        return change

    return metric(toy, clean, example, [(getattr(parts[i], into), "output", receive(i)) for i in inputs])


@pytest.mark.parametrize("n_steps", [1, 2, 3])
@pytest.mark.parametrize("freeze", ["position", "all"])
@pytest.mark.parametrize("mlps", ["recompute", "freeze"])
@pytest.mark.parametrize("into", [None, "q", "k", "v"])
def test_every_sender_in_every_step_and_in_one(n_steps: int, freeze: Any, mlps: Any, into: Any) -> None:
    toy = toy_of(n_steps)
    receivers = None if into is None else RECEIVERS
    arguments: dict[str, Any] = {"into": into, "position": AT, "freeze": freeze, "mlps": mlps}
    plain: Any = (receivers, into or "q", freeze, mlps)
    together = wb.path_patch(ResumableToy(toy), PICTURES, receivers, **arguments)
    assert together.axes == ("layer", "head") and together.values.shape == (3, 3, 3)
    for layer, head, example in np.ndindex(3, 3, 3):
        if n_steps == 1 and into is not None and layer == 2:
            assert np.isnan(together.values[layer, head]).all()
            continue
        value = published(toy, example, range(n_steps), wb.Head(layer, head), *plain)
        assert together.values[layer, head, example] == pytest.approx(value, abs=1e-9)
    assert np.nanmax(np.abs(together.delta)) > 1e-3
    if n_steps == 1:
        return
    apart = wb.path_patch(ResumableToy(toy), PICTURES, receivers, by=["step", "head"], **arguments)
    assert apart.axes == ("step", "layer", "head") and apart.info["by"] == ["step", "layer", "head"]
    for step, layer, head in np.ndindex(n_steps, 3, 3):
        if into is not None and (step, layer) >= (n_steps - 1, 2):
            assert np.isnan(apart.values[step, layer, head]).all()
            continue
        for example in range(2):
            value = published(toy, example, [step], wb.Head(layer, head), *plain)
            assert apart.values[step, layer, head, example] == pytest.approx(value, abs=1e-9)
    some = wb.path_patch(ResumableToy(toy), PICTURES, receivers, steps=[n_steps - 1, 0], **arguments)
    value = published(toy, 0, [0, n_steps - 1], wb.Head(1, 1), *plain)
    assert some.values[1, 1, 0] == pytest.approx(value, abs=1e-9) and some.info["steps"] == [n_steps - 1, 0]


def test_what_a_model_does_not_have_is_refused() -> None:
    one, two = ResumableToy(Toy()), ResumableToy(Toy(n_steps=2))
    with pytest.raises(UsageError, match="by='step': expected"):
        wb.path_patch(one, pictures(), by="step")
    with pytest.raises(UsageError, match="steps=2: expected a step from 0 to 1"):
        wb.path_patch(two, pictures(), steps=2)
    with pytest.raises(UsageError, match="no head sends to layer 0"):
        wb.path_patch(one, pictures(), [wb.Head(0, 1)])
    assert np.isfinite(wb.path_patch(two, pictures(), [wb.Head(0, 1)], by="step").values[0]).all()
    assert torch.is_grad_enabled()
