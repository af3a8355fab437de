"""What is wrong with a model of one's own is refused in one line when it is hooked or used, and nothing of it is cached
unless its class says what the numbers depend on."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from tests.conformance.own_models import D_HEAD, HEADS, KINDS, LAYERS, HookedNet, Net, make, pairs, pictures
from workbench.errors import UnsupportedModel, UsageError


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
        (lambda x: x - 0.5 * x.mean(0), "what OtherNet.outputs gives for an input depends on the others of its batch"),
    ],
    ids=["a position is added", "inputs are mixed"],
)
def test_streams_that_are_not_the_inputs_are_refused(change: Any, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        other(change)(make("net").model.hf)


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


def test_sizes_of_too_many_layers_and_of_another_type_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="has 3 modules in 'blocks', and n_layers is 5"):
        other_sizes(n_layers=5)(make("net").model.hf)
    with pytest.raises(UsageError, match=r"Sized.sizes\(\)=.*expected wb.Sizes"):
        type("Sized", (HookedNet,), {"sizes": lambda self: {"n_layers": 3}})(make("net").model.hf)


def test_trial_inputs_that_the_model_does_not_take_are_refused() -> None:
    narrow = type("Narrow", (HookedNet,), {"trial": lambda self: torch.zeros(2, 10, 7).double()})
    with pytest.raises(
        UnsupportedModel, match=r"Narrow.outputs failed on what Narrow.trial gives, .* of torch.float64"
    ):
        narrow(make("net").model.hf)


def test_heads_without_an_axis_are_refused() -> None:
    class Folded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.nn.functional.scaled_dot_product_attention(x, x, x)

    class Plain(HookedNet):
        parts = wb.Anatomy(layers="blocks", attention="attn", attn_out="attn")

    net = make("net").model.hf
    net.blocks[0].attn = Folded()
    with pytest.raises(UnsupportedModel, match=r"expected \[batch, head, position, d_head\], with an axis of heads"):
        Plain(net)


def test_inputs_are_those_of_the_models_precision() -> None:
    net = make("net").model.hf.float()
    single = type("Single", (HookedNet,), {"trial": lambda self: pictures(2, seed=9).float()})(net)
    assert single(pictures(2, seed=1).float()).dtype == torch.float32
    assert single.double()(pictures(2, seed=1)).dtype == torch.float64


def test_pairs_that_cannot_be_compared_are_refused() -> None:
    model, clean = make("net").model, tuple(pictures(2, seed=1))
    with pytest.raises(UsageError, match=r"corrupt\[1\]=.*expected a tensor of its clean one's shape"):
        wb.PairedInputs("pictures", clean, (clean[0], clean[1][:5]))
    without = wb.PairedInputs("pictures", clean, clean, answer=((1,), (2,)))
    for metric in ("logit_difference", "accuracy_among_options"):
        with pytest.raises(UsageError, match="expected pairs with wrong answers, because metric"):
            wb.sweep(model, without, metric=metric)
    beyond = wb.PairedInputs("pictures", clean, clean, ((1,), (2,)), ((2,), (1,)), ((1, 99), (1, 2)))
    with pytest.raises(UsageError, match="one of these is 99"):
        wb.sweep(model, beyond)


def test_mlps_that_cannot_be_edited_cannot_be_frozen() -> None:
    class Plain(HookedNet):
        parts = wb.Anatomy(layers="blocks", attention="attn", attn_out="attn")

    with pytest.raises(UsageError, match=r"mlps=.freeze..*Name mlp_out in its parts"):
        wb.path_patch(Plain(make("net").model.hf), pairs(), position=0, mlps="freeze")


def other_sizes(**change: int) -> type[wb.HookedModel]:
    sizes = {"n_layers": LAYERS, "n_heads": HEADS, "n_kv_heads": HEADS, "d_head": D_HEAD, "d_model": HEADS * D_HEAD}
    return type("Sized", (HookedNet,), {"sizes": lambda self: wb.Sizes(**sizes | change)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_kv_heads": 2}, r"its values are of 4 heads of width 8, and n_kv_heads and d_head are \(2, 8\)"),
        ({"d_head": 4}, r"its values are of 4 heads of width 8, and n_kv_heads and d_head are \(4, 4\)"),
        ({"n_heads": 2}, "layer 0 has 4 heads, and n_heads is 2"),
        ({"d_model": 16}, "a stream of width 32, and d_model is 16"),
    ],
    ids=str,
)
def test_sizes_that_are_not_the_models_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        other_sizes(**change)(make("net").model.hf)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda self, x: (self.hf(x),), r"outputs gave <tuple> for 2 inputs: expected a tensor \[input, output\]"),
        (lambda self, x: self.hf(x)[0], r"outputs gave <Tensor of shape \(6,\)> for 2 inputs"),
        (lambda self, x: self.hf(x).argmax(-1, keepdim=True), "outputs gave torch.int64: expected numbers"),
        (lambda self, x: self.hf(x).softmax(0), "for an input depends on the others of its batch"),
        (wb.HookedModel.outputs, r"Told has no outputs. Write outputs\(self, inputs\): what metrics read"),
    ],
    ids=["a tuple", "one input's", "choices", "a share of the batch", "not written"],
)
def test_outputs_that_are_no_table_are_refused(outputs: Any, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        type("Told", (HookedNet,), {"outputs": outputs})(make("net").model.hf)


def test_a_class_without_trial_inputs_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"Silent has no trial. Write trial\(self\): two random inputs"):
        type("Silent", (HookedNet,), {"trial": wb.HookedModel.trial})(make("net").model.hf)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output": "qkv"}, "output='qkv' does not read z"),
        ({"fused_layout": "per_head"}, "fused='qkv' does not give the q that attention receives"),
        ({"fused": "out"}, "fused='out' does not give the q that attention receives"),
        (
            {"norm1": "norm2", "norm2": "norm1"},
            "norm1 does not read the sum of the residual stream and",
        ),
        ({"norm1": "norm2", "norm2": "", "mlp_out": ""}, "norm1='norm2' does not read the layer's input"),
        ({"final_norm": "blocks.2.mlp"}, "final_norm='blocks.2.mlp' is no norm"),
        ({"final_norm": "blocks.0.norm1"}, "final_norm='blocks.0.norm1' does not read what leaves the last layer"),
        ({"final_norm": "head"}, "final_norm='head' is no norm"),
        ({"final_norm": "blocks"}, "final_norm='blocks' is no norm"),
        ({"mlp_output": "9"}, "has no module 'blocks.0.mlp.9' for mlp_output"),
    ],
    ids=str,
)
def test_parts_that_do_something_else_are_refused(change: dict[str, str], message: str) -> None:
    parts = replace(HookedNet.parts, **change)
    with pytest.raises(UnsupportedModel, match=message):
        type("Named", (HookedNet,), {"parts": parts})(make("net").model.hf)


class Twice(nn.Module):
    """Calls its attention once too often, or never."""

    def __init__(self, attention: nn.Module, times: int) -> None:
        super().__init__()
        self.attention, self.times = attention, times

    def forward(self, x: Tensor) -> Tensor:
        q = k = v = x[:, None]
        for _ in range(self.times):
            q = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return q[:, 0]


@pytest.mark.parametrize("times", [0, 2])
def test_a_layer_that_does_not_call_attention_once_is_refused(times: int) -> None:
    class Plain(HookedNet):
        parts = wb.Anatomy(layers="blocks", attention="attn", attn_out="attn")

    net = make("net").model.hf
    net.blocks[1].attn = Twice(net.blocks[1].attn, times)
    with pytest.raises(UnsupportedModel, match=f"layer 1 calls the attention function {times} times in a forward"):
        Plain(net)


class PostNorm(nn.Module):
    """Norms what each branch has added."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.attn, self.mlp, self.norm1, self.norm2 = block.attn, block.mlp, block.norm1, block.norm2

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attn(x))
        return self.norm2(x + self.mlp(x))


def test_branches_that_do_not_add_up_say_what_to_leave_out() -> None:
    net = make("net").model.hf
    net.blocks = nn.ModuleList(PostNorm(block) for block in net.blocks)
    with pytest.raises(UnsupportedModel, match="as attn_out and mlp_out, or leave these two out"):
        HookedNet(net)


def test_inputs_of_another_content_are_refused() -> None:
    model, (wide, ids) = make("net").model, (torch.zeros(10, 7).double(), torch.zeros(10, 48).long())
    for row in (wide, ids):
        with pytest.raises(
            UsageError, match=r"expected \[position, 48\] of torch.float64.*Give inputs as HookedNet.trial does"
        ):
            wb.sweep(model, wb.PairedInputs("pictures", (row,), (row + 1,)), metric="kl_divergence")
        with pytest.raises(UsageError, match=r"^input=<Tensor of shape .*Give inputs as HookedNet.trial does"):
            model(row[None])


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_cannot_do_is_refused_in_one_line(kind: str) -> None:
    case = make(kind)
    with pytest.raises(UsageError, match=r"task='Mary': expected .*wb.PairedInputs, because this is a model of"):
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


class Tempered(HookedNet):
    def outputs(self, inputs: Tensor) -> Tensor:
        return self.hf(inputs) * getattr(self, "temperature", 1.0)


def test_what_a_hooked_model_reads_is_in_the_keys(tmp_path: Path) -> None:
    net, inputs = make("net").model.hf, pairs()

    def swept(model: wb.HookedModel) -> Any:
        return wb.sweep(model, inputs, cache=tmp_path).values

    class Doubled(HookedNet):
        def outputs(self, x: Tensor) -> Tensor:
            return 2 * self.hf(x)

    once, tempered = swept(HookedNet(net)), cast(Any, Tempered(net))
    assert swept(Doubled(net)) == pytest.approx(2 * once)
    assert swept(tempered) == pytest.approx(once)
    tempered.temperature = 0.5
    assert swept(tempered) == pytest.approx(once / 2)

    class At(Tempered):
        def __init__(self, temperature: float) -> None:
            vars(self)["temperature"] = temperature
            super().__init__(net)

    assert swept(At(3.0)) == pytest.approx(3 * once)
    assert swept(At(4.0)) == pytest.approx(4 * once)
    tempered.outputs = lambda x: 5 * net(x)
    assert swept(tempered) == pytest.approx(5 * once)
    net.options = {"scale": 3.0}
    type(net).forward, before = (lambda self, x: before(self, x) * self.options["scale"]), type(net).forward
    try:
        assert swept(HookedNet(net)) == pytest.approx(3 * once)
        net.options["scale"] = 4.0
        assert swept(HookedNet(net)) == pytest.approx(4 * once)
    finally:
        type(net).forward = before


def test_the_file_of_a_class_is_in_the_keys(tmp_path: Path) -> None:
    file, keys = tmp_path / "mine.py", []
    for scale in (1.0, 2.0):
        file.write_text(
            "from tests.conformance import own_models as own\n\n\ndef scaled(x):\n    return x * "
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
