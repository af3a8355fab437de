"""Protocols played to transformers that learn in context, and to the best predictors of what they are taught."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaForTokenClassification

from workbench.models.sources.directory import quiet_transformers
from workbench.registry import ROOT, imported

from .protocols import Protocol, cues_at

learner = imported("data.conditioning.learner")
CUE_SIZE = imported("data.conditioning.prompts").CUE_SIZE

#: ``predict(x, y) -> answers``, of every trial before its outcome: ``[prompt, trial, size], [prompt, trial]``.
Predictor = Callable[[Tensor, Tensor], Tensor]
#: The seeds of the networks.
SEEDS = (0, 1, 2)


def trained(seed: int) -> Predictor:
    """The shipped network of a seed (``workbench train conditioning-0``)."""
    folder = ROOT / "data" / "checkpoints" / f"conditioning-{seed}"
    with quiet_transformers():
        return _predictor(LlamaForTokenClassification.from_pretrained(folder))


def untrained(seed: int) -> Predictor:
    """The same network before its first step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _predictor(learner.network())


def episodes(n: int, seed: int, cosine: float = 0.0) -> Float[Tensor, "episode cue size"]:
    """Vectors of A, B and C, rotated at random for each episode; the cosine is that of A and B."""
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn((n, CUE_SIZE, CUE_SIZE), generator=generator, dtype=torch.float64)
    rotation, upper = torch.linalg.qr(gaussian)
    rotation = rotation * upper.diagonal(dim1=-2, dim2=-1).sign()[:, None]  # or it is not uniform
    return cues_at(CUE_SIZE, cosine) @ rotation


def answers(
    predict: Predictor, protocol: Protocol, cues: Float[Tensor, "episode cue size"]
) -> Float[Tensor, "episode time"]:
    """What is answered to the cue in question before the first trial and after each one.

    Each answer is read from a prompt of the trials so far and one trial of the cue in question.
    """
    return torch.stack([answer_after(predict, protocol, cues, n) for n in range(len(protocol.trials) + 1)], -1)


def answer_after(
    predict: Predictor, protocol: Protocol, cues: Float[Tensor, "episode cue size"], trials: int
) -> Float[Tensor, " episode"]:
    """What is answered to the cue in question after the first `trials` trials."""
    x = torch.cat([protocol.present(cues)[:, :trials], protocol.test_vector(cues)[:, None]], 1)
    y = torch.zeros(x.shape[:2], dtype=x.dtype)
    y[:, :trials] = protocol.outcomes()[:trials]
    return predict(x, y)[:, -1].double()


def _predictor(network: LlamaForTokenClassification) -> Predictor:
    network.requires_grad_(False).eval()
    return lambda x, y: learner.answers(network, x.float(), y.float())
