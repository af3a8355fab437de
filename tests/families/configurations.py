"""Every tiny configuration of the table of families (`python -m tests.families`), by name.

A configuration gives a model type of transformers and what differs from the small sizes of `tests.families.shrink`. A
name with ``_w10``, ``_floor10``, ... has a window or a threshold of 10 positions, and its prompts cross it. Types of
``AutoModelForCausalLM`` that stand in no line are tried with the small sizes alone (`automatic`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


@dataclass(frozen=True)
class Configuration:
    """A tiny model.

    Attributes:
        model_type, settings: of transformers' configuration, see `tests.families.shrink.shrunk`.
        implementation: of attention; transformers' default where it is empty.
        lengths: of the pairs of prompts, in turn.
        head: which auto class makes the model.
        scale: what matrices are multiplied by, so that edits move the logits.
    """

    model_type: str
    settings: dict[str, Any] = field(default_factory=dict)
    implementation: str = ""
    lengths: tuple[int, ...] = (9, 12)
    head: Literal["causal", "masked", "seq2seq", "speech"] = "causal"
    scale: float = 5.0


CROSSING = (13, 16)
#: Multi-head latent attention has as many KV heads as heads.
LATENT: dict[str, Any] = {"num_key_value_heads": 6}
NOT_TOKENS: dict[str, Any] = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
MULTIPLIERS: dict[str, Any] = {
    "embedding_multiplier": 2.0,
    "logits_scaling": 2.0,
    "residual_multiplier": 0.5,
    "attention_multiplier": 0.25,
}


def _named(model_type: str, *, crossing: bool = False, **settings: Any) -> Configuration:
    return Configuration(model_type, settings, lengths=CROSSING if crossing else (9, 12))


def _layers(*kinds: str) -> list[str]:
    return [f"{kind}_attention" for kind in kinds]


_ALTERNATING = _layers("sliding", "full", "sliding")
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 16.0,
    "original_max_position_embeddings": 10,
    "max_position_embeddings": 160,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale_all_dim": 1.0,
    "mscale": 1.0,
    "llama_4_scaling_beta": 0.5,
}
_LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "original_max_position_embeddings": 12,
    "short_factor": [1.0] * 4,
    "long_factor": [1.5, 2.0, 3.0, 4.0],
}
_MAMBA2: dict[str, Any] = {"mamba_n_heads": 12, "mamba_d_head": 8}

NAMED: dict[str, Configuration] = {
    # Families with an entry in workbench.models.anatomy.FAMILIES.
    "llama": _named("llama"),
    "llama_bidir": _named("llama", is_causal=False),
    "llama_bidir_eager": Configuration("llama", {"is_causal": False}, "eager"),
    "llama_dynamic_rope": _named(
        "llama",
        crossing=True,
        max_position_embeddings=10,
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
    ),
    "mistral": _named("mistral", sliding_window=None),
    "mistral_w10": _named("mistral", crossing=True, sliding_window=10),
    "qwen2": _named("qwen2"),
    "qwen2_w10": _named("qwen2", crossing=True, sliding_window=10, use_sliding_window=True, max_window_layers=1),
    "qwen3": _named("qwen3"),
    "qwen3_bidir": _named("qwen3", is_causal=False),
    "gemma2": Configuration("gemma2", {"query_pre_attn_scalar": 8}, "eager"),
    "gemma2_w10": Configuration(
        "gemma2", {"query_pre_attn_scalar": 8, "sliding_window": 10}, "eager", lengths=CROSSING
    ),
    "gemma3_text": _named("gemma3_text", query_pre_attn_scalar=8),
    "gemma3_w10": _named("gemma3_text", crossing=True, sliding_window=10, layer_types=_ALTERNATING),
    "gemma3_bidir": _named("gemma3_text", crossing=True, sliding_window=10, use_bidirectional_attention=True),
    "gpt2": Configuration("gpt2", scale=8.0),
    "gpt_neox": _named("gpt_neox"),
    # Families that are found.
    "afmoe": _named("afmoe", layer_types=_ALTERNATING),
    "apertus": _named("apertus"),
    "arcee": _named("arcee"),
    "bitnet": _named("bitnet"),
    "codegen": _named("codegen"),
    "cohere": _named("cohere", logit_scale=0.5),
    "cohere2": _named("cohere2", logit_scale=0.5, layer_types=_ALTERNATING),
    "cwm": _named("cwm", layer_types=_ALTERNATING),
    "deepseek_v2": _named("deepseek_v2", **LATENT),
    "deepseek_v3": _named("deepseek_v3", **LATENT),
    "deepseek_v32": _named("deepseek_v32", **LATENT),
    "deepseek_v32_topk10": _named("deepseek_v32", crossing=True, **LATENT, index_topk=10),
    "doge": _named("doge"),
    "doge_window10": _named("doge", crossing=True, keep_window_size=10),
    "dots1": _named("dots1"),
    "ernie4_5": _named("ernie4_5"),
    "ernie4_5_moe": _named("ernie4_5_moe"),
    "exaone4": _named("exaone4"),
    "falcon_h1": _named("falcon_h1", mamba_d_ssm=64, mamba_n_heads=8, mamba_d_head=8),
    "flex_olmo": _named("flex_olmo"),
    "gemma": _named("gemma"),
    "gemma3n_shared": _named(
        "gemma3n_text", num_hidden_layers=4, num_kv_shared_layers=2, layer_types=_layers("sliding", "full") * 2
    ),
    "gemma3n_text": _named("gemma3n_text", num_kv_shared_layers=0),
    "gemma4_text": _named("gemma4_text", global_head_dim=8, num_kv_shared_layers=0),
    "glm": _named("glm"),
    "glm4": _named("glm4"),
    "glm4_moe": _named("glm4_moe"),
    "glm_moe_dsa_topk10": _named("glm_moe_dsa", crossing=True, **LATENT, index_topk=10),
    "gpt_bigcode": Configuration("gpt_bigcode", scale=8.0),
    "gpt_oss": _named("gpt_oss", crossing=True, sliding_window=10),
    "gpt_oss_default": _named("gpt_oss"),
    "gptj": _named("gptj"),
    "granite": _named("granite", **MULTIPLIERS),
    "granitemoe": _named("granitemoe", **MULTIPLIERS),
    "granitemoeshared": _named("granitemoeshared", **MULTIPLIERS),
    "helium": _named("helium"),
    "hunyuan_v1_dense": _named("hunyuan_v1_dense"),
    "hunyuan_v1_moe": _named("hunyuan_v1_moe"),
    "hyperclovax": _named("hyperclovax"),
    "jetmoe2": Configuration("jetmoe", {"num_key_value_heads": 3}, scale=10.0),
    "llama4_text": _named("llama4_text", num_hidden_layers=4),
    "llama4_chunk10": _named("llama4_text", crossing=True, num_hidden_layers=4, attention_chunk_size=10),
    "llama4_floor10": _named("llama4_text", crossing=True, num_hidden_layers=4, floor_scale=10, attn_scale=1.0),
    "minimax_fullattn": _named("minimax", layer_types=_layers("full", "full", "full")),
    "minimax_m2": _named("minimax_m2"),
    "ministral": _named("ministral", layer_types=_ALTERNATING),
    "ministral3": _named("ministral3"),
    "ministral3_scale10": _named("ministral3", crossing=True, rope_parameters=_YARN),
    "mixtral": _named("mixtral"),
    "nanochat": Configuration("nanochat", scale=8.0),
    "nemotron": _named("nemotron"),
    "olmo2": _named("olmo2"),
    "olmo3": _named("olmo3", crossing=True, sliding_window=10, layer_types=_ALTERNATING),
    "olmoe": _named("olmoe"),
    "opt": _named("opt", word_embed_proj_dim=48),
    "persimmon": _named("persimmon"),
    "phi": Configuration("phi", scale=8.0),
    "phi3": _named("phi3"),
    "phi3_longrope": Configuration(
        "phi3",
        {"original_max_position_embeddings": 12, "max_position_embeddings": 48, "rope_parameters": _LONG_ROPE},
        lengths=(9, 14),
    ),
    "phimoe": _named("phimoe"),
    "qwen2_moe": _named("qwen2_moe"),
    "qwen3_moe": _named("qwen3_moe", num_experts=4),
    "qwen3_next_fullattn": _named("qwen3_next", layer_types=_layers("full", "full", "full")),
    "seed_oss": _named("seed_oss"),
    "smollm3": _named("smollm3"),
    "stablelm": _named("stablelm"),
    "stablelm_parallel_qkln": _named("stablelm", use_parallel_residual=True, qk_layernorm=True),
    "starcoder2": Configuration("starcoder2", scale=8.0),
    "vaultgemma": Configuration("vaultgemma", {"query_pre_attn_scalar": 8}, "eager"),
    # State-space, convolutional and own attention; encoders and encoder-decoders.
    "bamba": _named("bamba", **_MAMBA2, attn_layer_indices=[1]),
    "bart_decoder": _named("bart"),
    "bert": Configuration("bert", head="masked"),
    "bert_decoder": _named("bert", is_decoder=True),
    "biogpt": _named("biogpt"),
    "bloom": _named("bloom"),
    "dbrx2": _named(
        "dbrx",
        attn_config={"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        ffn_config={"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 48},
    ),
    "diffllama": _named("diffllama"),
    "falcon_7b": _named("falcon"),
    "falcon_new": _named("falcon", new_decoder_architecture=True, num_kv_heads=2),
    "falcon_rw": _named("falcon", alibi=True, multi_query=False, num_kv_heads=6, parallel_attn=False, bias=True),
    "gemma4_global16": _named(
        "gemma4_text", global_head_dim=16, num_kv_shared_layers=0, layer_types=_layers("sliding", "full", "full")
    ),
    "gpt_neo": _named("gpt_neo", attention_types=[[["global", "local"], 2]], num_layers=4),
    "granitemoehybrid": _named("granitemoehybrid", **_MAMBA2, layer_types=["mamba", "attention", "mamba"]),
    "jamba": _named("jamba", attn_layer_period=2, attn_layer_offset=1),
    "lfm2": _named("lfm2", layer_types=["conv", "full_attention", "conv"]),
    "mamba": _named("mamba"),
    "minimax": _named("minimax", layer_types=_layers("full", "linear", "full")),
    "modernbert": Configuration("modernbert", head="masked"),
    "modernbert_decoder": _named("modernbert-decoder"),
    "mpt": _named("mpt"),
    "olmo": _named("olmo"),
    "openai-gpt": _named("openai-gpt"),
    "qwen3_5_text": _named("qwen3_5_text", num_hidden_layers=4),
    "qwen3_next": _named("qwen3_next", layer_types=_layers("linear", "full", "linear")),
    "recurrent_gemma": _named("recurrent_gemma"),
    "roberta": Configuration("roberta", head="masked"),
    "t5": Configuration("t5", {"decoder_start_token_id": 0}, head="seq2seq"),
    "whisper": Configuration("whisper", {"decoder_start_token_id": 0}, head="speech"),
    "whisper_decoder": _named("whisper"),
    "xglm": _named("xglm"),
    "zamba2": _named("zamba2", layers_block_type=["mamba", "hybrid", "mamba"]),
}  # fmt: skip

#: What the small sizes leave wrong, for types that no line above names.
_SPECIAL: dict[str, dict[str, Any]] = {
    "axk1": LATENT,
    "axk2": LATENT,
    "bailing_hybrid": {"num_experts": 4},
    "cohere2_moe": {"logit_scale": 0.5},
    "dots3_note_text": LATENT,
    "glm4_moe_lite": LATENT,
    "gemma4_unified_text": {"global_head_dim": 8},
    "kolibri1": {"num_experts": 4},
    "mamba2": {"num_heads": 12, "head_dim": 8},
    "minicpm3": LATENT,
    "reformer": {"is_decoder": True},
    "sarvam_mla": LATENT,
    "xmod": {"default_language": "en_XX", "pad_token_id": 1},
    "youtu": LATENT,
    "zaya": {"num_experts_per_tok": 1},
}
#: Types whose edits move the logits too little at the usual scale.
_SHARPER = {"gpt-sw3": 8.0, "inkling_text": 12.0, "sarvam_mla": 10.0, "zaya": 10.0}


def automatic() -> dict[str, Configuration]:
    """The types of ``AutoModelForCausalLM`` that no name above covers, each under its own name."""
    covered = {configuration.model_type for configuration in NAMED.values()}
    types = [name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name not in covered and name in CONFIG_MAPPING]
    return {name: Configuration(name, _SPECIAL.get(name, {}), scale=_SHARPER.get(name, 5.0)) for name in types}
