"""A tiny configuration of any model type of transformers: sizes by the usual names of a configuration's fields."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from transformers import CONFIG_MAPPING

VOCABULARY = 131
WIDTH, HEADS, KV_HEADS, LAYERS = 48, 6, 2, 3

#: What fields of one meaning are called, and their value.
_NAMES: tuple[tuple[int, str], ...] = (
    (VOCABULARY, "vocab_size vocab_size_per_layer_input unpadded_vocab_size"),
    (WIDTH, "hidden_size n_embd d_model embed_dim emb_dim dim model_dim embedding_size lru_width mamba_d_ssm"),
    (LAYERS, "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_decoder_layers"),
    (HEADS, "num_attention_heads n_head n_heads num_heads attention_heads swa_num_attention_heads"),
    (HEADS, "decoder_attention_heads encoder_attention_heads num_ngram_attention_heads num_decoder_attention_heads"),
    (HEADS, "num_encoder_attention_heads"),
    (KV_HEADS, "num_key_value_heads num_kv_heads kv_n_heads multi_query_group_num swa_num_key_value_heads"),
    (8, "head_dim d_kv kv_channels attention_head_dim v_head_dim qk_nope_head_dim global_head_dim swa_head_dim"),
    (8, "swa_v_head_dim index_head_dim linear_key_head_dim linear_value_head_dim lightning_head_dim rotary_dim d_head"),
    (8, "mamba_d_head mamba_head_dim mamba_headdim hidden_size_per_layer_input mamba_num_heads mamba_n_heads dim_head"),
    (64, "intermediate_size n_inner d_ff ffn_dim decoder_ffn_dim encoder_ffn_dim ffn_hidden_size d_inner dff dim_ff"),
    (32, "moe_intermediate_size shared_expert_intermediate_size moe_shared_expert_intermediate_size o_lora_rank"),
    (32, "shared_intermediate_size expert_ffn_hidden_size moe_latent_size"),
    (128, "max_position_embeddings n_positions n_ctx max_seq_len max_target_positions max_source_positions index_topk"),
    (128, "sliding_window attention_chunk_size local_attention attention_window_size window_size"),
    (4, "num_experts num_local_experts n_routed_experts moe_num_experts qk_rope_head_dim conv_kernel mamba_d_conv"),
    (4, "linear_conv_kernel_dim n_expert zero_expert_num"),
    (2, "num_experts_per_tok num_experts_per_token moe_k moe_top_k moe_topk top_k_experts index_n_heads"),
    (2, "linear_num_key_heads linear_num_value_heads mamba_n_groups n_groups"),
    (1, "n_shared_experts num_shared_experts moe_num_shared_experts n_group topk_group first_k_dense_replace"),
    (16, "mamba_d_state ssm_state_size state_size kv_lora_rank word_embed_proj_dim altup_rank laurel_rank lora_rank"),
    (24, "q_lora_rank"),
)  # fmt: skip
_VALUES = {name: value for value, names in _NAMES for name in names.split()}
_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id")


def shrunk(model_type: str, settings: Mapping[str, Any]) -> Any:
    """The configuration of that type with small sizes, and with `settings`."""
    kind: Any = CONFIG_MAPPING[model_type]
    values: dict[str, Any] = {}
    for field in fields(kind):
        types = typing.get_args(field.type) or (field.type,)
        if field.name in _VALUES and field.name not in kind.attribute_map and int in types:
            values[field.name] = _VALUES[field.name]
        if field.name in _TOKENS:
            values[field.name] = None if type(None) in types and model_type not in _PADDED else 1
    return kind(**{**values, **settings})


#: Types whose models compare with the padding's id.
_PADDED = (
    "camembert",
    "data2vec-text",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "prophetnet",
)
