"""The untrained model, and how its guesses are read."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from .batches import Batch
from .recipe import Recipe


def make_model(recipe: Recipe, vocabulary: int) -> LlamaForCausalLM:
    """Random weights. All embeddings share a component, so that attention by position alone is easy to learn."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.d_model,
        intermediate_size=recipe.d_mlp,
        num_hidden_layers=recipe.n_layers,
        num_attention_heads=recipe.n_heads,
        num_key_value_heads=recipe.n_kv_heads,
        head_dim=recipe.d_head,
        max_position_embeddings=recipe.context,
        rope_parameters={"rope_type": "default", "rope_theta": recipe.rope_theta},
        initializer_range=recipe.initial_std,
        tie_word_embeddings=True,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, :4].add_(recipe.common)
        for name in ("q_proj", "k_proj"):
            model.get_parameter(f"model.layers.0.self_attn.{name}.weight").mul_(recipe.sharpness)
    return model


def logits_at_places(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Logits ``[position, token]`` at the batch's positions only: the unembedding of all others would be wasted."""
    hidden = model.model(input_ids=batch.ids).last_hidden_state
    return model.lm_head(hidden.flatten(0, 1)[batch.positions])
