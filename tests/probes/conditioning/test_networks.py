"""Protocols played to networks: cues, prompts, and answers after each trial."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from data.conditioning import best
from data.conditioning.prompts import CUE_SIZE
from probes.conditioning import networks
from probes.conditioning.protocols import BLOCKING, CONTROL, PHASE, PROTOCOLS


@pytest.mark.parametrize("cosine", [0.0, 0.3])
def test_cues_of_episodes_have_their_angle_and_are_uniform(cosine: float) -> None:
    cues = networks.episodes(4_000, 0, cosine)
    gram = torch.eye(3, dtype=torch.float64)
    gram[0, 1] = gram[1, 0] = cosine
    torch.testing.assert_close(cues @ cues.mT, gram.expand(4_000, -1, -1), rtol=0, atol=1e-10)
    assert cues.mean(0).abs().max() < 5 / (CUE_SIZE * 4_000) ** 0.5
    assert torch.equal(cues, networks.episodes(4_000, 0, cosine))
    assert not torch.equal(cues, networks.episodes(4_000, 1, cosine))


def test_an_answer_is_read_from_the_trials_so_far_and_one_of_the_cue_in_question() -> None:
    cues, prompts = networks.episodes(2, 0), []

    def record(x: Tensor, y: Tensor) -> Tensor:
        prompts.append((x, y))
        return torch.arange(y.numel(), dtype=torch.float64).view_as(y)

    answers = networks.answers(record, BLOCKING, cues)
    assert answers.shape == (2, 2 * PHASE + 1) and [x.shape[1] for x, _ in prompts] == list(range(1, 2 * PHASE + 2))
    x, y = prompts[PHASE + 3]  # A twenty times, A and B three times, and B is asked for
    torch.testing.assert_close(x[:, :PHASE], cues[:, :1].expand(-1, PHASE, -1))
    torch.testing.assert_close(x[:, PHASE:-1], (cues[:, :1] + cues[:, 1:2]).expand(-1, 3, -1))
    torch.testing.assert_close(x[:, -1], cues[:, 1])
    assert (y[:, :-1] == 1).all() and (y[:, -1] == 0).all()
    assert answers[:, 5].tolist() == [5, 11]  # the last position of each prompt


def test_the_best_answers_are_those_of_least_squares_and_of_the_filter() -> None:
    cues = networks.episodes(2, 0)

    def last(predict: networks.Predictor, name: str) -> float:
        return networks.answer_after(predict, PROTOCOLS[name], cues, len(PROTOCOLS[name].trials))[0].item()

    expected = {
        "acquisition": 1,
        "extinction": 0.5,
        "overshadowing": 0.5,
        "blocking": 0,
        "control of blocking": 0.5,
        "conditioned inhibition": -1,
    }
    for name, value in expected.items():
        assert last(best.least_squares, name) == pytest.approx(value, abs=1e-9)
    # A ten times, B ten times, AB ten times, all with 1: the normal equations are 20 w + 10 w = 20.
    assert last(best.least_squares, "overexpectation") == pytest.approx(2 / 3)
    assert last(best.kalman_filter, BLOCKING.name) < 0.1 < 0.45 < last(best.kalman_filter, CONTROL.name)
    assert last(best.kalman_filter, "conditioned inhibition") < -0.9


def test_the_untrained_network_is_the_recipes_before_its_first_step() -> None:
    cues = networks.episodes(3, 0)
    one, again, other = (networks.answer_after(networks.untrained(seed), BLOCKING, cues, 40) for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other) and one.isfinite().all()
