"""Path patching and screens of a diffusion transformer, against their definitions written out with plain hooks on a
sampling loop that takes one row and one pass at a time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from torch import Tensor

import workbench as wb
from tests.oracle.plain_sampling import Change, latents_of, plain_sample, random_dit

STEPS, LAYERS, HEADS, D_HEAD = 2, 3, 4, 8
PAIRS = wb.latents([3, 0], other=[1, 4], seed=5)
#: Row and column of a patch in the pass with the label, and its index.
AT = 6
RECEIVERS = [wb.Head(1, 2), wb.Head(2, 0)]
#: A module's name inside a block, the end that is changed, and its change in each step and pass.
Part = tuple[int, str, str, Change]


def mass(outputs: Tensor, example: Any) -> Tensor:
    return outputs.square().sum(-1)


@pytest.fixture(scope="module", params=[None, 2.0], ids=["one pass", "guidance"])
def model(request: Any) -> wb.HookedDiT:
    return wb.HookedDiT(random_dit(), steps=STEPS, guidance=request.param)


def plain(model: wb.HookedDiT, example: int, run: str, parts: Sequence[Part] = ()) -> float:
    """The metric of one sample, with changes by plain hooks."""
    n_passes = 1 if model.sampling.guidance is None else 2
    with ExitStack() as stack:
        for layer, name, end, change in parts:
            calls = iter(range(STEPS * n_passes))

            def before(_: Any, args: Any, change: Any = change, calls: Any = calls) -> Any:
                return (change(*divmod(next(calls), n_passes), args[0]), *args[1:])

            def after(_: Any, __: Any, output: Tensor, change: Any = change, calls: Any = calls) -> Tensor:
                return change(*divmod(next(calls), n_passes), output)

            module: Any = model.hf.get_submodule(f"blocks.{layer}.{name}")
            register = module.register_forward_pre_hook if end == "input" else module.register_forward_hook
            stack.callback(register(before if end == "input" else after).remove)
        label = (PAIRS.classes if run == "clean" else PAIRS.other or ())[example]
        assert isinstance(label, int)
        noise = latents_of(PAIRS, "clean", model.hf)[example]
        image = plain_sample(model.hf, noise, label, STEPS, model.sampling.guidance)
    return float(mass(image.reshape(1, -1), None))


def reading(into: dict[tuple[int, int], Tensor]) -> Change:
    def read(step: int, branch: int, x: Tensor) -> Tensor:
        into[step, branch] = x.clone()
        return x

    return read


def columns_of(head: int) -> slice:
    return slice(head * D_HEAD, (head + 1) * D_HEAD)


def each_layer() -> list[dict[tuple[int, int], Tensor]]:
    return [{} for _ in range(LAYERS)]


def published(
    model: wb.HookedDiT, example: int, steps: Sequence[int], sender: wb.Head, receivers: Any, into: str, settings: Any
) -> float:
    """The metric of the clean sample along the sender's direct paths, patched in `steps` at one patch of the labelled
    pass."""
    freeze, mlps = settings
    base, source, mlp_out = each_layer(), each_layer(), each_layer()
    plain(model, example, "corrupt", [(i, "attn.o_proj", "input", reading(source[i])) for i in range(LAYERS)])
    reads = [(i, "attn.o_proj", "input", reading(base[i])) for i in range(LAYERS)]
    plain(model, example, "clean", [*reads, *((i, "mlp", "output", reading(mlp_out[i])) for i in range(LAYERS))])

    def rows(branch: int) -> slice:
        """The positions that are frozen, and received at, in a pass."""
        return slice(None) if freeze == "all" else slice(AT, AT + 1) if branch == 0 else slice(0, 0)

    def frozen(layer: int) -> Change:
        def change(step: int, branch: int, z: Tensor) -> Tensor:
            z = z.clone()
            z[:, rows(branch)] = base[layer][step, branch][:, rows(branch)]
            if layer == sender.layer and step in steps and branch == 0:
                columns = columns_of(sender.index)
                z[:, AT, columns] = source[layer][step, 0][:, AT, columns]
            return z

        return change

    first: list[Part] = [(i, "attn.o_proj", "input", frozen(i)) for i in range(LAYERS)]
    if mlps == "freeze":
        first += [(i, "mlp", "output", lambda s, b, _, out=mlp_out[i]: out[s, b]) for i in range(LAYERS)]
    if receivers is None:
        return plain(model, example, "clean", first)
    inputs: dict[int, dict[tuple[int, int], Tensor]] = {head.layer: {} for head in receivers}
    name = f"attn.{into}_proj"
    plain(model, example, "clean", [*first, *((i, name, "output", reading(x)) for i, x in inputs.items())])

    def receive(layer: int) -> Change:
        def change(step: int, branch: int, x: Tensor) -> Tensor:
            if (step, layer) <= (min(steps), sender.layer):
                return x
            x = x.clone()
            for columns in (columns_of(head.index) for head in receivers if head.layer == layer):
                x[:, rows(branch), columns] = inputs[layer][step, branch][:, rows(branch), columns]
            return x

        return change

    return plain(model, example, "clean", [(i, name, "output", receive(i)) for i in inputs])


@pytest.mark.parametrize("into", [None, "q", "k", "v"])
@pytest.mark.parametrize("settings", [("position", "recompute"), ("all", "freeze")], ids=str)
def test_paths_are_those_of_the_procedure(model: wb.HookedDiT, into: Any, settings: Any) -> None:
    receivers, (freeze, mlps) = None if into is None else RECEIVERS, settings
    arguments: dict[str, Any] = {"into": into, "position": AT, "freeze": freeze, "mlps": mlps, "metric": mass}
    together = wb.path_patch(model, PAIRS, receivers, **arguments, cache=False)
    apart = wb.path_patch(model, PAIRS, receivers, by=["step", "head"], **arguments, cache=False)
    assert together.axes == ("layer", "head")
    assert apart.axes == ("step", "layer", "head")
    for layer, head in [(0, 1), (1, 2), (2, 3)]:
        value = published(model, 1, range(STEPS), wb.Head(layer, head), receivers, into or "q", settings)
        assert together.values[layer, head, 1] == pytest.approx(value, rel=1e-9)
    for step, layer, head in [(0, 1, 3), (1, 0, 0)]:
        value = published(model, 0, [step], wb.Head(layer, head), receivers, into or "q", settings)
        assert apart.values[step, layer, head, 0] == pytest.approx(value, rel=1e-9)
    assert np.nanmax(np.abs(together.delta)) > 1e-4
    assert np.isnan(apart.values[STEPS - 1, LAYERS - 1]).all() == (into is not None)


@pytest.mark.parametrize("by", ["head", ["step", "head"]], ids=str)
def test_a_screen_estimates_the_slope_and_runs_the_largest(model: wb.HookedDiT, by: Any) -> None:
    """The slope, from the base run towards the patched one, by differences of plain samples."""
    screen = wb.screen(model, PAIRS, by=by, metric=mass, direction="denoise", confirm=0.25, cache=False)
    exact = wb.sweep(model, PAIRS, by=by, metric=mass, direction="denoise", cache=False)
    each: list[tuple[dict[str, Any], Any]] = []
    for example in range(2):
        z: dict[str, Any] = {"clean": each_layer(), "corrupt": each_layer()}
        for run, layers in z.items():
            plain(model, example, run, [(i, "attn.o_proj", "input", reading(layers[i])) for i in range(LAYERS)])
        each.append((z, example))

    def moved(layer: int, head: int, steps: Any, z: Any, by_how_much: float) -> Change:
        def change(step: int, branch: int, x: Tensor) -> Tensor:
            x, columns = x.clone(), columns_of(head)
            if step in steps:
                way = z["clean"][layer][step, branch] - z["corrupt"][layer][step, branch]
                x[..., columns] += by_how_much * way[..., columns]
            return x

        return change

    def at(z: Any, example: int, layer: int, head: int, steps: Any, by_how_much: float) -> float:
        part = (layer, "attn.o_proj", "input", moved(layer, head, steps, z, by_how_much))
        return plain(model, example, "corrupt", [part])

    for index in [(0, 0), (1, 3), (2, 1)]:
        for step in range(STEPS) if by != "head" else [None]:
            steps = range(STEPS) if step is None else [step]
            for z, example in each:
                place = (*(() if step is None else (step,)), *index, example)
                if by == "head":  # in every step at once: to first order the sum of those of each step, from the base
                    parts = [
                        (at(z, example, *index, [s], 1e-4) - at(z, example, *index, [s], -1e-4)) / 2e-4 for s in steps
                    ]
                    slope = sum(parts)
                else:
                    slope = (at(z, example, *index, steps, 1e-4) - at(z, example, *index, steps, -1e-4)) / 2e-4
                assert screen.estimate.delta[place] == pytest.approx(slope, rel=1e-4, abs=1e-6)
    ranks = np.argsort(-np.abs(screen.estimate.mean_delta).ravel(), kind="stable")
    n = int(np.ceil(0.25 * ranks.size))
    assert screen.confirmed.sum() == n
    assert set(np.flatnonzero(screen.confirmed)) == set(ranks[:n])
    np.testing.assert_allclose(screen.exact.values[screen.confirmed], exact.values[screen.confirmed], rtol=1e-10)
    assert np.isnan(screen.exact.values[~screen.confirmed]).all()
