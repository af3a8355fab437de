"""Models that the workbench does not know, hooked in this file alone: an unmodified vision transformer of transformers,
plain torch modules that call PyTorch's attention function, and a toy of several steps (more of it in `test_steps`). All
in float64, against plain hooks."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViTConfig, ViTForImageClassification

import workbench as wb
from tests.conformance.test_steps import DOUBLE, CachedToy, plain_value
from tests.conformance.toys import Toy
from tests.oracle.plain_hooks import edited, head_slice
from workbench.errors import UnsupportedModel, UsageError

SIDE, PATCH, CHANNELS, CLASSES = 12, 4, 3, 6
LAYERS, HEADS, D_HEAD = 3, 4, 8
SIZES = wb.Sizes(LAYERS, HEADS, HEADS, D_HEAD, HEADS * D_HEAD)


# --- the models -------------------------------------------------------------------------------------------------------


class HookedViT(wb.HookedModel):
    """Positions: CLS, a row of zeros, then the patches, each its pixels in one row."""

    modality = "vision"
    parts = wb.Anatomy(
        layers="vit.layers",
        embed="vit.embeddings",
        final_norm="vit.layernorm",
        attention="attention",
        mlp="mlp",
        attn_out="attention",
        mlp_out="mlp",
        norm1="layernorm_before",
        norm2="layernorm_after",
        query="q_proj",
        key="k_proj",
        value="v_proj",
        output="o_proj",
        mlp_output="fc2",
    )

    def outputs(self, inputs: Tensor) -> Tensor:
        pixels = F.fold(inputs[:, 1:].mT, SIDE, PATCH, stride=PATCH)
        return self.hf(pixel_values=pixels).logits

    def trial(self) -> Tensor:
        return pictures(2, seed=9)

    def identity_facts(self) -> dict[str, Any]:
        return {}

    def labels(self, inputs: Tensor) -> tuple[str, ...]:
        side = SIDE // PATCH
        return ("cls", *(f"{i // side},{i % side}" for i in range(side * side)))


class Attention(nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.causal, width = causal, HEADS * D_HEAD
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        z = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(z.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        width = HEADS * D_HEAD
        self.norm1, self.norm2, self.attn = nn.LayerNorm(width), nn.LayerNorm(width), Attention(causal)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Net(nn.Module):
    """A plain torch transformer: causal, read at its last position; or not, read as the mean over positions."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        width = HEADS * D_HEAD
        self.causal, self.enter, self.norm = causal, nn.Linear(PATCH**2 * CHANNELS, width), nn.LayerNorm(width)
        self.places = nn.Parameter(torch.randn(16, width))
        self.blocks = nn.ModuleList(Block(causal) for _ in range(LAYERS))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x) + self.places[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, -1] if self.causal else x.mean(1)) * 3  # a scale that no table of families knows


class ConditionedBlock(Block):
    """Scaled by a condition with one entry per input, as a diffusion transformer's blocks are."""

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x) * (1 + condition[:, None]))
        return x + self.mlp(self.norm2(x))


class ConditionedNet(Net):
    def __init__(self) -> None:
        super().__init__(causal=False)
        self.blocks = nn.ModuleList(ConditionedBlock(causal=False) for _ in range(LAYERS))

    def forward(self, x: Tensor) -> Tensor:
        condition, x = self.enter(x).mean(1), self.enter(x) + self.places[: x.shape[1]]
        for block in self.blocks:
            x = block(x, condition)
        return self.head(self.norm(x).mean(1) * condition)


class HookedNet(wb.HookedModel):
    parts = wb.Anatomy(
        layers="blocks",
        embed="enter",
        final_norm="norm",
        attention="attn",
        mlp="mlp",
        attn_out="attn",
        mlp_out="mlp",
        norm1="norm1",
        norm2="norm2",
        fused="qkv",
        output="out",
        mlp_output="2",
    )

    def identity_facts(self) -> dict[str, Any]:
        return {}

    def sizes(self) -> wb.Sizes:
        return SIZES

    def outputs(self, inputs: Tensor) -> Tensor:
        return self.hf(inputs)

    def trial(self) -> Tensor:
        return pictures(2, seed=9)


# --- what they are tested on ------------------------------------------------------------------------------------------


def pictures(n: int, seed: int) -> Tensor:
    shape, generator = (n, 1 + (SIDE // PATCH) ** 2, PATCH**2 * CHANNELS), torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x[:, 0] = 0
    return x


@dataclass(frozen=True)
class Case:
    """A hooked model, and the same module with the ends that plain hooks need."""

    model: wb.HookedModel
    project: Callable[[int], nn.Module]

    def outputs(self, inputs: Tensor, *edits: tuple[int, Callable[[Tensor], Tensor]]) -> Tensor:
        """The outputs with z of some layers edited, by plain hooks on the output projections."""
        with torch.no_grad(), edited(*((self.project(layer), "input", change) for layer, change in edits)):
            return type(self.model).outputs(self.model, inputs)

    def z(self, inputs: Tensor) -> list[Tensor]:
        seen: dict[int, Tensor] = {}

        def reading(layer: int) -> Callable[[Tensor], Tensor]:
            return lambda x: seen.setdefault(layer, x.clone())

        self.outputs(inputs, *((layer, reading(layer)) for layer in range(LAYERS)))
        return [seen[layer] for layer in range(LAYERS)]


def make(kind: str) -> Case:
    torch.manual_seed(0)
    if kind == "vit":
        config = ViTConfig(
            hidden_size=HEADS * D_HEAD,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=64,
            image_size=SIDE,
            patch_size=PATCH,
            num_channels=CHANNELS,
        )
        config.num_labels = CLASSES
        vit = ViTForImageClassification(config).eval().double()
        for parameter in vit.parameters():  # random weights of that size move nothing
            parameter.data.mul_(8).add_(0.01)
        return Case(HookedViT(vit), lambda layer: vit.get_submodule(f"vit.layers.{layer}.attention.o_proj"))
    net = (ConditionedNet() if kind == "conditioned net" else Net(causal=kind == "causal net")).eval().double()
    return Case(HookedNet(net), lambda layer: net.get_submodule(f"blocks.{layer}.attn.out"))


@pytest.fixture(scope="module", params=["vit", "net", "causal net", "conditioned net"])
def case(request: pytest.FixtureRequest) -> Case:
    return make(request.param)


def pairs(n: int = 5) -> wb.PairedInputs:
    """Pictures that differ in one patch, another one in each."""
    clean = pictures(n, seed=1)
    corrupt, other = clean.clone(), pictures(n, seed=2)
    for i in range(n):
        corrupt[i, 2 + i] = other[i, 2 + i]
    answer, wrong = (tuple((((i + shift) % CLASSES),) for i in range(n)) for shift in (0, 2))
    last = {"cls": 0, "end": clean.shape[1] - 1}
    return wb.PairedInputs("pictures", tuple(clean), tuple(corrupt), answer, wrong, positions=(last,) * n)


def differences(outputs: Tensor, inputs: wb.PairedInputs) -> np.ndarray:
    rows = zip(outputs.double(), inputs.answer, inputs.wrong, strict=True)
    return np.array([float(row[answer[0]] - row[wrong[0]]) for row, answer, wrong in rows])


def stacked(rows: Any) -> Tensor:
    return torch.stack(list(rows))


# --- the tests --------------------------------------------------------------------------------------------------------


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


class OtherNet(HookedNet):
    """Reads what it should not: the class says how, in `change`."""

    change = staticmethod(lambda x: x)

    def outputs(self, inputs: Tensor) -> Tensor:
        return self.hf(self.change(inputs))


def other(change: Callable[[Tensor], Tensor]) -> type[wb.HookedModel]:
    return type("OtherNet", (OtherNet,), {"change": staticmethod(change)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: torch.cat([x[:, :1], x], 1),
            "layer 0 gets 11 positions where the inputs have 10. Give inputs a row",
        ),
        (lambda x: x - 0.5 * x.mean(0), "what the layers give for an input depends on the other inputs of its batch"),
    ],
    ids=["a position is added", "inputs are mixed"],
)
def test_streams_that_are_not_the_inputs_are_refused(change: Any, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        other(change)(make("net").model.hf)


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


class WithoutPlaces(Net):
    """Positions have no places: the same patches in another order change nothing but their own outputs."""

    def __init__(self) -> None:
        super().__init__(causal=False)
        self.places.data.zero_()


def test_a_model_without_places_is_not_taken_for_a_causal_one() -> None:
    torch.manual_seed(0)
    model = HookedNet(WithoutPlaces().double().eval())
    assert not model.causal and model.resumable


def test_one_trial_input_is_refused() -> None:
    class One(HookedNet):
        def trial(self) -> Tensor:
            return pictures(1, seed=9)

    with pytest.raises(UnsupportedModel, match=r"One.trial: expected two different inputs"):
        One(make("net").model.hf)


def test_a_model_in_training_mode_is_refused() -> None:
    model = make("net").model
    model.train()
    with pytest.raises(UsageError, match="in training mode"):
        wb.sweep(model, pairs())


def test_what_a_class_does_not_say_is_not_cached(tmp_path: Path) -> None:
    class Silent(HookedNet):
        def identity_facts(self) -> Any:
            return wb.HookedModel.identity_facts(self)

    with pytest.warns(UserWarning, match="Silent.identity_facts does not say what else the numbers depend on"):
        assert Silent(make("net").model.hf).identity.current() is None


def test_layers_that_are_not_as_said_are_refused() -> None:
    net = make("net").model.hf

    class Fewer(HookedNet):
        def sizes(self) -> wb.Sizes:
            return wb.Sizes(2, HEADS, HEADS, D_HEAD, HEADS * D_HEAD)

    with pytest.raises(UnsupportedModel, match="has 3 modules in 'blocks', and n_layers is 2"):
        Fewer(net)
    net.blocks = nn.ModuleList([net.blocks[0]] * LAYERS)
    with pytest.raises(UnsupportedModel, match="share an attention module"):
        HookedNet(net)


def test_what_it_cannot_do_is_refused_in_one_line(case: Case) -> None:
    with pytest.raises(UsageError, match=r"task='Mary': expected wb.PairedInputs, because this is a model of"):
        wb.sweep(case.model, "Mary")
    alone = wb.PairedInputs("pictures", pairs().clean, pairs().corrupt)
    with pytest.raises(UsageError, match=r"pairs with answers, because metric='logit_difference' compares them"):
        wb.sweep(case.model, alone)
    assert wb.sweep(case.model, alone, metric="kl_divergence", direction="noise", cache=False).delta.max() > 0


def test_a_part_that_is_not_there_is_named() -> None:
    class Wrong(HookedNet):
        parts = wb.Anatomy(layers="blocks", attention="attention")

    with pytest.raises(UnsupportedModel, match=r"Net has no module 'blocks.0.attention' for attention"):
        Wrong(Net(causal=True).eval())


def test_what_the_modality_adds_is_in_the_keys() -> None:
    class Sampled(HookedNet):
        def identity_facts(self) -> dict[str, Any]:
            return {"sampler": self.processor}

    net = make("net").model.hf
    keys = [Sampled(net, sampler).identity.current() for sampler in ("euler", "euler", "heun")]
    assert keys[0] == keys[1] != keys[2] and keys[0] != HookedNet(net).identity.current()


def test_the_file_of_a_class_is_in_the_keys(tmp_path: Path) -> None:
    file, keys = tmp_path / "mine.py", []
    for scale in (1.0, 2.0):
        file.write_text(
            "from tests.conformance import test_own_models as own\n\n\ndef scaled(x):\n    return x * "
            f"{scale}\n\n\nclass Mine(own.Net):\n    def forward(self, x):\n        return scaled(super().forward(x))\n"
        )
        spec = importlib.util.spec_from_file_location("mine", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["mine"] = module
        spec.loader.exec_module(module)
        torch.manual_seed(0)
        keys.append(HookedNet(module.Mine(causal=False).eval().double()).identity.current())
        del sys.modules["mine"]
    assert keys[0] != keys[1]


def test_labels() -> None:
    model = make("vit").model
    assert model.labels(pairs().clean[0])[:3] == ("cls", "0,0", "0,1")
    assert make("net").model.labels(pairs().clean[0])[:3] == ("0", "1", "2")
