"""Tiny models with adapters of peft whose weights are random, so that forgetting one shows."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import peft
import torch

from tests.families import nudged

LLAMA_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_LORA: dict[str, Any] = {"r": 4, "lora_alpha": 8, "init_lora_weights": False}

#: Name → family and the adapter's configuration.
ADAPTERS: dict[str, tuple[str, Any]] = {
    "lora": ("llama", lambda: peft.LoraConfig(**_LORA, target_modules=LLAMA_PROJECTIONS, task_type="CAUSAL_LM")),
    "lora with biases": (
        "gpt_neox",
        lambda: peft.LoraConfig(
            **_LORA, target_modules=["query_key_value", "attention.dense", "dense_4h_to_h"], lora_bias=True
        ),
    ),
    "lora of both ends": (
        "llama",
        lambda: peft.LoraConfig(**_LORA, target_modules=["q_proj", "embed_tokens", "lm_head"]),
    ),
    "dora": ("llama", lambda: peft.LoraConfig(**_LORA, target_modules=["q_proj", "v_proj", "o_proj"], use_dora=True)),
    "loha": ("llama", lambda: peft.LoHaConfig(r=4, alpha=8, init_weights=False, target_modules=["v_proj", "o_proj"])),
    "ia3": (
        "llama",
        lambda: peft.IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], init_ia3_weights=False
        ),
    ),
    "gpt2": (
        "gpt2",
        lambda: peft.LoraConfig(**_LORA, target_modules=["c_attn", "attn.c_proj"], fan_in_fan_out=True),
    ),
    "another head": (
        "llama",
        lambda: peft.LoraConfig(**_LORA, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    ),
}


def with_adapter(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """A peft model with one adapter, active and not merged; the same weights every time."""
    family, config = ADAPTERS[name]
    hf = nudged(family, dtype=dtype)
    torch.manual_seed(1)
    model = peft.get_peft_model(hf, config(), autocast_adapter_dtype=False).eval()
    for part, parameter in model.named_parameters():
        if "lora_" in part or "hada_" in part:
            parameter.data.mul_(3)  # far above the tolerance
        elif "modules_to_save" in part:
            parameter.data.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    return model.requires_grad_(False)


def merged(model: Any) -> Any:
    """A copy with the adapters in the weights, made by peft."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return copy.deepcopy(model).merge_and_unload().eval()
