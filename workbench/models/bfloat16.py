"""A copy of a language model in bfloat16, for screens."""

from __future__ import annotations

import copy

import torch

from workbench.models.language import HookedLM
from workbench.models.verdict import adopt


def has_bfloat16(device: torch.device) -> bool:
    """Whether the processor computes in bfloat16; where it does not, torch does so slowly in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def in_bfloat16(model: HookedLM) -> HookedLM:
    """The same model with bfloat16 weights; `model` is left as it is.

    The copy is not checked again: the self-check of `model` holds for it, as exact resumption is judged in the model's
    own precision.
    """
    with model.lock:
        hf = copy.deepcopy(model.hf).to(torch.bfloat16)
    converted = HookedLM(hf, model.tokenizer, model.provenance, check=False)
    adopt(converted, model)
    return converted
