"""The transformer that learns conditioning in context: transformers' Llama with a number for its output.

Position t has the cues of trial t beside the cues and the outcome of the trial before it, and answers what the cues of
trial t predict. Cues and outcomes are the input vectors themselves: there are no tokens.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers import LlamaConfig, LlamaForTokenClassification

from .prompts import CUE_SIZE, TRIALS


def network(width: int = 64, layers: int = 2, heads: int = 4) -> LlamaForTokenClassification:
    """The untrained network; its random weights come from torch's generator."""
    others: dict[str, Any] = {"num_labels": 1, "classifier_dropout": 0.0}  # of every configuration of transformers
    config = LlamaConfig(
        vocab_size=1,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=TRIALS,
        initializer_range=width**-0.5,
        bos_token_id=None,
        eos_token_id=None,
        **others,
    )
    return LlamaForTokenClassification(config)


def answers(
    network: LlamaForTokenClassification, x: Float[Tensor, "prompt trial cue_size"], y: Float[Tensor, "prompt trial"]
) -> Float[Tensor, "prompt trial"]:
    """What the network answers at each trial, before its outcome."""
    return network(inputs_embeds=positions(x, y, network.config.hidden_size)).logits[..., 0]


def positions(
    x: Float[Tensor, "prompt trial cue_size"], y: Float[Tensor, "prompt trial"], width: int
) -> Float[Tensor, "prompt trial width"]:
    """The input vectors: the cues now, the cues and the outcome of the trial before, and zeros."""
    rows = x.new_zeros(*y.shape, width)
    rows[..., :CUE_SIZE] = x
    rows[:, 1:, CUE_SIZE : 2 * CUE_SIZE] = x[:, :-1]
    rows[:, 1:, 2 * CUE_SIZE] = y[:, :-1]
    return rows
