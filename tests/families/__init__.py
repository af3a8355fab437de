"""Tiny random models of every supported family, and random paired inputs for them.

Weights are scaled up so that edits move the metric far above the tolerance.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from workbench.inputs.paired import PairedInputs
from workbench.models.language import HookedLM

VOCABULARY = 101
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
_GROUPED: dict[str, Any] = {**SIZES, "num_key_value_heads": 2}

FAMILIES = {
    "llama": lambda: LlamaConfig(**_GROUPED),
    "qwen2": lambda: Qwen2Config(**_GROUPED),
    "qwen3": lambda: Qwen3Config(**_GROUPED, head_dim=8),
    "mistral": lambda: MistralConfig(**_GROUPED, sliding_window=5),
    "gemma2": lambda: Gemma2Config(**_GROUPED, head_dim=8, sliding_window=4),
    "gemma3": lambda: Gemma3TextConfig(
        **_GROUPED,
        head_dim=8,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "gpt2": lambda: GPT2Config(vocab_size=VOCABULARY, n_embd=48, n_layer=3, n_head=6, n_positions=64),
    "gpt_neox": lambda: GPTNeoXConfig(**SIZES),
}


def randomised(model: Any, dtype: torch.dtype = torch.float32) -> Any:
    """The model with weights sharp enough for edits to matter, and random norms and biases, so that forgetting one
    shows."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.requires_grad_(False).parameters():
        if parameter.ndim > 1:
            parameter.mul_(5)
        else:
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.to(dtype)


def hugging_face(family: str, scale: float = 5.0) -> Any:
    """A fresh model of a family; the same weights every time."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[family]()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
    return model.requires_grad_(False)


def nudged(family: str, implementation: str = "", dtype: torch.dtype = torch.float32) -> Any:
    """A fresh model whose biases and norms are random too, so that forgetting one shows; the same every time."""
    model = hugging_face(family, scale=8.0 if family == "gpt2" else 5.0)  # sharp enough for edits of q to matter
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    if implementation:
        model.set_attn_implementation(implementation)
    return model.to(dtype)


@cache
def hooked(family: str) -> HookedLM:
    """A hooked model of a family, shared by the tests of one process."""
    return HookedLM(hugging_face(family))


def paired(n: int = 4, *, lengths: tuple[int, ...] = (9, 11), seed: int = 0) -> PairedInputs:
    """Random pairs of unequal lengths that differ at one early and one late position; ``S`` names the early one."""
    generator = torch.Generator().manual_seed(seed)
    clean, corrupt, named = [], [], []
    for i in range(n):
        ids = torch.randint(0, VOCABULARY, (lengths[i % len(lengths)],), generator=generator)
        first = 2 + i % 3
        other = ids.clone()
        other[[first, -2]] = (other[[first, -2]] + 7) % VOCABULARY
        clean.append(ids)
        corrupt.append(other)
        named.append({"S": first, "end": len(ids) - 1})
    return PairedInputs(
        name="random",
        clean=tuple(clean),
        corrupt=tuple(corrupt),
        answer=tuple((i,) for i in range(n)),
        wrong=tuple((i + 50, i + 60) for i in range(n)),
        options=tuple((i, i + 50, i + 60) for i in range(n)),
        positions=tuple(named),
        seed=seed,
    )
