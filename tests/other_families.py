"""Tiny random models of families that have no entry in `FAMILIES`, with what theirs is peculiar to: gates, norms behind
attention, multipliers, fused projections, caps."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.families import SIZES, VOCABULARY, randomised
from workbench.models.language import HookedLM

_SIZES: dict[str, Any] = {**SIZES, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
_GROUPED: dict[str, Any] = {**_SIZES, "num_key_value_heads": 2}
_OLD: dict[str, Any] = {"vocab_size": VOCABULARY, "n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 64}
_EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
_LATENT: dict[str, Any] = {
    **_SIZES,
    "num_key_value_heads": 6,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "head_dim": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 3,
    "n_group": 1,
    "topk_group": 1,
}
#: Model type → the configuration's arguments.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "afmoe": {
        **_GROUPED,
        "head_dim": 8,
        "num_dense_layers": 1,
        "moe_intermediate_size": 16,
        **_EXPERTS,
        "n_group": 1,
        "topk_group": 1,
        "sliding_window": 4,
        "global_attn_every_n_layers": 2,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "bitnet": _GROUPED,
    "codegen": {**_OLD, "n_head": 4, "rotary_dim": 4, "n_ctx": 64},
    "cohere": {**_GROUPED, "use_qk_norm": True, "logit_scale": 0.0625},
    "cohere2": {
        **_GROUPED,
        "logit_scale": 0.25,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "deepseek_v2": {**_LATENT, "topk_method": "greedy"},
    "deepseek_v3": _LATENT,
    "exaone4": {
        **_GROUPED,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "gemma3n_text": {
        **_GROUPED,
        "head_dim": 8,
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 8,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "num_kv_shared_layers": 0,
        "laurel_rank": 4,
        "activation_sparsity_pattern": [0.0] * 3,
    },
    "glm4": {**_GROUPED, "head_dim": 8},
    "gpt_bigcode": {**_OLD, "multi_query": True},
    "gpt_oss": {
        **_GROUPED,
        "head_dim": 8,
        **_EXPERTS,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "gptj": {**_OLD, "rotary_dim": 4},
    "granite": {
        **_GROUPED,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "logits_scaling": 4.0,
        "attention_multiplier": 0.3,
    },
    "granitemoe": {
        **_GROUPED,
        **_EXPERTS,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "logits_scaling": 4.0,
        "attention_multiplier": 0.3,
    },
    "nemotron": _GROUPED,
    "olmo": _GROUPED,
    "olmo2": _GROUPED,
    "olmo3": {
        **_GROUPED,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "opt": {**_SIZES, "ffn_dim": 64, "word_embed_proj_dim": 48, "dropout": 0.0},
    "persimmon": {**_SIZES, "qk_layernorm": True},
    "phi": _GROUPED,
    "phi3": {**_GROUPED, "sliding_window": None},
    "qwen3_moe": {**_GROUPED, "head_dim": 8, **_EXPERTS, "moe_intermediate_size": 16},
    "qwen3_next": {
        **_GROUPED,
        "head_dim": 8,
        **_EXPERTS,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "layer_types": ["full_attention"] * 3,
        "partial_rotary_factor": 0.5,
    },
    "stablelm": {**_GROUPED, "use_qkv_bias": True},
    "starcoder2": {**_GROUPED, "use_bias": True},
    "vaultgemma": {**_GROUPED, "head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8},
}


def other(model_type: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A fresh model whose biases and norms are random too; the same every time."""
    config = AutoConfig.for_model(model_type, **{**ARGUMENTS[model_type], **changes})
    if model_type == "vaultgemma":
        config._attn_implementation = "eager"
    torch.manual_seed(0)
    return randomised(AutoModelForCausalLM.from_config(config).eval(), dtype)


@cache
def hooked_other(model_type: str) -> HookedLM:
    """A hooked model, shared by the tests of one process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*are left out")
        return HookedLM(other(model_type))
