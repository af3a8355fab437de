"""The same architecture with weights that learned nothing: the chance level of every score."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch

from workbench.models.hooked import HookedModel
from workbench.models.swap import install, operators_of

Model = TypeVar("Model", bound=HookedModel)


def random_model(model: Model, seed: int = 0) -> Model:
    """A model of the same configuration with the family's own random initialisation, on the same device."""
    config = deepcopy(model.hf.config)
    config._attn_implementation = model.attention_implementation
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        hf = type(model.hf)(config)
    hf = hf.to(device=model.device, dtype=model.dtype).eval()
    untrained = install(model, hf, operators_of(model))
    untrained.provenance = {"name": f"random weights of seed {seed}"}
    untrained.proofs.of = model.proofs
    return untrained
