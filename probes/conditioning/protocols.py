"""The protocols: which cues are met with which outcome, in which order, and which cue is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

#: A trial: its cues, a letter each, and its outcome.
Trial = tuple[str, float]


@dataclass(frozen=True)
class Protocol:
    """A protocol.

    Attributes:
        name: of the phenomenon.
        trials: in their order.
        test: the cue that is asked for.
        is_held_out: whether no prompt that the transformers are taught has its structure.
    """

    name: str
    trials: tuple[Trial, ...]
    test: str
    is_held_out: bool = False

    def present(self, cues: Float[Tensor, "*batch cue size"]) -> Float[Tensor, "*batch trial size"]:
        """What is present at each trial: the sum of its cues' vectors, those of A, B and C."""
        rows = torch.tensor([[float(letter in letters) for letter in LETTERS] for letters, _ in self.trials])
        return rows.to(cues.dtype) @ cues

    def outcomes(self) -> Float[Tensor, " trial"]:
        """The outcome of each trial."""
        return torch.tensor([outcome for _, outcome in self.trials], dtype=torch.float64)

    def test_vector(self, cues: Float[Tensor, "*batch cue size"]) -> Float[Tensor, "*batch size"]:
        """The vector of the cue that is asked for."""
        return cues[..., LETTERS.index(self.test), :]


#: The cues.
LETTERS = "ABC"
#: Trials of a phase.
PHASE = 20


def overexpectation(each: int, together: int) -> Protocol:
    """A and B are worth 1 alone, then 1 together: each has to lose half."""
    return Protocol("overexpectation", (("A", 1.0), ("B", 1.0)) * each + (("AB", 1.0),) * together, "A")


def inhibition(alternations: int) -> Protocol:
    """A is followed by 1, A with B by 0, in turns: B comes to predict that nothing follows."""
    return Protocol("conditioned inhibition", (("A", 1.0), ("AB", 0.0)) * alternations, "B", is_held_out=True)


_A, _AB = (("A", 1.0),) * PHASE, (("AB", 1.0),) * PHASE
BLOCKING = Protocol("blocking", _A + _AB, "B", is_held_out=True)
#: What blocking is compared with: another cue than A is met before.
CONTROL = Protocol("control of blocking", (("C", 1.0),) * PHASE + _AB, "B")
#: By name. The transformers are taught prompts of as many trials.
PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("acquisition", _A, "A"),
        Protocol("extinction", _A + (("A", 0.0),) * PHASE, "A"),
        Protocol("overshadowing", _AB, "B"),
        BLOCKING,
        CONTROL,
        overexpectation(PHASE // 2, PHASE // 2),
        inhibition(PHASE),
    )
}


def cues_at(size: int = len(LETTERS), cosine: float = 0.0) -> Float[Tensor, "cue size"]:
    """Vectors of A, B and C: of length one and orthogonal, but for the cosine of A and B."""
    cues = torch.eye(len(LETTERS), size, dtype=torch.float64)
    cues[1] = cosine * cues[0] + (1 - cosine**2) ** 0.5 * cues[1]
    return cues
