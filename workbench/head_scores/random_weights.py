"""The same architecture with weights that learned nothing: the chance level of every score."""

from __future__ import annotations

from copy import deepcopy

import torch

from workbench.models.language import HookedLM
from workbench.models.self_check import adopt
from workbench.models.swap import copy_operators


def random_model(model: HookedLM, seed: int = 0) -> HookedLM:
    """A model of the same configuration with the family's own random initialisation, on the same device."""
    config = deepcopy(model.hf.config)
    config._attn_implementation = model.attention_implementation
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        hf = type(model.hf)(config)
    copy_operators(model, hf)
    hf = hf.to(device=model.device, dtype=model.dtype).eval()
    untrained = HookedLM(hf, model.tokenizer, {"name": f"random weights of seed {seed}"}, check=False)
    adopt(untrained, model)
    return untrained
