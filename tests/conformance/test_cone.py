"""The light cone is exact: every sweep against full forwards of the Hugging Face model with plain hooks."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.families import FAMILIES, nudged, paired
from tests.oracle.plain_hooks import Plain
from workbench.core import HEAD_SITES, SITES
from workbench.inputs.paired import PairedInputs
from workbench.models.language import HookedLM
from workbench.models.resumable_layers import ResumableLayers
from workbench.patching.cone import EditedRun, Write, run_edited
from workbench.patching.sweep import sweep
from workbench.results.sweep import Sweep

PARALLEL = {"gpt_neox"}
SITES_OF = {family: [site for site in SITES if not (site == "resid_mid" and family in PARALLEL)] for family in FAMILIES}
FAMILY_SITES = [(family, site) for family in FAMILIES for site in SITES_OF[family]]
ATTEND_TO = (0, 1)
#: Values that may be inserted. Means of rotated q and k over several positions have no counterpart before rotary, and
#: sums with a vector have none.
KINDS = ("patch", "zero", "mean", "resample", "function", "scale", "add")
FACTOR, U = -0.5, 0.6


@cache
def pair_of_models(family: str, dtype: torch.dtype = torch.float32) -> tuple[HookedLM, Plain]:
    """The model under test, and a separate copy for the oracle."""
    return HookedLM(nudged(family, dtype=dtype)), Plain(nudged(family, dtype=dtype), family)


def flipped(x: Tensor) -> Tensor:
    """Linear and the same at every position, so that it may come before rotary."""
    return -1.5 * x


def vector_of(size: int) -> Tensor:
    """What is added to each head, or to the residual stream."""
    return torch.linspace(-2, 2, size)


def arguments_of(kind: str, site: str, by: Any, model: HookedLM) -> dict[str, Any]:
    """What the kind takes."""
    if kind != "add":
        return {"pattern": {"attend_to": ATTEND_TO}, "scale": {"factor": FACTOR}, "identity": {"u": U}}.get(kind, {})
    if site not in HEAD_SITES:
        return {"vector": vector_of(model.d_model)}
    vector, n_heads = vector_of(model.d_head), model.n_kv_heads if site == "v" else model.n_heads
    return {"vector": vector if "head" in by else vector.expand(n_heads, -1)}


class Expected:
    """What one cell of a sweep should be, from a full forward of the plain model."""

    def __init__(self, plain: Plain, inputs: PairedInputs, site: str, kind: str, direction: str) -> None:
        self.plain, self.inputs, self.site, self.kind = plain, inputs, site, kind
        denoise = kind == "patch" and direction == "denoise"
        self.base, self.source = (inputs.corrupt, inputs.clean) if denoise else (inputs.clean, inputs.corrupt)

    def metric(self, logits: Tensor, example: int) -> float:
        answer, wrong = list(self.inputs.answer[example]), list(self.inputs.wrong[example])
        return float(logits[answer].mean() - logits[wrong].mean())

    def unedited(self, example: int) -> float:
        return self.metric(self.plain.logits(self.base[example]), example)

    def cell(self, example: int, layer: int, head: int | None, positions: list[int] | None) -> float:
        ids = self.base[example]
        new = self._values(example, layer)

        def change(x: Tensor) -> None:
            for position in range(len(x)) if positions is None else positions:
                value = new(position, x[position])
                if head is None:
                    x[position] = value
                else:
                    x[position, head] = value[head]

        return self.metric(self.plain.logits(ids, (self.site, layer, change)), example)

    def _values(self, example: int, layer: int) -> Callable[[int, Tensor], Tensor]:
        read, inputs = self.plain.read, self.inputs
        if self.kind == "zero":
            return lambda position, x: torch.zeros_like(x)
        if self.kind == "function":
            return lambda position, x: flipped(x)
        if self.kind == "scale":
            return lambda position, x: FACTOR * x
        if self.kind == "add":
            return lambda position, x: x + vector_of(x.shape[-1])
        if self.kind == "identity":
            return lambda position, x: (1 - U) * x + U * torch.eye(x.shape[-1])[position]
        if self.kind == "pattern":
            row = torch.zeros(len(inputs.clean[example]))
            row[list(ATTEND_TO)] = 1 / len(ATTEND_TO)
            return lambda position, x: row.expand_as(x)
        if self.kind == "patch":
            values = read(self.source[example], self.site, layer)
            return lambda position, x: values[position]
        if self.kind == "resample":
            length = len(inputs.clean[example])
            (partner,) = (i for i, ids in enumerate(inputs.clean) if len(ids) == length and i != example)
            other = read(inputs.clean[partner], self.site, layer)
            return lambda position, x: other[position]
        activations = [read(ids, self.site, layer) for ids in inputs.clean]
        names = {index: name for name, index in inputs.positions[example].items()}

        def mean(position: int, x: Tensor) -> Tensor:
            if position in names:
                named = [positions[names[position]] for positions in inputs.positions]
                return torch.stack([a[i] for a, i in zip(activations, named, strict=True)]).mean(0)
            return torch.stack([a[position] for a in activations if len(a) == len(activations[example])]).mean(0)

        return mean


def compare(result: Sweep, expected: Expected, seed: int, tolerance: float, cells: int = 3) -> None:
    """Compare some cells of some examples."""
    generator, inputs = random.Random(seed), expected.inputs
    for _ in range(cells):
        example = generator.randrange(len(inputs))
        index = {axis: generator.randrange(size) for axis, size in zip(result.axes, result.values.shape, strict=False)}
        layer = int(result.labels["layer"][index["layer"]])
        head = next((int(result.labels[a][index[a]]) for a in ("head", "kv_head") if a in index), None)
        positions = None
        if "position" in index:
            label = result.labels["position"][index["position"]]
            positions = [inputs.positions[example][label] if label in inputs.positions[example] else int(label)]
        elif result.info["positions"] is not None:
            positions = [inputs.positions[example][name] for name in result.info["positions"]]
        value = result.values[(*index.values(), example)]
        assert value == pytest.approx(expected.cell(example, layer, head, positions), abs=tolerance), (index, example)
        assert result.base[example] == pytest.approx(expected.unedited(example), abs=tolerance)


@pytest.mark.parametrize(("family", "site"), FAMILY_SITES)
def test_patching_each_site_is_exact_and_matters(family: str, site: str) -> None:
    model, plain = pair_of_models(family)
    inputs = paired(3)
    by = "head" if site in HEAD_SITES else "layer"
    result = sweep(model, inputs, site=site, by=by)
    compare(result, Expected(plain, inputs, site, "patch", "denoise"), seed=1, tolerance=1e-4, cells=4)
    assert np.abs(result.delta).max() > 1e-2
    assert result.source is not None
    clean = [Expected(plain, inputs, site, "patch", "noise").unedited(i) for i in range(3)]
    assert result.source == pytest.approx(np.array(clean), abs=1e-4)


@st.composite
def experiments(draw: st.DrawFn) -> dict:
    site = draw(st.sampled_from(list(SITES)))
    kinds = [kind for kind in KINDS if not (kind in ("mean", "add") and site in ("q", "k"))]
    of_pattern = [kind for kind in kinds if kind != "add"] + ["pattern", "identity"]
    kind = draw(st.sampled_from(of_pattern if site == "pattern" else kinds))
    if site == "pattern" and kind == "mean":
        kind = "zero"  # rows of several lengths have no mean
    axes = [["head"], ["head", "position"], ["position"], []] if site in HEAD_SITES else [["position"], []]
    by = draw(st.sampled_from(axes))
    lengths = draw(st.sampled_from([(7,), (9, 12), (12, 8), (6, 7)]))
    names = draw(st.sampled_from([None, ["S"], ["end"], ["S", "end"]]))
    if by == ["position"] and site in HEAD_SITES and len(lengths) == 1:
        names = "all"
    return {
        "site": site,
        "kind": kind,
        "by": by or "layer",
        "positions": names,
        "lengths": lengths,
        "direction": draw(st.sampled_from(["denoise", "noise"])) if kind == "patch" else "noise",
        "memory_gb": draw(st.sampled_from([1.0, 0.0005])),
        "seed": draw(st.integers(0, 2**16)),
    }


@pytest.mark.parametrize("family", FAMILIES)
@settings(
    max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=False
)
@given(experiment=experiments())
def test_a_sweep_is_full_forwards(family: str, experiment: dict) -> None:
    model, plain = pair_of_models(family)
    inputs = paired(2 * len(experiment["lengths"]), lengths=experiment["lengths"], seed=experiment["seed"])
    kind, by = experiment["kind"], experiment["by"]
    site = experiment["site"] if experiment["site"] in SITES_OF[family] else "resid_pre"
    result = sweep(
        model,
        inputs,
        site=site,
        by=by,
        edit=flipped if kind == "function" else kind,
        direction=experiment["direction"],
        positions=experiment["positions"],
        **arguments_of(kind, site, by, model),
        memory_gb=experiment["memory_gb"],
        seed=experiment["seed"],
    )
    expected = Expected(plain, inputs, site, kind, experiment["direction"])
    compare(result, expected, experiment["seed"], tolerance=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
@pytest.mark.parametrize("site", ["z", "q", "v", "resid_pre", "mlp_out", "pattern"])
def test_double_precision_is_exact_to_ten_places(family: str, site: str) -> None:
    model, plain = pair_of_models(family, torch.float64)
    inputs = paired(2)
    result = sweep(model, inputs, site=site, by="head" if site in HEAD_SITES else "layer")
    # The oracle's patterns come from Hugging Face's eager attention, whose softmax is float32.
    compare(result, Expected(plain, inputs, site, "patch", "denoise"), 0, 1e-6 if site == "pattern" else 1e-10, cells=6)
    assert np.abs(result.delta).max() > 1e-2


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_chunks_and_groups_change_nothing(family: str) -> None:
    model, _ = pair_of_models(family)
    inputs = paired(4)
    full = sweep(model, inputs)
    chunked = sweep(model, inputs, memory_gb=4e-4)
    assert np.abs(full.values - chunked.values).max() < 1e-4
    order = [2, 0, 3]
    fields = ("clean", "corrupt", "answer", "wrong", "options", "positions")
    regrouped = replace(inputs, **{name: tuple(getattr(inputs, name)[i] for i in order) for name in fields})
    reordered = sweep(model, regrouped)
    assert np.abs(reordered.values - full.values[..., order]).max() < 1e-4
    assert np.abs(full.delta).max() > 1e-2
    assert np.array_equal(sweep(model, inputs).values, full.values)


def test_the_chunk_with_the_fewest_layers_comes_first() -> None:
    model = HookedLM(nudged("llama"))
    layers = ResumableLayers(model)
    base = layers.base_run(torch.tensor([[3, 1, 4, 1]]))
    depths = [0, 1, 0, 1, 0]
    runs = [EditedRun(0, (Write(d, model.hook_name("z", d), torch.zeros(4, model.d_head), 0, None),)) for d in depths]
    seen: list[int] = []
    run_edited(layers, base, runs, 0, chunk=8, read=lambda order, _: seen.extend(depths[i] for i in order))
    assert seen == [1, 0, 0, 0, 1]


@pytest.mark.parametrize(("family", "site"), [(f, "resid_pre") for f in FAMILIES] + [("gemma3", "z"), ("qwen3", "k")])
def test_before_the_first_difference_nothing_changes(family: str, site: str) -> None:
    model, plain = pair_of_models(family)
    inputs = paired(2, lengths=(10,))
    by = ["head", "position"] if site in HEAD_SITES else "position"
    result = sweep(model, inputs, site=site, by=by, positions="all")
    assert result.values.shape[-2] == 10
    for example, first in enumerate(inputs.first_difference):
        assert first >= 2
        assert np.array_equal(result.delta[..., :first, example], np.zeros_like(result.delta[..., :first, example]))
        assert np.abs(result.delta[..., first:, example]).max() > 1e-2
    assert result.info["skipped_cells"] >= sum(inputs.first_difference) * len(result.labels["layer"])
    compare(result, Expected(plain, inputs, site, "patch", "denoise"), 3, 1e-4)


@pytest.mark.parametrize("site", ["z", "k", "pattern", "resid_post"])
def test_a_function_sees_the_full_prompt_in_every_layer(site: str) -> None:
    """Also in the last layer, where other edits need the last position alone."""
    model, plain = pair_of_models("llama")
    inputs = paired(2)

    def shifted(x: Tensor) -> Tensor:
        return x.roll(1, 0)

    result = sweep(model, inputs, site=site, by="layer", edit=shifted)
    for example, layer in [(0, 0), (1, 1), (0, 2), (1, 2)]:
        if site == "k":  # rotated keys have no plain hook
            hook = (model.hook_name(site, layer), lambda x, hook: x.roll(1, 1))
            logits = model.run_with_hooks(inputs.clean[example][None], fwd_hooks=[hook])[0, -1]
        else:
            logits = plain.logits(inputs.clean[example], (site, layer, lambda x: x.copy_(shifted(x))))
        expected = logits[list(inputs.answer[example])].mean() - logits[list(inputs.wrong[example])].mean()
        assert result.values[layer, example] == pytest.approx(float(expected), abs=1e-4)
    assert np.abs(result.delta[2]).max() > 1e-3


def test_kv_heads_are_swept_as_they_are() -> None:
    model, _ = pair_of_models("llama")
    result = sweep(model, paired(2), site="v")
    assert result.axes == ("layer", "kv_head")
    assert result.values.shape == (3, 2, 2)
    with pytest.raises(Exception, match="KV heads from 0 to 1"):
        sweep(model, paired(2), site="v", heads=[2])
