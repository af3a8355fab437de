"""Models whose layers do something else from a length on, or that are not what their attributes say: a sweep is what
plain hooks give, at lengths on both sides, whether runs resume or not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV32Config,
    FalconH1Config,
    GlmMoeDsaConfig,
    Llama4TextConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Phi3Config,
    Qwen3Config,
)

import workbench as wb
from tests.families import VOCABULARY, paired, randomised
from tests.oracle.plain_hooks import captured, edited, head_slice
from workbench.models import proofs
from workbench.models.proofs import next_length

SHORT, LONG = (6, 8), (13, 16)
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": None,
}
LATENT: dict[str, Any] = {
    **SIZES,
    "num_key_value_heads": 6,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 32,
    "index_topk": 10,
    "index_n_heads": 2,
    "index_head_dim": 8,
}


def llama4(**changes: Any) -> Any:
    return Llama4TextConfig(**SIZES, intermediate_size_mlp=64, moe_layers=[], attn_temperature_tuning=True, **changes)


def long_rope() -> Any:
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_type": "longrope"}
    rope = {**factors, "original_max_position_embeddings": 10, "rope_theta": 10000.0}
    return Phi3Config(**SIZES, original_max_position_embeddings=10, rope_parameters=rope)


def dynamic_rope() -> Any:
    sizes: dict[str, Any] = SIZES | {"max_position_embeddings": 10}
    return LlamaConfig(**sizes, rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0})


def bidirectional(config: Any) -> Any:
    config.is_causal = False
    return config


CONFIGURATIONS: dict[str, Callable[[], Any]] = {
    "window": lambda: MistralConfig(**SIZES, sliding_window=10),
    "a scale of queries": lambda: llama4(floor_scale=10, attn_scale=1.0),
    "chunks": lambda: llama4(attention_chunk_size=10),
    "an indexer": lambda: DeepseekV32Config(**LATENT),
    "another indexer": lambda: GlmMoeDsaConfig(**LATENT),
    "long rope": long_rope,
    "dynamic rope": dynamic_rope,
    "a bidirectional llama": lambda: bidirectional(LlamaConfig(**SIZES)),
    "a bidirectional qwen": lambda: bidirectional(Qwen3Config(**SIZES)),
}


def falcon_h1() -> Any:
    """A Mamba branch beside attention in every layer."""
    state: dict[str, Any] = {
        "mamba_d_ssm": 48,
        "mamba_n_heads": 6,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
        "mamba_chunk_size": 8,
    }
    return FalconH1Config(**SIZES, **state, mamba_n_groups=1, mamba_d_conv=4)


def model_of(config: Any, dtype: torch.dtype = torch.float32) -> Any:
    """A model of random weights, the same every time."""
    torch.manual_seed(0)
    return randomised(AutoModelForCausalLM.from_config(config).eval().float(), dtype)


def at_rest(model: Any) -> None:
    """Dynamic rope: its frequencies are those of the longest input that it has seen since a short one."""
    model(torch.zeros(1, 4, dtype=torch.long), use_cache=False)


def plain_sweep(model: Any, inputs: wb.PairedInputs) -> np.ndarray:
    """Every head's z of the clean run in the corrupt one, by plain hooks on the output projections."""
    projections = [layer.self_attn.o_proj for layer in model.model.layers]
    values = np.zeros((len(projections), 6, len(inputs)))
    for i, (clean, corrupt) in enumerate(zip(inputs.clean, inputs.corrupt, strict=True)):
        at_rest(model)
        source = captured(model, clean[None], *((module, "input") for module in projections))
        for layer, module in enumerate(projections):
            for head in range(6):
                columns = head_slice(head, source[layer].shape[-1] // 6)

                def patch(z: torch.Tensor, new: torch.Tensor = source[layer], columns: slice = columns) -> torch.Tensor:
                    z = z.clone()
                    z[..., columns] = new[..., columns]
                    return z

                with torch.no_grad(), edited((module, "input", patch)):
                    logits = model(corrupt[None], use_cache=False).logits[0, -1].double()
                answer, wrong = list(inputs.answer[i]), list(inputs.wrong[i])
                values[layer, head, i] = float(logits[answer].mean() - logits[wrong].mean())
    return values


@pytest.mark.filterwarnings("ignore:.*resuming from the middle")
@pytest.mark.parametrize("lengths", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_sweep_is_exact_on_both_sides_of_a_length(name: str, lengths: tuple[int, int]) -> None:
    hf = model_of(CONFIGURATIONS[name]())
    expected = plain_sweep(hf, inputs := paired(4, lengths=lengths))
    at_rest(hf)
    swept = wb.sweep(wb.HookedLM(hf), inputs, cache=False)
    assert np.abs(swept.values - expected).max() < 1e-4
    assert np.abs(swept.delta).max() > 1e-2


@pytest.mark.filterwarnings("ignore:.*do not add up")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("config", [falcon_h1, lambda: llama4(floor_scale=4, attn_scale=1.0)], ids=["state", "scale"])
def test_half_precision_hides_nothing(config: Callable[[], Any], dtype: torch.dtype) -> None:
    hf = model_of(config(), dtype)
    expected = plain_sweep(hf, inputs := paired(4, lengths=(9, 12)))
    with pytest.warns(UserWarning, match="resuming from the middle differs by"):
        model = wb.HookedLM(hf)
    swept = wb.sweep(model, inputs, cache=False)
    assert swept.info["exact"] == "full forwards"
    rounding = np.abs(plain_sweep(model_of(config()), inputs) - expected).max()
    assert np.abs(swept.values - expected).max() <= rounding
    assert all(x.dtype == dtype for x in hf.parameters())


def test_experts_in_half_precision_are_said_to_flip() -> None:
    config = MixtralConfig(**SIZES, num_local_experts=16, num_experts_per_tok=1)
    with pytest.warns(UserWarning, match="in bfloat16: rounding alone moves what a layer adds .* Use float32"):
        model = wb.HookedLM(model_of(config, torch.bfloat16))
    assert model.resumable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert wb.HookedLM(model_of(config)).resumable


def test_a_verdict_is_paid_for_once_and_follows_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    prove = proofs.prove_resumption

    def counted(model: Any, inputs: torch.Tensor, **kwargs: Any) -> Any:
        made.append(inputs.shape[1])
        return prove(model, inputs, **kwargs)

    monkeypatch.setattr(proofs, "prove_resumption", counted)
    inputs = paired(4, lengths=(11, 14))
    model = wb.HookedLM(model_of(LlamaConfig(**SIZES)))
    wb.record(model, inputs, ["z"], cache=False)
    wb.run(model, inputs, [wb.Edit("z", 0, 0, kind="zero")], cache=False)
    assert made == []  # nothing is resumed
    wb.sweep(model, inputs, cache=tmp_path)
    wb.path_patch(model, inputs, cache=tmp_path)
    wb.sweep_sets(model, inputs, {"one": [wb.Head(0, 0)]}, cache=tmp_path)
    assert made == [16]
    wb.sweep(wb.HookedLM(model_of(LlamaConfig(**SIZES))), inputs, cache=tmp_path, edit="zero")
    assert made == [16]  # another process would find it, too
    wb.sweep(model, inputs, site="pattern", edit="zero", cache=tmp_path)
    assert made == [16, 16]  # with patterns computed explicitly
    wb.sweep(model, paired(2, lengths=(20, 20)), cache=tmp_path)
    assert made[2:] == [32]
    model.hf.config.sliding_window = 12
    wb.sweep(model, inputs, cache=False)
    assert made[3:] == [12, 16]


def test_numbers_in_the_configuration_are_lengths_where_something_may_start() -> None:
    config = MistralConfig(**SIZES, sliding_window=10)
    assert [next_length(length, config, 8) for length in (3, 8, 9, 10, 11, 16, 17, 33, 64, 65)] == [
        8, 8, 10, 10, 16, 16, 32, 64, 64, 128,
    ]  # fmt: skip
