"""Models of one's own (`own_models`), and a toy of several steps, are swept, recorded, path-patched, screened and
cached exactly, against plain hooks (more of the toy in `test_steps`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import workbench as wb
from tests.conformance.own_models import (
    D_HEAD,
    HEADS,
    KINDS,
    LAYERS,
    Attention,
    Block,
    Case,
    HookedNet,
    Net,
    differences,
    make,
    pairs,
    pictures,
    stacked,
)
from tests.conformance.test_steps import DOUBLE, CachedToy, plain_value
from tests.conformance.toys import Toy
from tests.oracle.plain_hooks import head_slice


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest) -> Case:
    return make(request.param)


def test_without_hooks_and_when_everything_is_read_the_model_is_untouched(case: Case) -> None:
    x = pictures(3, seed=4)
    expected = case.outputs(x)
    assert torch.equal(case.model(x), expected)
    output, cache = case.model.run_with_cache(x)
    assert torch.allclose(output, expected, atol=1e-9)
    assert set(cache) == set(case.model.hook_dict)
    assert not any("forward" in vars(module) for module in case.model.hf.modules())
    for layer, z in enumerate(case.z(x)):
        assert torch.allclose(cache[f"blocks.{layer}.attn.hook_z"].flatten(2), z, atol=1e-9)


def test_cached_positions_are_those_of_every_hook_point(case: Case) -> None:
    x = pictures(3, seed=4)
    _, full = case.model.run_with_cache(x)
    _, last = case.model.run_with_cache(x, pos_slice=-1)
    for name in full:
        is_pattern = name.endswith(("hook_pattern", "hook_attn_scores"))
        assert torch.equal(last[name], full[name][:, :, -1:] if is_pattern else full[name][:, -1:]), name


def test_it_passes_the_checks_of_every_model(case: Case) -> None:
    wb.testing.check_model(case.model)


def test_causality_is_found(case: Case) -> None:
    assert case.model.causal == getattr(case.model.hf, "causal", False)
    assert case.model.resumable, case.model.why_not_resumable


def test_a_sweep_is_exact(case: Case) -> None:
    inputs = pairs()
    swept = wb.sweep(case.model, inputs, direction="noise", cache=False)
    clean, source = stacked(inputs.clean), case.z(stacked(inputs.corrupt))
    assert swept.base == pytest.approx(differences(case.outputs(clean), inputs), abs=1e-9)
    for layer in range(LAYERS):
        for head in range(HEADS):

            def patch(z: Tensor, layer: int = layer, head: int = head) -> Tensor:
                z, columns = z.clone(), head_slice(head, D_HEAD)
                z[..., columns] = source[layer][..., columns]
                return z

            expected = differences(case.outputs(clean, (layer, patch)), inputs)
            assert swept.values[layer, head] == pytest.approx(expected, abs=1e-9)
    assert np.abs(swept.delta).max() > 1e-3


@pytest.mark.parametrize(
    "settings",
    [
        {"edit": "zero"},
        {"edit": "mean"},
        {"edit": "resample"},
        {"site": "v"},
        {"site": "resid_mid", "by": "position", "positions": "all"},
        {"site": "pattern", "edit": "pattern", "attend_to": [0], "positions": ["end"]},
        {"metric": "kl_divergence", "direction": "noise"},
    ],
    ids=str,
)
def test_every_kind_of_sweep_is_a_run_with_that_edit(case: Case, settings: dict[str, Any]) -> None:
    inputs = pairs()
    swept = wb.sweep(case.model, inputs, cache=False, **settings)
    site, kind = settings.get("site", "z"), settings.get("edit", "patch")
    base = "corrupt" if swept.info["direction"] == "denoise" else "clean"
    for layer in range(LAYERS):
        position = 3 if "position" in swept.axes else (settings.get("positions") or [None])[0]
        head = None if site == "resid_mid" else 1
        attend_to = tuple(settings["attend_to"]) if "attend_to" in settings else None
        edit = wb.Edit(site, layer, head, position=position, kind=kind, attend_to=attend_to)
        out = wb.run(case.model, inputs, [edit], base=base, cache=False)
        expected = out.scores(settings.get("metric", "logit_difference")).numpy()
        index = (layer, 3) if "position" in swept.axes else (layer, 1)
        assert swept.values[index] == pytest.approx(expected, abs=1e-9)


def test_direct_effects_are_those_of_plain_hooks(case: Case) -> None:
    """Path patching to the outputs: one head's z of the corrupt run, every other head's z frozen, MLPs recomputed."""
    inputs = pairs()
    patched = wb.path_patch(case.model, inputs, freeze="all", position="cls", cache=False)
    clean = stacked(inputs.clean)
    own, source = case.z(clean), case.z(stacked(inputs.corrupt))
    for layer in range(LAYERS):
        for head in range(HEADS):

            def frozen(index: int, sender: tuple[int, int] = (layer, head)) -> Callable[[Tensor], Tensor]:
                def change(_: Tensor) -> Tensor:
                    z, columns = own[index].clone(), head_slice(sender[1], D_HEAD)
                    if index == sender[0]:
                        z[:, 0, columns] = source[index][:, 0, columns]
                    return z

                return change

            outputs = case.outputs(clean, *((index, frozen(index)) for index in range(LAYERS)))
            assert patched.values[layer, head] == pytest.approx(differences(outputs, inputs), abs=1e-9)


def test_recordings_screens_and_the_cache(case: Case, tmp_path: Path) -> None:
    inputs = pairs()
    cached, computed = (
        wb.record(case.model, inputs, ["z", "v", "pattern"], cache=store) for store in (tmp_path, False)
    )
    for site in ("z", "v", "pattern"):
        for i in range(len(inputs)):
            assert torch.allclose(cached.clean[site][i], computed.clean[site][i], atol=1e-9)
    assert computed.corrupt is not None
    z, v, pattern = (computed.corrupt[site][0] for site in ("z", "v", "pattern"))
    assert torch.allclose(torch.einsum("lhds,lshx->ldhx", pattern, v), z, atol=1e-9)
    first = wb.sweep(case.model, inputs, cache=tmp_path)
    assert np.array_equal(first.values, wb.sweep(case.model, inputs, cache=tmp_path).values)
    screened = wb.screen(case.model, inputs, confirm=0.5, cache=False)
    exact = np.isfinite(screened.exact.values).all(-1)
    assert exact.any()
    assert screened.exact.values[exact] == pytest.approx(first.values[exact], abs=1e-9)


def test_a_model_of_several_steps_in_all_of_these_ways(tmp_path: Path) -> None:
    toy = Toy(n_steps=2).double()
    model, last = CachedToy(toy), (1, LAYERS - 1)
    swept = wb.sweep(model, DOUBLE, by=["step", "head"], cache=tmp_path)
    for step, layer, head in ((0, 0, 1), (0, 2, 0), (1, 1, 1), (*last, 0)):
        value = plain_value(toy, DOUBLE, "patch", "z", [step], layer, head, 1)
        assert swept.values[step, layer, head, 1] == pytest.approx(value, abs=1e-9)
    assert np.array_equal(swept.values, wb.sweep(CachedToy(toy), DOUBLE, by=["step", "head"], cache=tmp_path).values)
    cached, computed = (wb.record(model, DOUBLE, ["z", "pattern"], cache=store) for store in (tmp_path, False))
    for i, site in enumerate(("z", "pattern", "blocks.1.attn.hook_z@1")):
        assert torch.allclose(cached.clean[site][i], computed.clean[site][i], atol=1e-9)
    screened = wb.screen(model, DOUBLE, by=["step", "head"], confirm=0.5, cache=False)
    exact = np.isfinite(screened.exact.values).all(-1)
    assert screened.exact.values[exact] == pytest.approx(swept.values[exact], abs=1e-9)
    # From the last layer of the last step every path is direct: its effect is that of patching the head.
    paths = wb.path_patch(
        model, DOUBLE, freeze="all", direction="denoise", position="end", by=["step", "head"], cache=False
    )
    ends = wb.sweep(model, DOUBLE, by=["step", "head"], positions="end", cache=False)
    assert paths.values[last] == pytest.approx(ends.values[last], abs=1e-9)
    assert np.abs(paths.delta[last]).max() > 1e-4


def test_batches_of_a_model_that_is_not_causal_are_not_split_by_the_first_difference(case: Case) -> None:
    inputs = pairs()
    groups = inputs.groups(8, case.model.causal)
    assert len(groups) == (len(inputs) if case.model.causal else 1)


class CountingBlock(Block):
    """Its attention reads positions, counted from the start of what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x) + torch.arange(x.shape[1]).to(x)[:, None] / 10)
        return x + self.mlp(self.norm2(x))


def test_a_model_that_does_not_resume_is_swept_by_full_forwards() -> None:
    torch.manual_seed(0)
    net = Net(causal=True).double().eval()
    net.blocks = nn.ModuleList(CountingBlock(causal=True) for _ in range(LAYERS)).double()
    with pytest.warns(UserWarning, match="resuming from the middle"):
        model = HookedNet(net)
    assert not model.resumable
    case, inputs = Case(model, lambda layer: net.get_submodule(f"blocks.{layer}.attn.out")), pairs()
    swept = wb.sweep(model, inputs, direction="noise", cache=False)
    assert swept.info["exact"] == "full forwards"
    source = case.z(stacked(inputs.corrupt))

    def patch(z: Tensor) -> Tensor:
        z, columns = z.clone(), head_slice(2, D_HEAD)
        z[..., columns] = source[1][..., columns]
        return z

    expected = differences(case.outputs(stacked(inputs.clean), (1, patch)), inputs)
    assert swept.values[1, 2] == pytest.approx(expected, abs=1e-9)
    assert np.abs(swept.delta).max() > 1e-3


class MaskedAttention(Attention):
    """Hides positions by what their residual stream is."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        length = x.shape[1]
        seen = (x[..., 0] > 0)[:, None, None, :] | torch.eye(length, dtype=torch.bool)
        if self.causal:
            seen = seen & torch.ones(length, length, dtype=torch.bool).tril()
        z = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.out(z.transpose(1, 2).flatten(2))


class MeanNet(Net):
    """Causal, and read as the mean over positions."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x) + self.places[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["mask from the stream", "causal, read at every position"])
def test_masks_and_readouts_of_ones_own_are_exact(kind: str, seed: int) -> None:
    torch.manual_seed(seed)
    net = (Net(causal=False) if kind.startswith("mask") else MeanNet(causal=True)).double().eval()
    if kind.startswith("mask"):
        for block in net.blocks:
            block.attn = MaskedAttention(causal=False).double()
    model = HookedNet(net)
    assert model.resumable, model.why_not_resumable
    case, inputs = Case(model, lambda layer: net.get_submodule(f"blocks.{layer}.attn.out")), pairs()
    swept, source = wb.sweep(model, inputs, direction="noise", cache=False), case.z(stacked(inputs.corrupt))
    for layer in range(LAYERS):

        def patch(z: Tensor, layer: int = layer) -> Tensor:
            z, columns = z.clone(), head_slice(1, D_HEAD)
            z[..., columns] = source[layer][..., columns]
            return z

        expected = differences(case.outputs(stacked(inputs.clean), (layer, patch)), inputs)
        assert swept.values[layer, 1] == pytest.approx(expected, abs=1e-9)


class Table(Net):
    """Hands every block a table whose first axis is no input, and one object or one tensor of its inputs' own."""

    def __init__(self, kind: str) -> None:
        super().__init__(causal=False)
        self.kind, self.table = kind, nn.Parameter(torch.randn(2, 16, HEADS * D_HEAD))
        self.blocks = nn.ModuleList(TableBlock(causal=False) for _ in range(LAYERS))

    def forward(self, x: Tensor) -> Tensor:
        condition, x = self.enter(x).mean(1), self.enter(x) + self.places[: x.shape[1]]
        own = SimpleNamespace(condition=condition) if self.kind == "an object" else {"condition": condition}
        for block in self.blocks:
            x = block(x, self.table[:, : x.shape[1]], own)
        return self.head(self.norm(x).mean(1))


class TableBlock(Block):
    def forward(self, x: Tensor, table: Tensor, own: Any) -> Tensor:
        condition = own["condition"] if isinstance(own, dict) else own.condition
        x = x + self.attn(self.norm1(x) * table[0] + table[1] * condition[:, None])
        return x + self.mlp(self.norm2(x))


@pytest.mark.filterwarnings("ignore:.*resuming from the middle")
@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("kind", ["a mapping", "an object"])
def test_arguments_of_layers_are_cut_as_they_are_made(kind: str, n: int) -> None:
    torch.manual_seed(0)
    net = Table(kind).double().eval()
    model, inputs = HookedNet(net), pairs(n)
    assert model.resumable == (kind == "a mapping")
    case = Case(model, lambda layer: net.get_submodule(f"blocks.{layer}.attn.out"))
    swept, source = wb.sweep(model, inputs, direction="noise", cache=False), case.z(stacked(inputs.corrupt))
    by_position = wb.sweep(model, inputs, site="z", by=["head", "position"], positions=[4], edit="zero", cache=False)
    for layer in range(LAYERS):

        def patch(z: Tensor, layer: int = layer) -> Tensor:
            z, columns = z.clone(), head_slice(1, D_HEAD)
            z[..., columns] = source[layer][..., columns]
            return z

        def zero(z: Tensor) -> Tensor:
            z = z.clone()
            z[:, 4, head_slice(2, D_HEAD)] = 0
            return z

        clean = stacked(inputs.clean)
        assert swept.values[layer, 1] == pytest.approx(
            differences(case.outputs(clean, (layer, patch)), inputs), abs=1e-9
        )
        expected = differences(case.outputs(clean, (layer, zero)), inputs)
        assert by_position.values[layer, 2, 0] == pytest.approx(expected, abs=1e-9)


class BiasedAttention(Attention):
    """A bias of each head's own, ``[head, dest, src]``."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        bias = torch.linspace(-2, 2, HEADS * x.shape[1] ** 2).to(x).view(HEADS, x.shape[1], x.shape[1]).sin()
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2))


def test_a_mask_of_three_axes_is_one_for_each_head() -> None:
    torch.manual_seed(0)
    net = Net(causal=False).double().eval()
    for block in net.blocks:
        block.attn = BiasedAttention(causal=False).double()
    wb.testing.check_model(HookedNet(net))


class WithoutPlaces(Net):
    """Positions have no places: the same patches in another order change nothing but their own outputs."""

    def __init__(self) -> None:
        super().__init__(causal=False)
        self.places.data.zero_()


def test_a_model_without_places_is_not_taken_for_a_causal_one() -> None:
    torch.manual_seed(0)
    model = HookedNet(WithoutPlaces().double().eval())
    assert not model.causal and model.resumable


def test_labels() -> None:
    model = make("vit").model
    assert model.labels(pairs().clean[0])[:3] == ("cls", "0,0", "0,1")
    assert make("net").model.labels(pairs().clean[0])[:3] == ("0", "1", "2")
