"""Prompts of conditioning: what they never play, their law, and the best answers to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from data.conditioning import best, learner, prompts


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def breaks_the_rule(present: np.ndarray) -> bool:
    """The same rule as a plain loop over trials."""
    met, alone = set(), set()
    for row in present:
        cues = set(np.flatnonzero(row).tolist())
        if len(cues) == 2 and cues & alone and cues - met:
            return True
        met |= cues
        alone |= cues if len(cues) == 1 else set()
    return False


def test_no_prompt_has_a_new_cue_beside_a_known_one() -> None:
    some = prompts.protocols(400, generator())
    assert not any(breaks_the_rule(one) for one in some.numpy())
    assert set(some.sum(-1).unique().tolist()) == {1, 2}
    unchecked = prompts._any_protocols(400, generator())
    expected = [breaks_the_rule(one) for one in unchecked.numpy()]
    assert prompts.new_beside_known(unchecked).tolist() == expected and 0 < sum(expected) < 400


def test_prompts_are_those_of_the_generator_and_have_the_law_of_the_family() -> None:
    x, y = prompts.draw(4_000, generator())
    again = prompts.draw(4_000, generator())
    assert torch.equal(x, again[0]) and torch.equal(y, again[1])
    single = x.norm(dim=-1).sub(1).abs() < 1e-5
    # A cue of length one has the outcome θ · x + noise, of variance 1 + r, at every trial.
    assert y[single].var().item() == pytest.approx(1 + prompts.NOISE, rel=0.03)
    cues = prompts._cues(4_000, generator())
    assert cues.mean((0, 1)).abs().max() < 0.02
    torch.testing.assert_close(
        cues[::2] @ cues[::2].mT, torch.eye(prompts.CUES).expand(2000, -1, -1), atol=1e-5, rtol=0
    )


def test_the_kalman_filter_is_the_conditional_mean_of_the_joint_gaussian() -> None:
    """By one solve over all outcomes: cov(y_s, y_t) = a^|s − t| x_s · x_t, and the noise on the diagonal."""
    x, y = (part.double() for part in prompts.draw(3, generator()))
    steps = torch.arange(prompts.TRIALS, dtype=x.dtype)
    covariance = prompts.DRIFT ** (steps[:, None] - steps).abs() * (x @ x.mT)
    noise = prompts.NOISE * torch.eye(prompts.TRIALS, dtype=x.dtype)
    answers = best.kalman_filter(x, y)
    for trial in (1, 7, 40):
        joint = (covariance + noise)[:, :trial, :trial]
        expected = (covariance[:, trial, :trial] * torch.linalg.solve(joint, y[:, :trial])).sum(-1)
        torch.testing.assert_close(answers[:, trial], expected, rtol=0, atol=1e-10)
    assert (answers[:, 0] == 0).all()


def test_least_squares_are_scikit_learns() -> None:
    x, y = prompts.draw(2, generator())
    answers = best.least_squares(x, y)
    for prompt in range(2):
        fit = LinearRegression(fit_intercept=False).fit(x[prompt, :40].double(), y[prompt, :40].double())
        assert answers[prompt, 40].item() == pytest.approx(float(fit.predict(x[prompt, 40:].double())[0]), abs=1e-6)


def test_an_answer_depends_on_earlier_trials_and_its_own_cues_alone() -> None:
    torch.manual_seed(0)
    network = learner.network().eval()
    x, y = prompts.draw(2, generator())
    answers = learner.answers(network, x, y)
    later = x.clone(), y.clone()
    later[0][:, 21:], later[1][:, 20:] = 1.0, 5.0
    torch.testing.assert_close(learner.answers(network, *later)[:, :21], answers[:, :21], rtol=0, atol=1e-5)
    assert (learner.answers(network, *later)[:, 21] - answers[:, 21]).abs().min() > 1e-3
