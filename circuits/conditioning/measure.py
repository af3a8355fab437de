"""What the finding ``conditioning`` measures: the answers of rules, networks and best predictors, as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from workbench.findings import Quantity
from workbench.registry import imported

if TYPE_CHECKING:
    from probes.conditioning.networks import Predictor
    from probes.conditioning.protocols import Protocol

best = imported("data.conditioning.best")
closed_forms = imported("probes.conditioning.closed_forms")
memories = imported("probes.conditioning.memories")
networks = imported("probes.conditioning.networks")
protocols = imported("probes.conditioning.protocols")
BLOCKING, CONTROL, PHASE, PROTOCOLS = protocols.BLOCKING, protocols.CONTROL, protocols.PHASE, protocols.PROTOCOLS
inhibition, overexpectation = protocols.inhibition, protocols.overexpectation

HEBB, DELTA, LEAST_SQUARES, BEST = "Hebbian", "delta rule", "least squares", "best possible"
ATTENTION, UNTRAINED = "attention", "untrained attention"
RULES = {HEBB: "hebbian", DELTA: "delta"}
PREDICTORS: dict[str, Predictor] = {LEAST_SQUARES: best.least_squares, BEST: best.kalman_filter}


@dataclass(frozen=True)
class Learner:
    """Who answers: a rule, a predictor, or the network of a seed."""

    name: str
    seed: int | None
    curve: Callable[[Protocol], Float[np.ndarray, "episode time"]]

    @property
    def title(self) -> str:
        """With the seed, where there is one."""
        return self.name if self.seed is None else f"{self.name} {self.seed}"


def learners(n: int, seed: int, step: float) -> Iterator[Learner]:
    """All of them; what is exact is the same in every episode, and is computed in one."""
    for name, rule in RULES.items():
        yield Learner(name, None, lambda protocol, rule=rule: memories.answers(rule, protocol, step)[None].numpy())
    once, cues = networks.episodes(1, seed), networks.episodes(n, seed)
    for name, predict in PREDICTORS.items():
        yield Learner(name, None, _curve(predict, once))
    for name, made in ((ATTENTION, networks.trained), (UNTRAINED, networks.untrained)):
        for of in networks.SEEDS:
            yield Learner(name, of, _curve(made(of), cues))


def _curve(predict: Predictor, cues: Tensor) -> Callable[[Protocol], Float[np.ndarray, "episode time"]]:
    return lambda protocol: networks.answers(predict, protocol, cues).numpy()


class Curves(dict[tuple[str, str], Float[np.ndarray, "episode time"]]):
    """Answers to the cue in question after each trial, by the learner's title and the protocol."""

    def __init__(self, of: Iterable[Learner], progress: Callable[[int, int], Any]) -> None:
        super().__init__()
        self.learners = list(of)
        for done, learner in enumerate(self.learners):
            self.update({(learner.title, name): learner.curve(protocol) for name, protocol in PROTOCOLS.items()})
            progress(done + 1, len(self.learners))

    def last(self, learner: Learner, protocol: str) -> Float[np.ndarray, " episode"]:
        """The answers after the last trial."""
        return self[learner.title, protocol][:, -1]

    def of(self, name: str) -> list[Learner]:
        """The learners of that name."""
        return [learner for learner in self.learners if learner.name == name]

    def difference(self, name: str) -> list[Quantity]:
        """How much less the cue is answered to after blocking than after its control, for each learner of a name."""
        return [
            quantity(self.last(learner, CONTROL.name) - self.last(learner, BLOCKING.name)) for learner in self.of(name)
        ]

    def share(self, name: str) -> list[Quantity]:
        """The same as a share of the control's answer."""
        return [share(self.last(learner, CONTROL.name), self.last(learner, BLOCKING.name)) for learner in self.of(name)]

    def table(self) -> pd.DataFrame:
        """The last answers: a row for each protocol and learner."""
        rows = []
        for protocol in PROTOCOLS.values():
            for learner in self.learners:
                last = self.last(learner, protocol.name)
                rows.append(
                    {
                        "protocol": protocol.name,
                        "learner": learner.title,
                        "played in training": not protocol.is_held_out,
                        **quantity(last).columns("answer"),
                        "n": len(last),
                    }
                )
        return pd.DataFrame(rows)


def quantity(values: Float[np.ndarray, " episode"]) -> Quantity:
    """The mean over episodes with its interval; one value is exact."""
    return Quantity.exact(values[0]) if len(values) == 1 else Quantity.mean(values)


def share(control: Float[np.ndarray, " episode"], blocked: Float[np.ndarray, " episode"]) -> Quantity:
    """``mean(control − blocked) / mean(control)``."""
    if len(control) == 1:
        return Quantity.exact(1 - blocked[0] / control[0])
    return Quantity.ratio(control - blocked, control)


def rules_table(step: float) -> pd.DataFrame:
    """The delta rule beside Rescorla and Wagner's model and its closed form, and Hebb's; long protocols too."""
    delta, hebb = closed_forms.delta(step), closed_forms.hebb(step)
    rows = [_rules_row(protocol, "", step, delta[name], hebb[name]) for name, protocol in PROTOCOLS.items()]
    rows.append(
        _rules_row(
            overexpectation(100, 100),
            "100 trials of each cue, then 100 of both",
            step,
            closed_forms.overexpectation(step, 100, 100),
            200 * step,
        )
    )
    for n in (100, 2000):
        rows.append(_rules_row(inhibition(n), f"{n:,} alternations", step, closed_forms.inhibition(step, n), 0.0))
    return pd.DataFrame(rows)


def _rules_row(protocol: Protocol, length: str, step: float, closed_form: float, hebb: float) -> dict[str, Any]:
    delta, model = memories.last_answer("delta", protocol, step), memories.rescorla_wagner(protocol, step)
    written = memories.last_answer("hebbian", protocol, step)
    return {
        "protocol": protocol.name,
        "length": length or f"phases of {PHASE} trials",
        "delta": delta,
        "rescorla_wagner": model,
        "closed_form": closed_form,
        "hebbian": written,
        "hebbian_closed_form": hebb,
        "largest_difference": max(abs(delta - model), abs(delta - closed_form), abs(written - hebb)),
    }


def angle_table(n: int, seed: int, step: float, cosines: Sequence[float]) -> pd.DataFrame:
    """What the compound phase adds to the answer to B, after A and after another cue, by the cosine of A and B."""
    rows = []
    for cosine in cosines:
        cues, once = networks.episodes(n, seed, cosine), networks.episodes(1, seed, cosine)
        for name, rule in RULES.items():
            curves = [memories.answers(rule, protocol, step, once[0])[None].numpy() for protocol in (BLOCKING, CONTROL)]
            rows.append(_angle_row(cosine, name, *(curve[:, [PHASE, -1]] for curve in curves)))
        rows.append(_angle_row(cosine, BEST, *_before_and_after(best.kalman_filter, once)))
        for of in networks.SEEDS:
            rows.append(_angle_row(cosine, f"{ATTENTION} {of}", *_before_and_after(networks.trained(of), cues)))
    return pd.DataFrame(rows)


def _before_and_after(predict: Predictor, cues: Tensor) -> list[Float[np.ndarray, "episode 2"]]:
    """The answers to B before the compound phase and after it, in blocking and in its control."""
    ends = (PHASE, 2 * PHASE)
    return [
        np.stack([networks.answer_after(predict, protocol, cues, end).numpy() for end in ends], -1)
        for protocol in (BLOCKING, CONTROL)
    ]


def _angle_row(cosine: float, learner: str, blocked: np.ndarray, control: np.ndarray) -> dict[str, Any]:
    return {
        "cosine": float(cosine),
        "learner": learner,
        "blocked_after": blocked[:, 1].mean(),
        "generalised": blocked[:, 0].mean(),
        **quantity(blocked[:, 1] - blocked[:, 0]).columns("blocked_added"),
        **quantity(control[:, 1] - control[:, 0]).columns("control_added"),
        "n": len(blocked),
    }
