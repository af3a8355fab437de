"""Models that are not causal language models, and families that nobody listed."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from tests.conformance.toys import D_HEAD, HEADS, ResumableToy, Toy, pictures
from tests.families import VOCABULARY, paired
from tests.oracle.plain_hooks import Plain, head_slice
from workbench.core import Edit
from workbench.errors import UnsupportedModel
from workbench.head_scores.random_weights import random_model
from workbench.models.bfloat16 import in_bfloat16
from workbench.models.language import HookedLM
from workbench.models.resumable import ResumableModel
from workbench.patching.record import record
from workbench.patching.run import run
from workbench.patching.sweep import sweep

INPUTS = pictures()


class At:
    """A plain hook that changes a module's input or output in one sampling step only."""

    def __init__(self, module: nn.Module, end: str, step: int, change: Any) -> None:
        self.calls, self.step, self.change, self.activation = 0, step, change, torch.empty(0)
        if end == "input":
            self.handle = module.register_forward_pre_hook(self._pre)
        else:
            self.handle = module.register_forward_hook(self._post)

    def _pre(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self._apply(args[0]), *args[1:])

    def _post(self, _: nn.Module, __: object, output: Tensor) -> Tensor:
        return self._apply(output)

    def _apply(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls - 1 != self.step:
            return x
        self.activation = x
        return self.change(x.clone())


def expected(toy: Toy, site: str, step: int, layer: int, head: int, position: int | None, example: int) -> float:
    """The metric after one patch, from a full forward of the plain module."""
    block: Any = toy.blocks[layer]
    module, end = {"z": (block.o, "input"), "v": (block.v, "output"), "q": (block.q, "output")}.get(
        site, (block, "input")
    )
    if site == "mlp_out":
        module, end = block.mlp, "output"
    where = head_slice(head, D_HEAD) if site in ("z", "v", "q") else slice(None)
    rows = slice(None) if position is None else slice(position, position + 1)
    reading = At(module, end, step, lambda x: x)
    toy(INPUTS.clean[example][None])
    reading.handle.remove()

    def patch(x: Tensor) -> Tensor:
        x[:, rows, where] = reading.activation[:, rows, where]
        return x

    writing = At(module, end, step, patch)
    logits = toy(INPUTS.corrupt[example][None])[0]
    writing.handle.remove()
    return float(logits[INPUTS.answer[example][0]] - logits[INPUTS.wrong[example][0]])


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize(
    ("site", "by"),
    [
        ("z", "head"),
        ("v", "head"),
        ("q", "head"),
        ("z", ["head", "position"]),
        ("mlp_out", "position"),
        ("resid_pre", "layer"),
    ],
)
def test_a_toy_tower_is_swept_exactly(n_steps: int, site: str, by: str | list[str]) -> None:
    toy = Toy(n_steps=n_steps)
    resumable = ResumableToy(toy)
    assert isinstance(resumable, ResumableModel)
    by = [by] if isinstance(by, str) else by
    axes = by if n_steps == 1 else ["step", *by]
    result = sweep(resumable, INPUTS, site=site, by=axes, positions="all" if "position" in by else None)
    assert result.values.shape[0] == (n_steps if n_steps > 1 else 3)
    draw = random.Random(0)
    for _ in range(12):
        example = draw.randrange(len(INPUTS))
        index = {axis: draw.randrange(size) for axis, size in zip(result.axes, result.values.shape, strict=False)}
        head = index.get("head", index.get("kv_head", 0))
        position = index.get("position")
        value = expected(toy, site, index.get("step", 0), index["layer"], head, position, example)
        assert result.values[(*index.values(), example)] == pytest.approx(value, abs=1e-4)
    assert np.abs(result.delta).max() > 1e-2
    for example in range(len(INPUTS)):
        logits = toy(INPUTS.clean[example][None])[0]
        value = float(logits[INPUTS.answer[example][0]] - logits[INPUTS.wrong[example][0]])
        assert result.source is not None
        assert result.source[example] == pytest.approx(value, abs=1e-4)
    if site == "z" and by == ["head"]:
        # The layer half of the cone: a row passes only the depths from its own on.
        depths = 3 * n_steps
        assert resumable.layers_run <= len(INPUTS) * (HEADS * depths * (depths + 1) // 2)


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("edit", ["zero", "mean", "resample", "pattern"])
def test_other_edits_on_toys_equal_run(n_steps: int, edit: str) -> None:
    resumable = ResumableToy(Toy(n_steps=n_steps))
    site = "pattern" if edit == "pattern" else "z"
    attend = (0, "end") if edit == "pattern" else None
    by = "head" if n_steps == 1 else ["step", "head"]
    result = sweep(resumable, INPUTS, site=site, by=by, edit=edit, attend_to=attend)
    for step, layer, head in [(0, 1, 2), (n_steps - 1, 2, 0)]:
        out = run(resumable, INPUTS, [Edit(site, layer, head=head, kind=edit, attend_to=attend, step=step)])
        cell = result.values[(step, layer, head) if n_steps > 1 else (layer, head)]
        assert out.scores().numpy() == pytest.approx(cell, abs=1e-4)
        assert np.abs(cell - result.base).max() > 1e-3


def test_run_edits_several_steps_at_once() -> None:
    toy = Toy(n_steps=3)
    out = run(
        ResumableToy(toy),
        INPUTS,
        [Edit("z", 1, head=2, kind="zero", step=0), Edit("z", 0, head=1, kind="zero", step=2)],
    )
    for example, picture in enumerate(INPUTS.clean):
        hooks = []
        for step, layer, head in [(0, 1, 2), (2, 0, 1)]:

            def zero(x: Tensor, head: int = head) -> Tensor:
                x[..., head_slice(head, D_HEAD)] = 0
                return x

            block: Any = toy.blocks[layer]
            hooks.append(At(block.o, "input", step, zero))
        logits = toy(picture[None])[0]
        for hook in hooks:
            hook.handle.remove()
        assert torch.allclose(out.logits[example], logits, atol=1e-4)
        assert torch.allclose(out.base_logits[example], toy(picture[None])[0], atol=1e-4)
        assert (out.logits[example] - out.base_logits[example]).abs().max() > 1e-3


def test_pictures_are_recorded() -> None:
    rec = record(ResumableToy(Toy()), INPUTS, ["z", "pattern"])
    assert rec.clean.stack("z").shape == (3, 3, 6, HEADS, D_HEAD)
    assert torch.allclose(rec.clean.stack("pattern").sum(-1), torch.ones(()), atol=1e-5)


# --- a Hugging Face architecture made bidirectional -------------------------------------------------------------------


def shaken(config: transformers.PretrainedConfig, scale: float = 5.0) -> nn.Module:
    """A small random model of any architecture."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(scale)
        else:
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=draw))
    return model


SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}


def bidirectional(window: int) -> nn.Module:
    """Gemma 3 as it serves for embeddings."""
    sizes = {**SIZES, "head_dim": 8, "sliding_window": window}
    return shaken(transformers.Gemma3TextConfig(**sizes, use_bidirectional_attention=True))


def compare_z(model: HookedLM, hf: nn.Module, family: str) -> None:
    """A sweep of z against plain hooks."""
    inputs, plain = paired(2), Plain(hf, family)
    result = sweep(model, inputs, site="z")
    for example, layer, head in [(0, 0, 1), (1, 1, 5), (0, 2, 0), (1, 2, 3)]:
        clean = plain.read(inputs.clean[example], "z", layer)
        logits = plain.logits(inputs.corrupt[example], ("z", layer, lambda x, c=clean, h=head: x[:, h].copy_(c[:, h])))
        value = logits[list(inputs.answer[example])].mean() - logits[list(inputs.wrong[example])].mean()
        assert result.values[layer, head, example] == pytest.approx(float(value), abs=1e-4)
    assert np.abs(result.delta).max() > 1e-2


def test_a_bidirectional_language_model_keeps_the_layer_half() -> None:
    compare_z(HookedLM(bidirectional(4)), bidirectional(4), "gemma3")
    model = HookedLM(bidirectional(32))
    assert not model.causal
    pattern = model.run_with_cache(paired(1).clean[0][None])[1]["pattern", 1]
    assert (pattern.triu(1) > 1e-3).any()
    # A later position changes earlier ones, so nothing before the first difference is skipped but what is equal.
    result = sweep(model, paired(1, lengths=(9,)), site="resid_pre", by="position", positions="all")
    assert np.abs(result.delta[1, 0]).max() > 1e-3


def test_llama_without_a_mask_is_bidirectional() -> None:
    hf = shaken(transformers.LlamaConfig(**SIZES))
    for layer in hf.get_submodule("model.layers").children():
        attention: Any = layer.get_submodule("self_attn")
        attention.is_causal = False
    causal = HookedLM(shaken(transformers.LlamaConfig(**SIZES)))
    model = HookedLM(hf)
    assert causal.causal
    assert not model.causal
    compare_z(model, hf, "llama")


# --- families that nobody listed --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [transformers.PhiConfig(**SIZES), transformers.StableLmConfig(**SIZES)],
    ids=["phi", "stablelm"],
)
def test_an_unlisted_family_works(config: transformers.PretrainedConfig) -> None:
    model = HookedLM(shaken(config))
    assert not model.listed
    assert model.resumable
    ids = paired(1).clean[0][None]
    assert torch.equal(model(ids), shaken(config)(ids, use_cache=False).logits)
    inputs = paired(2)
    result = sweep(model, inputs)
    for layer, head in [(0, 1), (2, 5)]:
        out = run(model, inputs, [Edit("z", layer, head=head)], base="corrupt")
        assert result.values[layer, head] == pytest.approx(out.scores().numpy(), abs=1e-4)
    assert np.abs(result.delta).max() > 1e-2


def test_branches_that_do_not_add_up_are_left_out_with_a_warning() -> None:
    for config in (
        transformers.GraniteConfig(**SIZES, residual_multiplier=0.5),
        transformers.GraniteMoeConfig(**SIZES, residual_multiplier=0.5),
    ):
        with pytest.warns(UserWarning, match=r"do not add up.*left out"):
            model = HookedLM(shaken(config))
        assert not any("attn_out" in name or "resid_mid" in name or "mlp_out" in name for name in model.hook_dict)
        ids = paired(1).clean[0][None]
        assert set(model.run_with_cache(ids)[1].keys()) == set(model.hook_dict)
        inputs = paired(2)
        result = sweep(model, inputs)
        out = run(model, inputs, [Edit("z", 1, head=2)], base="corrupt")
        assert result.values[1, 2] == pytest.approx(out.scores().numpy(), abs=1e-4)
        assert np.abs(result.delta).max() > 1e-2


def test_a_copy_takes_over_what_the_check_found() -> None:
    with pytest.warns(UserWarning, match="left out"):
        model = HookedLM(shaken(transformers.GraniteConfig(**SIZES, residual_multiplier=0.5, logits_scaling=8.0)))
    for copy in (random_model(model), in_bfloat16(model)):
        assert list(copy.hook_dict) == list(model.hook_dict)
        assert (copy.short_readout, copy.resumable, copy.causal) == (False, True, True)


@pytest.mark.parametrize(
    "config",
    [
        transformers.CohereConfig(**SIZES, logit_scale=0.25),
        transformers.GraniteConfig(**SIZES, logits_scaling=8.0),
        transformers.LlamaConfig(**SIZES),
    ],
    ids=lambda config: config.model_type,
)
@pytest.mark.parametrize("metric", ["logit_difference", "kl_divergence"])
def test_a_family_that_scales_its_logits_is_read_out_by_its_own_forward(config: Any, metric: str) -> None:
    model = HookedLM(shaken(config))
    assert model.resumable and model.short_readout == (config.model_type == "llama")
    inputs = paired(3)
    result = sweep(model, inputs, metric=metric, cache=False)
    assert result.info["exact"] == "resumed"
    for layer, head in [(0, 1), (1, 5), (2, 3)]:
        out = run(model, inputs, [Edit("z", layer, head=head)], base="corrupt", cache=False)
        if metric == "kl_divergence":  # from the clean run, which is not the one that is edited here
            clean = run(model, inputs, [], unedited=False, cache=False).logits.log_softmax(-1)
            expected = (clean.exp() * (clean - out.logits.log_softmax(-1))).sum(-1)
        else:
            expected = out.scores(metric)
        assert result.values[layer, head] == pytest.approx(expected.numpy(), abs=1e-4)
    if metric == "logit_difference":
        compare_z(model, shaken(config), "llama")


def test_a_family_that_hides_its_attention_is_refused_with_the_reason() -> None:
    config = transformers.BloomConfig(
        vocab_size=VOCABULARY, hidden_size=48, n_layer=2, n_head=6, bos_token_id=None, eos_token_id=None
    )
    with pytest.raises(
        UnsupportedModel, match=r"BloomAttention.*heads cannot be reached|do not call the attention function"
    ):
        HookedLM(shaken(config))


def test_a_layer_that_ignores_z_is_refused_by_its_number() -> None:
    hf = shaken(transformers.LlamaConfig(**SIZES))
    hf.get_parameter("model.layers.1.self_attn.o_proj.weight").zero_()
    with pytest.raises(UnsupportedModel, match="changing z in layer 1 does not change"):
        HookedLM(hf)
