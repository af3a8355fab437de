"""Models that run their layers once a sampling step: edits and recordings of one step, of several and of every step,
against plain hooks on the plain module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.conformance.toys import D_HEAD, HEADS, ResumableToy, Toy, ToyBaseRun, pictures
from tests.oracle.plain_hooks import head_slice
from workbench.cache.keys import digest
from workbench.errors import UnknownName, UsageError
from workbench.models.pattern_formula import PatternFormula
from workbench.models.resumable import Tap
from workbench.models.steps import at_step, hook_at_depth, split_step

PICTURES = pictures(4)
DOUBLE = replace(
    PICTURES,
    clean=tuple(x.double() for x in PICTURES.clean),
    corrupt=tuple(x.double() for x in PICTURES.corrupt),
)
LAYERS, LENGTH = 3, 6
VECTOR = torch.linspace(-2, 2, D_HEAD, dtype=torch.float64)


class CachedToy(ResumableToy):
    """A toy whose activations and results may be cached; `runs` counts what it computes."""

    runs = 0

    def identity(self) -> bytes:
        return digest("toy", self.n_layers, self.n_steps)

    def base_run(self, inputs: Tensor, taps: Mapping[int, Mapping[str, Tap]] | None = None) -> ToyBaseRun:
        self.runs += 1
        return super().base_run(inputs, taps)


@contextmanager
def hooked_steps(toy: Toy, site: str, layer: int, change: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Pass a site of a layer, ``[batch, pos, HEADS · D_HEAD]``, through ``change(step, x)`` by a plain hook."""
    block: Any = toy.blocks[layer]
    calls = iter(range(toy.n_steps))
    if site == "z":
        handle = block.o.register_forward_pre_hook(lambda _, args: (change(next(calls), args[0]), *args[1:]))
    else:
        handle = getattr(block, site).register_forward_hook(lambda _, __, output: change(next(calls), output))
    try:
        yield
    finally:
        handle.remove()


def read(toy: Toy, picture: Tensor, site: str, layer: int) -> list[Tensor]:
    """The site in each step."""
    activations: list[Tensor] = []
    with hooked_steps(toy, site, layer, lambda _, x: activations.append(x.clone()) or x):
        toy(picture[None])
    return activations


def score(toy: Toy, picture: Tensor, example: int) -> float:
    logits = toy(picture[None])[0]
    return float(logits[PICTURES.answer[example][0]] - logits[PICTURES.wrong[example][0]])


def plain_value(
    toy: Toy, inputs: wb.PairedInputs, kind: str, site: str, steps: Sequence[int], layer: int, head: int, example: int
) -> float:
    """The metric after one head was edited in `steps`, at every position, from a full forward of the plain module."""
    base = inputs.corrupt[example] if kind == "patch" else inputs.clean[example]
    source = read(toy, inputs.clean[example], site, layer)
    others = [read(toy, picture, site, layer) for picture in inputs.clean]

    def change(step: int, x: Tensor) -> Tensor:
        if step not in steps:
            return x
        x, columns = x.clone(), head_slice(head, D_HEAD)
        own = x[..., columns]
        new = {
            "patch": lambda: source[step][..., columns],
            "zero": lambda: torch.zeros_like(own),
            "mean": lambda: torch.stack([other[step][..., columns] for other in others]).mean(0),
            "scale": lambda: own * -0.5,
            "add": lambda: own + VECTOR.to(own),
        }
        x[..., columns] = new[kind]()
        return x

    with hooked_steps(toy, site, layer, change):
        return score(toy, base, example)


ARGUMENTS: dict[str, dict[str, Any]] = {"scale": {"factor": -0.5}, "add": {"vector": VECTOR}}


@pytest.mark.parametrize("n_steps", [2, 3])
@pytest.mark.parametrize("kind", ["patch", "zero", "mean", "scale", "add"])
@pytest.mark.parametrize("site", ["z", "v"])
def test_every_step_at_once_and_one_step_at_a_time_are_exact(n_steps: int, kind: str, site: str) -> None:
    """Every cell of the grid, in float64."""
    toy = Toy(n_steps=n_steps).double()
    arguments: dict[str, Any] = {"site": site, "edit": kind, **ARGUMENTS.get(kind, {})}
    together = wb.sweep(ResumableToy(toy), DOUBLE, by="head", **arguments)
    apart = wb.sweep(ResumableToy(toy), DOUBLE, by=["head", "step"], **arguments)
    heads = "kv_head" if site == "v" else "head"
    assert together.axes == ("layer", heads) and apart.axes == ("step", "layer", heads)
    for layer, head, example in product(range(LAYERS), range(HEADS), range(2)):
        where = (layer, head, example)
        value = plain_value(toy, DOUBLE, kind, site, range(n_steps), *where)
        assert together.values[where] == pytest.approx(value, abs=1e-9)
        for step in range(n_steps):
            value = plain_value(toy, DOUBLE, kind, site, [step], *where)
            assert apart.values[(step, *where)] == pytest.approx(value, abs=1e-9)
    assert np.abs(together.delta).max() > 1e-2 and np.abs(apart.delta).max() > 1e-2
    assert np.abs(together.delta - apart.delta[0]).max() > 1e-3


@pytest.mark.parametrize("n_steps", [2, 3])
def test_in_single_precision_too(n_steps: int) -> None:
    toy = Toy(n_steps=n_steps)
    together, apart = (wb.sweep(ResumableToy(toy), PICTURES, by=by) for by in (["head"], ["step", "head"]))
    for layer, head, example in product(range(LAYERS), range(HEADS), range(4)):
        where = (layer, head, example)
        value = plain_value(toy, PICTURES, "patch", "z", range(n_steps), *where)
        assert together.values[where] == pytest.approx(value, abs=1e-5)
        value = plain_value(toy, PICTURES, "patch", "z", [1], *where)
        assert apart.values[(1, *where)] == pytest.approx(value, abs=1e-5)


def test_some_steps_are_edited_or_swept() -> None:
    toy = Toy(n_steps=3).double()
    resumable = ResumableToy(toy)
    some = wb.sweep(resumable, DOUBLE, steps=[0, 2])
    assert some.info["steps"] == [0, 2] and some.info["n_steps"] == 3
    for layer, head in product(range(LAYERS), range(HEADS)):
        value = plain_value(toy, DOUBLE, "patch", "z", [0, 2], layer, head, 1)
        assert some.values[layer, head, 1] == pytest.approx(value, abs=1e-9)
    full = wb.sweep(resumable, DOUBLE, by=["step", "head"])
    part = wb.sweep(resumable, DOUBLE, by=["step", "head"], steps=[2, 1])
    assert part.labels["step"] == ("2", "1")
    np.testing.assert_allclose(part.values, full.values[[2, 1]], atol=1e-12)
    one = wb.sweep(resumable, DOUBLE, steps=1)
    np.testing.assert_allclose(one.values, full.values[1], atol=1e-12)
    masked = wb.sweep(resumable, DOUBLE, by=["step", "head"], where=np.eye(3, dtype=bool)[..., None] & np.ones(3, bool))
    assert np.isfinite(masked.values).sum() == 9 * len(DOUBLE)
    at_once = wb.sweep(resumable, DOUBLE, by="layer", site="resid_mid", positions=[1, 4], steps=[0, 1])
    for layer in range(LAYERS):
        edits = [wb.Edit("resid_mid", layer, position=p, step=(0, 1)) for p in (1, 4)]
        out = wb.run(resumable, DOUBLE, edits, base="corrupt")
        np.testing.assert_allclose(at_once.values[layer], out.scores().numpy(), atol=1e-9)


@pytest.mark.parametrize("kind", ["patch", "zero", "scale", "add"])
def test_edits_of_one_step_of_several_and_of_every_step(kind: str) -> None:
    """By `run`, `sweep_sets` and `record`."""
    toy = Toy(n_steps=3).double()
    resumable, arguments = ResumableToy(toy), ARGUMENTS.get(kind, {})
    chosen: dict[str, Any] = {"all": None, "one": 1, "two": (0, 2), "three": (0, 1, 2)}
    edits = {name: [wb.Edit("z", 1, 2, kind=kind, step=step, **arguments)] for name, step in chosen.items()}
    sets = wb.sweep_sets(resumable, DOUBLE, edits, base="corrupt")
    for s, (name, step) in enumerate(chosen.items()):
        steps = range(3) if step is None else [step] if isinstance(step, int) else step
        out = wb.run(resumable, DOUBLE, edits[name], base="corrupt")
        inputs = DOUBLE if kind == "patch" else DOUBLE.swapped()
        for example in range(len(DOUBLE)):
            value = plain_value(toy, inputs, kind, "z", steps, 1, 2, example)
            assert sets.values[s, example] == pytest.approx(value, abs=1e-9)
            assert out.scores()[example].item() == pytest.approx(value, abs=1e-9)
    assert np.array_equal(sets.values[0], sets.values[3])
    rec = wb.record(resumable, DOUBLE, ["z"], edits=[wb.Edit("z", 0, 1, kind="zero", step=(1, 2))])
    zeros = [bool((rec.clean[f"blocks.0.attn.hook_z@{step}"][0][:, 1] == 0).all()) for step in range(3)]
    assert zeros == [False, True, True]


@pytest.mark.parametrize("cached", [False, True])
def test_recordings_are_what_plain_hooks_read_in_each_step(cached: bool, tmp_path: Path) -> None:
    toy = Toy(n_steps=3)
    resumable, cache = CachedToy(toy), tmp_path if cached else False
    rec = wb.record(resumable, PICTURES, ["z", "v", "pattern"], cache=cache)
    assert rec.steps == (0, 1, 2) and "in steps 0, 1, 2" in repr(rec)
    for example, picture in enumerate(PICTURES.clean):
        assert rec.clean["z"][example].shape == (3, LAYERS, LENGTH, HEADS, D_HEAD)
        assert rec.clean["pattern"][example].shape == (3, LAYERS, HEADS, LENGTH, LENGTH)
        for layer, site in product(range(LAYERS), ("z", "v")):
            hook = f"blocks.{layer}.attn.hook_{site}"
            for step, x in enumerate(read(toy, picture, site, layer)):
                x = x[0].unflatten(-1, (HEADS, D_HEAD))
                assert torch.allclose(rec.clean[site][example][step, layer], x, atol=1e-5)
                assert torch.equal(rec.clean[hook][example][step], rec.clean[site][example][step, layer])
                assert torch.equal(rec.clean[f"{hook}@{step}"][example], rec.clean[site][example][step, layer])
        pattern, v, z = (rec.clean[site][example] for site in ("pattern", "v", "z"))
        assert torch.allclose(torch.einsum("tlhds,tlshx->tldhx", pattern, v), z, atol=1e-5)
    assert rec.corrupt is not None and rec.corrupt.stack("z").shape[:3] == (4, 3, LAYERS)
    with pytest.raises(UnknownName, match="recorded site"):
        rec.clean["blocks.1.attn.hook_z@3"]


def test_recordings_with_and_without_a_cache_are_equal_and_some_steps_can_be_recorded(tmp_path: Path) -> None:
    resumable, sites = CachedToy(Toy(n_steps=3)), ["z", "pattern", "resid_pre"]
    full = wb.record(resumable, PICTURES, sites, cache=tmp_path)
    free = wb.record(resumable, PICTURES, sites, cache=False)
    runs = resumable.runs
    again = wb.record(resumable, PICTURES, sites, layers=[1], steps=[2, 0], cache=tmp_path)
    assert again.clean["z"][0].shape == (2, 1, LENGTH, HEADS, D_HEAD) and again.steps == (2, 0)
    for site in sites:
        for i in range(len(PICTURES)):
            assert torch.equal(full.clean[site][i], free.clean[site][i])
            assert torch.equal(again.clean[site][i], full.clean[site][i][[2, 0]][:, [1]])
    assert resumable.runs == runs  # all of it from the cache
    assert str(wb.estimate(resumable, PICTURES, sites, steps=1, cache=tmp_path)) == "All 8 runs are in the cache."
    with pytest.raises(UsageError, match=r"steps=3: expected a step from 0 to 2, because there are 3 steps\."):
        wb.record(resumable, PICTURES, steps=3)
    assert wb.estimate(resumable, PICTURES, cache=False).size > 2 * wb.estimate(resumable, PICTURES, steps=0).size


class ToyWithFormula(CachedToy):
    """A toy that says how its patterns follow from q and k, in the depths that it was asked for."""

    def __init__(self, toy: Toy) -> None:
        super().__init__(toy)
        self.depths: list[int] = []

    def pattern_formula(self, base: ToyBaseRun, depth: int) -> PatternFormula:
        self.depths.append(depth)
        return PatternFormula(scale=D_HEAD**-0.5, causal=False)


def test_a_pattern_that_follows_a_formula_is_computed_from_q_and_k_of_its_step(tmp_path: Path) -> None:
    plain, resumable = CachedToy(Toy(n_steps=3)), ToyWithFormula(Toy(n_steps=3))
    expected = wb.record(plain, PICTURES, ["pattern"], cache=False).clean
    for _ in range(2):
        rec = wb.record(resumable, PICTURES, ["pattern"], cache=tmp_path).clean
        assert torch.allclose(rec.stack("pattern"), expected.stack("pattern"), atol=1e-6)
    assert set(resumable.depths) == set(range(9))
    step = rec["blocks.2.attn.hook_pattern@1"][0]
    assert torch.allclose(step, expected["pattern"][0][1, 2], atol=1e-6)
    assert not torch.allclose(step, expected["pattern"][0][0, 2], atol=1e-3)


def test_a_model_with_one_step_has_plain_names() -> None:
    one, three = ResumableToy(Toy()), ResumableToy(Toy(n_steps=3))
    assert [hook_at_depth(one, "z", depth) for depth in (0, 2)] == ["blocks.0.attn.hook_z", "blocks.2.attn.hook_z"]
    assert [hook_at_depth(three, "z", depth) for depth in (0, 5)] == [
        "blocks.0.attn.hook_z@0",
        "blocks.2.attn.hook_z@1",
    ]
    assert split_step("blocks.2.attn.hook_z@13") == ("blocks.2.attn.hook_z", 13)
    assert split_step(at_step("blocks.2.attn.hook_z", 0, 1)) == ("blocks.2.attn.hook_z", None)
    rec = wb.record(one, PICTURES, ["z"])
    assert rec.clean["z"][0].shape == (LAYERS, LENGTH, HEADS, D_HEAD)
    assert torch.equal(rec.clean["blocks.1.attn.hook_z"][0], rec.clean["blocks.1.attn.hook_z@0"][0])
    assert wb.sweep(one, PICTURES, steps=0).axes == ("layer", "head")
    assert wb.run(one, PICTURES, [wb.Edit("z", 0, step=0)], base="corrupt").scores().shape == (4,)


@pytest.mark.parametrize("kind", ["patch", "mean", "resample", "scale", "identity"])
def test_values_of_later_steps_come_through_the_cache_and_a_cached_sweep_is_the_same(kind: str, tmp_path: Path) -> None:
    resumable = CachedToy(Toy(n_steps=3))
    arguments: dict[str, Any] = {"edit": kind, "by": ["step", "head"]}
    arguments |= {"scale": {"factor": 0.5}, "identity": {"u": 0.5, "site": "pattern"}}.get(kind, {})
    free, first = (wb.sweep(resumable, PICTURES, cache=cache, **arguments) for cache in (False, tmp_path))
    runs = resumable.runs
    again = wb.sweep(resumable, PICTURES, cache=tmp_path, **arguments)
    assert resumable.runs == runs
    assert np.array_equal(free.values, first.values) and np.array_equal(first.values, again.values)
    together = wb.sweep(resumable, PICTURES, cache=tmp_path, **{**arguments, "by": "head"})
    assert resumable.runs > runs and not np.array_equal(together.values, first.values[0])
    some = wb.sweep(resumable, PICTURES, cache=tmp_path, **{**arguments, "by": "head", "steps": [0, 1]})
    assert not np.array_equal(together.values, some.values)


def test_steps_are_part_of_the_keys_of_edits(tmp_path: Path) -> None:
    resumable = CachedToy(Toy(n_steps=3))
    steps: list[Any] = [None, 0, 2, (0, 2)]
    edits = {str(step): [wb.Edit("z", 0, 1, kind="zero", step=step)] for step in steps}
    for _ in range(2):
        z = [wb.record(resumable, PICTURES, ["z"], edits=e, cache=tmp_path).clean["z"][0] for e in edits.values()]
        assert all(not torch.equal(a, b) for i, a in enumerate(z) for b in z[:i])
        for step, own in zip(steps, z, strict=True):
            chosen = range(3) if step is None else [step] if isinstance(step, int) else step
            assert [bool((own[s, 0, :, 1] == 0).all()) for s in range(3)] == [s in chosen for s in range(3)]
        sets = [wb.sweep_sets(resumable, PICTURES, {"set": e}, cache=tmp_path).values for e in edits.values()]
        assert all(not np.array_equal(a, b) for i, a in enumerate(sets) for b in sets[:i])


@pytest.mark.parametrize(
    "by", [["step"], ["step", "head"], ["step", "position"], ["step", "head", "position"], ["head"]]
)
def test_results_carry_every_axis(by: list[str], tmp_path: Path) -> None:
    sweep = wb.sweep(ResumableToy(Toy(n_steps=3)), PICTURES, by=by, positions=[0, "end"] if "position" in by else None)
    axes = [axis for axis in ("step", "layer", "head", "position") if axis in by or axis == "layer"]
    assert list(sweep.axes) == sweep.info["by"] == axes
    table = sweep.table()
    columns = ["head_index" if axis == "head" else axis for axis in axes]
    assert not table.duplicated(subset=columns).any() and len(table) == sweep.mean_delta.size
    assert len({sweep.name(index) for index, _ in sweep.cells()}) == sweep.mean_delta.size
    sweep.save(tmp_path / "sweep.safetensors")
    again = wb.Sweep.load(tmp_path / "sweep.safetensors")
    assert np.array_equal(again.values, sweep.values)
    assert (again.axes, again.labels, again.info) == (sweep.axes, sweep.labels, sweep.info)
    assert len(sweep.json()["cells"]) == len(table) and "base64" in sweep._repr_html_()
    figure = sweep.figure("mean_delta").to_plotly_json()
    subtitle = figure["layout"]["title"]["subtitle"]["text"]
    words = {1: "in all 3 steps at once", 3: "largest over steps, or the step selected", 4: "in each of 3 steps"}
    assert words[1 if by == ["head"] else len(axes)] in subtitle if by != ["step"] else "step × layer" in subtitle
    assert sweep.picture("mean_delta").axes[0].get_ylabel()


def test_cells_are_named_with_their_step() -> None:
    sweep = wb.sweep(ResumableToy(Toy(n_steps=2)), PICTURES, by=["step", "head", "position"], positions=["end"])
    assert sweep.name((1, 2, 0, 0)) == "2.0 in step 1 at end"
    assert sweep.table().iloc[-1][["step", "layer", "head_index", "head", "position"]].tolist() == [
        1,
        2,
        2,
        "2.2",
        "end",
    ]
    assert len(sweep.top(9)) == 9  # a head once, by the largest of its steps
    by_step = wb.sweep(ResumableToy(Toy(n_steps=2)), PICTURES, by="step", site="mlp_out")
    assert by_step.name((0, 1)) == "layer 1 in step 0"


@pytest.mark.parametrize("edit", ["patch", "zero", "add"])
def test_screens_sum_the_steps_of_a_cell(edit: str) -> None:
    resumable = ResumableToy(Toy(n_steps=3).double())
    arguments: dict[str, Any] = {"edit": edit, "confirm": 0.3, **ARGUMENTS.get(edit, {})}
    together = wb.screen(resumable, DOUBLE, by="head", **arguments)
    apart = wb.screen(resumable, DOUBLE, by=["step", "head"], **arguments)
    np.testing.assert_allclose(together.estimate.delta, apart.estimate.delta.sum(0), atol=1e-9)
    assert together.confirmed.shape == (LAYERS, HEADS) and apart.confirmed.shape == (3, LAYERS, HEADS)
    full = wb.sweep(resumable, DOUBLE, by=["step", "head"], **{"edit": edit, **ARGUMENTS.get(edit, {})})
    np.testing.assert_allclose(apart.exact.values[apart.confirmed], full.values[apart.confirmed], atol=1e-12)
    assert not apart.table().duplicated(subset=["step", "layer", "head_index"]).any()


@pytest.mark.parametrize("by", [["head"], ["step", "head"]])
def test_a_small_edits_effect_is_its_estimate(by: list[str]) -> None:
    resumable, small = ResumableToy(Toy(n_steps=3).double()), 1e-6
    estimate = wb.screen(resumable, DOUBLE, by=by, edit="zero", confirm=0.1).estimate
    exact = wb.sweep(resumable, DOUBLE, by=by, edit="scale", factor=1 - small)
    np.testing.assert_allclose(exact.delta / small, estimate.delta, atol=1e-4)
    assert np.abs(estimate.delta).max() > 1e-2
    estimate = wb.screen(resumable, DOUBLE, by=by, edit="add", vector=VECTOR, confirm=0.1).estimate
    exact = wb.sweep(resumable, DOUBLE, by=by, edit="add", vector=small * VECTOR)
    np.testing.assert_allclose(exact.delta / small, estimate.delta, atol=1e-4)
    rows: dict[str, Any] = {"site": "pattern", "edit": "identity", "by": by, "positions": [0, 4]}
    estimate = wb.screen(resumable, DOUBLE, u=1, confirm=0.1, **rows).estimate
    exact = wb.sweep(resumable, DOUBLE, u=small, **rows)
    np.testing.assert_allclose(exact.delta / small, estimate.delta, atol=1e-4)
    assert np.abs(estimate.delta).max() > 1e-2


def test_what_a_model_does_not_have_is_refused_in_one_line() -> None:
    one, three = ResumableToy(Toy()), ResumableToy(Toy(n_steps=3))
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: wb.sweep(one, PICTURES, by="step"), "by='step': expected 'layer', 'head' or 'position', because"),
        (lambda: wb.sweep(one, PICTURES, by=["step", "head"]), "this model runs its layers once"),
        (lambda: wb.sweep(one, PICTURES, steps=1), "steps=1: expected 0 or None, because this model runs its"),
        (lambda: wb.sweep(three, PICTURES, steps=[0, 3]), "there are 3 steps, and 3 is not among them"),
        (lambda: wb.sweep(three, PICTURES, steps=[]), "expected at least one step"),
        (lambda: wb.run(one, PICTURES, [wb.Edit("z", 0, step=1)]), r"edits\[0\]\.step=1: expected 0 or None, because"),
        (lambda: wb.run(three, PICTURES, [wb.Edit("z", 0, step=(0, 3))]), r"edits\[0\]\.step=\(0, 3\): expected steps"),
        (
            lambda: wb.record(three, PICTURES, edits=wb.Edit("z", 0, step=5)),
            r"edits\[0\]\.step=5: expected a step from",
        ),
        (lambda: wb.sweep_sets(three, PICTURES, {"a": [wb.Edit("z", 0, step=5)]}), r"edits\[0\]\.step=5"),
    ]
    for call, message in refused:
        with pytest.raises(UsageError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
