"""The task family that the transformer is taught: random protocols with cues that are drawn anew for each prompt.

The outcome of a trial is what its cues are worth together, ``y_t = θ_t · x_t + noise``. Worths drift slowly, ``θ ← a θ
+ √(1 − a²) ε``, so that later trials count more, and cues become extinct.

A protocol has three phases of random lengths. Each plays one or two kinds of trial, of one cue or of two. **No cue is
met for the first time beside one that was met alone before**: neither blocking nor conditioned inhibition is ever
played. Acquisition, extinction, overshadowing and overexpectation are, among many others.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

#: Dimensions of a cue, cues of a prompt, and trials of a prompt.
CUE_SIZE, CUES, TRIALS = 8, 3, 41
#: a, of a worth's drift, and the variance of the noise.
DRIFT, NOISE = 0.995, 0.05
#: A phase's fewest trials, but for the middle one, which may be left out.
SHORTEST = 5


def draw(n: int, generator: torch.Generator) -> tuple[Float[Tensor, "n trial cue_size"], Float[Tensor, "n trial"]]:
    """Cues and outcomes of n prompts."""
    x = protocols(n, generator) @ _cues(n, generator)
    noise = NOISE**0.5 * torch.randn((n, TRIALS), generator=generator)
    moves = (1 - DRIFT**2) ** 0.5 * torch.randn((TRIALS, n, CUE_SIZE), generator=generator)
    worth, outcomes = torch.randn((n, CUE_SIZE), generator=generator), []
    for trial in range(TRIALS):
        outcomes.append((worth * x[:, trial]).sum(-1))
        worth = DRIFT * worth + moves[trial]
    return x, torch.stack(outcomes, 1) + noise


def _cues(n: int, generator: torch.Generator) -> Float[Tensor, "n cue cue_size"]:
    """Random directions of length one; orthogonal ones in every other prompt."""
    directions = torch.randn((n, CUES, CUE_SIZE), generator=generator)
    orthogonal, upper = torch.linalg.qr(directions.mT)
    orthogonal = (orthogonal * upper.diagonal(dim1=-2, dim2=-1).sign()[:, None]).mT  # without the signs: not uniform
    every_other = (torch.arange(n) % 2 == 0)[:, None, None]
    return torch.where(every_other, orthogonal, F.normalize(directions, dim=-1))


def protocols(n: int, generator: torch.Generator) -> Float[Tensor, "n trial cue"]:
    """Which cues each trial has, 1 or 0, in n random protocols without `new_beside_known`."""
    parts = []
    while sum(map(len, parts)) < n:
        some = _any_protocols(2 * n, generator)
        parts.append(some[~new_beside_known(some)])
    return torch.cat(parts)[:n]


def new_beside_known(present: Float[Tensor, "protocol trial cue"]) -> Bool[Tensor, " protocol"]:
    """Whether a cue is met for the first time beside one that was met alone before, as blocking has it."""
    seen = present > 0
    alone = present * (present.sum(-1, keepdim=True) == 1)
    is_known = (alone.cumsum(1) - alone) > 0
    is_new = (present.cumsum(1) - present) == 0
    return ((seen & is_known).any(-1) & (seen & is_new).any(-1)).any(-1)


def _any_protocols(n: int, generator: torch.Generator) -> Float[Tensor, "n trial cue"]:
    """Three phases, each of one or two kinds of trial in random order, each kind of one or two cues."""
    one_hot = torch.eye(CUES)
    first = torch.randint(CUES, (n, 3, 2), generator=generator)
    second = (first + torch.randint(1, CUES, (n, 3, 2), generator=generator)) % CUES
    is_compound = torch.rand((n, 3, 2, 1), generator=generator) < 0.5
    kinds = one_hot[first] + one_hot[second] * is_compound
    ends = torch.randint(SHORTEST, TRIALS - SHORTEST, (n, 2), generator=generator).sort(-1).values
    phase = (torch.arange(TRIALS)[None, :, None] >= ends[:, None]).sum(-1)
    has_two = torch.rand((n, 3), generator=generator) < 0.5
    kind = torch.randint(2, (n, TRIALS), generator=generator) * has_two.gather(1, phase)
    return kinds[torch.arange(n)[:, None], phase, kind]
