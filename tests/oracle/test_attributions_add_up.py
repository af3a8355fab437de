"""Direct logit attribution and scores from weights against plain hooks and matrices made by hand, family by family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from tests.families import nudged, paired
from tests.other_families import hooked_other, other
from workbench.head_scores.on_task import task_scores
from workbench.models.language import HookedLM
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import resolve_model

SEVERAL = paired(2)
INPUTS = replace(
    SEVERAL, answer=tuple(ids[:1] for ids in SEVERAL.answer), wrong=tuple(ids[:1] for ids in SEVERAL.wrong)
)


@dataclass(frozen=True)
class Parts:
    """Where a family has its parts. `on_the_way`: norms of a layer between z and the stream; `mlp`: the last module of
    its other branch; `entry`: what z, gated or not, enters."""

    on_the_way: tuple[str, ...] = ()
    mlp: str = "mlp"
    entry: str = "self_attn.o_proj"
    layers: str = "model.layers"
    final: str = "model.norm"
    attention: str = "self_attn"


GPT = Parts(entry="attn.c_proj", layers="transformer.h", final="transformer.ln_f", attention="attn")
NORMED = Parts(("post_attention_layernorm",), mlp="post_feedforward_layernorm")
PARTS = {
    "afmoe": Parts(("post_attention_layernorm",), mlp="post_mlp_layernorm"),
    "bitnet": Parts(("self_attn.attn_sub_norm",), entry="self_attn.attn_sub_norm"),
    "codegen": replace(GPT, entry="attn.out_proj"),
    "cohere": Parts(),
    "cohere2": Parts(),
    "deepseek_v2": Parts(),
    "deepseek_v3": Parts(),
    "exaone4": NORMED,
    "gemma2": NORMED,
    "gemma3": NORMED,
    "glm4": Parts(("post_self_attn_layernorm",), mlp="post_mlp_layernorm"),
    "gpt_bigcode": GPT,
    "gpt_oss": Parts(),
    "gptj": replace(GPT, entry="attn.out_proj"),
    "granite": Parts(),
    "granitemoe": Parts(mlp="block_sparse_moe"),
    "llama": Parts(),
    "nemotron": Parts(),
    "olmo": Parts(),
    "olmo2": NORMED,
    "olmo3": NORMED,
    "opt": Parts(
        mlp="fc2", entry="self_attn.out_proj", layers="model.decoder.layers", final="model.decoder.final_layer_norm"
    ),
    "persimmon": Parts(entry="self_attn.dense", final="model.final_layernorm"),
    "phi3": Parts(),
    "qwen3_next": Parts(),
    "stablelm": Parts(),
    "starcoder2": Parts(),
    "vaultgemma": Parts(),
}
CENTRED = {
    "codegen",
    "cohere",
    "cohere2",
    "gpt_bigcode",
    "gptj",
    "nemotron",
    "olmo",
    "opt",
    "persimmon",
    "stablelm",
    "starcoder2",
}
LISTED = {"gemma2", "gemma3", "llama"}


def hooked(family: str) -> HookedLM:
    return HookedLM(nudged(family)) if family in LISTED else hooked_other(family)


def plain(family: str) -> Any:
    """Another copy, whose logits are not capped: what is attributed is the difference before the cap."""
    model = nudged(family) if family in LISTED else other(family)
    if getattr(model.config, "final_logit_softcapping", None) is not None:
        model.config.final_logit_softcapping = None
    return model


class ByHand:
    """The logit difference of one prompt with other z, everything that is not linear held at its value; `zeroed` is a
    head of layer 0 that the run itself goes without."""

    def __init__(self, family: str, ids: Tensor, answer: int, wrong: int, zeroed: int | None = None) -> None:
        self.model, self.parts, self.family = plain(family), PARTS[family], family
        self.ids, self.answer, self.wrong = ids, answer, wrong
        self.n_layers = self.model.config.num_hidden_layers
        self.values: dict[nn.Module, Tensor] = {}
        layers = range(self.n_layers)
        self.norms = [self.part(i, name) for i in layers for name in self.parts.on_the_way] + [
            self.model.get_submodule(self.parts.final)
        ]
        self.branches = [self.part(i, self.parts.mlp) for i in layers]
        self.entries = [self.part(i, self.parts.entry) for i in layers]
        if zeroed is not None:
            self.entries[0].register_forward_pre_hook(
                lambda _, args: (_without(args[0], zeroed, self.model), *args[1:])
            )
        with self.hooks(
            forward={m: self._record_output for m in self.branches},
            before={
                **{m: self._record_input for m in self.norms},
                **{m: self._record_input for m in self.entries},
            },
        ):
            self.base = self.difference()

    def part(self, layer: int, name: str) -> nn.Module:
        return self.model.get_submodule(f"{self.parts.layers}.{layer}.{name}")

    def difference(self) -> float:
        with torch.no_grad():
            logits = self.model(self.ids[None], use_cache=False).logits[0, -1]
        return float(logits[self.answer] - logits[self.wrong])

    def with_z(self, change: Callable[[int, Tensor], Tensor]) -> float:
        """With what enters the output projection (or the norm before it) changed at the last position."""

        def enter(layer: int) -> Callable[..., Any]:
            def hook(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                x = self.values[self.entries[layer]].clone()
                x[:, -1] = change(layer, x[:, -1])
                return (x, *args[1:])

            return hook

        before = {module: enter(i) for i, module in enumerate(self.entries)}
        forward = {module: lambda m, *_: self.values[m] for module in self.branches}
        held = {module: self._held for module in self.norms}
        with self.hooks(forward={**forward, **held}, before=before):
            return self.difference()

    def _held(self, norm: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        bias = getattr(norm, "bias", None)
        bias = 0 if bias is None else bias
        return (output - bias) * self.scale(args[0]) / self.scale(self.own_input(norm)) + bias

    def own_input(self, norm: nn.Module) -> Tensor:
        return self.values[norm]

    def scale(self, x: Tensor) -> Tensor:
        config = self.model.config
        names = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon")
        eps = next((getattr(config, name) for name in names if hasattr(config, name)), 1e-5)
        x = x - x.mean(-1, keepdim=True) if self.family in CENTRED else x
        return (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()

    def _record_input(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.values[module] = args[0].clone()

    def _record_output(self, module: nn.Module, args: Any, output: Any) -> None:
        self.values[module] = output

    @contextmanager
    def hooks(self, forward: dict[nn.Module, Any], before: dict[nn.Module, Any]) -> Iterator[None]:
        with ExitStack() as stack:
            for module, hook in before.items():
                stack.callback(module.register_forward_pre_hook(hook).remove)
            for module, hook in forward.items():
                stack.callback(module.register_forward_hook(hook).remove)
            yield


def _without(x: Tensor, head: int, model: Any) -> Tensor:
    z = x.unflatten(-1, (model.config.num_attention_heads, -1)).clone()
    z[..., head, :] = 0
    return z.flatten(-2)


@pytest.mark.parametrize("family", ["bitnet", "granite", "qwen3_next"])
def test_attributions_of_edited_runs_are_those_of_that_run(family: str) -> None:
    model, edit = hooked(family), wb.Edit("z", 0, 1, kind="zero")
    scores = task_scores(model, Recorder(resolve_model(model)), INPUTS, [edit], reading_out=0)
    unedited = task_scores(model, Recorder(resolve_model(model)), INPUTS, reading_out=0).attribution
    by_hand = ByHand(family, INPUTS.clean[0], INPUTS.answer[0][0], INPUTS.wrong[0][0], zeroed=1)
    for layer, head in [(0, 1), (1, 3), (2, 0)]:

        def change(i: int, x: Tensor, layer: int = layer, head: int = head) -> Tensor:
            return _without(x, head, by_hand.model) if i == layer else x

        expected = by_hand.base - by_hand.with_z(change)
        assert scores.attribution[0, layer, head] == pytest.approx(expected, abs=1e-5)
    assert np.abs(scores.attribution[0, 1:] - unedited[0, 1:]).max() > 1e-3
    assert scores.attribution[0, 0, 1] == 0


@pytest.mark.parametrize("family", PARTS)
def test_direct_logit_attribution_is_what_zeroing_a_head_takes_away(family: str) -> None:
    """Other branches, gates and the norms' scales held; so the heads and what is left without them add up."""
    model = hooked(family)
    assert not model.additivity.why_not
    scores = task_scores(model, Recorder(resolve_model(model)), INPUTS, reading_out=0)
    by_hand = ByHand(family, INPUTS.clean[0], INPUTS.answer[0][0], INPUTS.wrong[0][0])
    attribution, size = scores.attribution[0], np.abs(scores.attribution[0]).max()

    def without(gone: Sequence[tuple[int, int]]) -> float:
        def change(layer: int, x: Tensor) -> Tensor:
            z = x.unflatten(-1, (model.n_heads, -1)).clone()
            z[:, [head for i, head in gone if i == layer]] = 0
            return z.flatten(-2)

        return by_hand.with_z(change)

    heads = [(i, j) for i in range(model.n_layers) for j in range(model.n_heads)]
    assert without([]) == pytest.approx(by_hand.base, abs=2e-5 * max(size, abs(by_hand.base)))
    for head in heads:
        expected = by_hand.base - without([head])
        assert attribution[head] == pytest.approx(expected, abs=2e-5 * max(size, abs(by_hand.base))), head
    rest = without(heads)
    assert attribution.sum() + rest == pytest.approx(by_hand.base, abs=2e-5 * max(size, abs(by_hand.base)))
    assert size > 1e-3
    if getattr(model.config, "final_logit_softcapping", None) is None:
        assert scores.lens[0, -1] == pytest.approx(by_hand.base, abs=2e-5 * max(size, abs(by_hand.base)))
