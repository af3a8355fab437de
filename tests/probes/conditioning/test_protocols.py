"""Six phenomena of conditioning: rules against Rescorla and Wagner's model and against closed forms, to 1e-12."""

from __future__ import annotations

import pytest
import torch

from probes.conditioning import closed_forms, memories
from probes.conditioning.protocols import LETTERS, PHASE, PROTOCOLS, Protocol, cues_at, inhibition, overexpectation

STEP = 0.1
EXACT = {"rel": 0, "abs": 1e-12}


def scalar(protocol: Protocol, step: float) -> float:
    """Rescorla and Wagner's model, written out once more, with the worths as a plain list."""
    worth = [0.0] * len(LETTERS)
    for letters, outcome in protocol.trials:
        present = [LETTERS.index(letter) for letter in letters]
        total = sum(worth[i] for i in present)
        worth = [w + step * (outcome - total) if i in present else w for i, w in enumerate(worth)]
    return worth[LETTERS.index(protocol.test)]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_delta_rule_is_rescorla_and_wagners_and_has_the_closed_form(name: str) -> None:
    protocol = PROTOCOLS[name]
    for step in (0.1, 0.37):
        answer = memories.last_answer("delta", protocol, step)
        assert answer == pytest.approx(scalar(protocol, step), **EXACT)
        assert memories.rescorla_wagner(protocol, step) == pytest.approx(scalar(protocol, step), **EXACT)
        assert closed_forms.delta(step)[name] == pytest.approx(answer, **EXACT)
        assert memories.last_answer("hebbian", protocol, step) == pytest.approx(closed_forms.hebb(step)[name], **EXACT)


def test_the_numbers_are_the_known_ones() -> None:
    """Of step 0.1 and phases of 20, with the powers written out."""
    left, both = 0.9**20, 0.8**20
    known = {
        "acquisition": 1 - left,  # .8784
        "extinction": (1 - left) * left,  # .1068
        "overshadowing": (1 - both) / 2,  # .4942
        "blocking": left * (1 - both) / 2,  # .0601
        "control of blocking": (1 - both) / 2,
        "overexpectation": 0.5 + (0.5 - 0.9**10) * 0.8**10,
    }
    for name, value in known.items():
        assert memories.last_answer("delta", PROTOCOLS[name], STEP) == pytest.approx(value, **EXACT)
    assert [round(known[name], 4) for name in ("acquisition", "extinction", "blocking")] == [0.8784, 0.1068, 0.0601]
    together = memories.last_answer("delta", overexpectation(100, 100), STEP)
    assert together == pytest.approx(0.5 + (0.5 - 0.9**100) * 0.8**100, **EXACT)


@pytest.mark.parametrize(
    ("alternations", "decimals", "excited", "inhibited"), [(100, 3, 0.987, -0.981), (2000, 4, 1, -1)]
)
def test_inhibition_is_a_limit(alternations: int, decimals: int, excited: float, inhibited: float) -> None:
    protocol = inhibition(alternations)
    answer = memories.last_answer("delta", protocol, STEP)
    assert round(answer, decimals) == inhibited
    assert round(memories.last_answer("delta", Protocol("A", protocol.trials, "A"), STEP), decimals) == excited
    assert closed_forms.inhibition(STEP, alternations) == pytest.approx(answer, **EXACT)
    assert scalar(protocol, STEP) == pytest.approx(answer, **EXACT)
    assert memories.last_answer("hebbian", protocol, STEP) == 0


def test_hebb_misses_all_that_needs_an_error() -> None:
    hebb = {name: memories.last_answer("hebbian", protocol, STEP) for name, protocol in PROTOCOLS.items()}
    assert hebb["extinction"] == pytest.approx(hebb["acquisition"]) == pytest.approx(2)
    assert hebb["blocking"] == pytest.approx(hebb["control of blocking"])
    assert hebb["overexpectation"] > 1 and hebb["conditioned inhibition"] == 0


@pytest.mark.parametrize("rule", ["delta", "hebbian"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_trial_by_trial_ends_where_all_at_once_does(rule: str, name: str) -> None:
    curve = memories.answers(rule, PROTOCOLS[name], STEP)
    assert curve[0] == 0 and len(curve) == len(PROTOCOLS[name].trials) + 1
    assert curve[-1].item() == pytest.approx(memories.last_answer(rule, PROTOCOLS[name], STEP), **EXACT)
    acquired = memories.answers("delta", PROTOCOLS["blocking"], STEP)[PHASE]
    assert acquired == 0  # B has not been met


@pytest.mark.parametrize("cosine", [0.1, 0.3, 0.5])
def test_cues_that_are_alike_generalise_and_block_by_the_plain_loop(cosine: float) -> None:
    """The delta rule with vectors, written as its loop; before the compound phase B has the cosine times A's answer."""
    cues, protocol = cues_at(4, cosine), PROTOCOLS["blocking"]
    weights, read = torch.zeros(4, dtype=torch.float64), []
    for letters, outcome in protocol.trials:
        key = sum((cues[LETTERS.index(letter)] for letter in letters), torch.zeros(4, dtype=torch.float64))
        weights = weights + STEP * (outcome - weights @ key) * key
        read.append(weights @ cues[1])
    curve = memories.answers("delta", protocol, STEP, cues)
    torch.testing.assert_close(curve[1:], torch.stack(read), rtol=0, atol=1e-12)
    assert curve[PHASE].item() == pytest.approx(cosine * (1 - 0.9**PHASE), **EXACT)
    assert round(curve[-1].item(), 3) == {0.1: 0.105, 0.3: 0.193, 0.5: 0.281}[cosine]


def test_protocols_fit_the_prompts_that_networks_are_taught() -> None:
    from data.conditioning.prompts import TRIALS, new_beside_known

    for protocol in PROTOCOLS.values():
        assert len(protocol.trials) < TRIALS  # and one trial of the cue that is asked for
        present = protocol.present(torch.eye(len(LETTERS)))[None]
        assert new_beside_known(present).item() == protocol.is_held_out
