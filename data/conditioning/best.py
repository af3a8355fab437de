"""The best answers: the Kalman filter of the task family, and least squares, for which nothing drifts."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .prompts import DRIFT, NOISE

Cues = Float[Tensor, "prompt trial cue_size"]
Outcomes = Float[Tensor, "prompt trial"]


def kalman_filter(x: Cues, y: Outcomes) -> Outcomes:
    """``E[y_t | x_1, y_1, …, x_t]`` of each trial, exactly: no predictor has a smaller squared error in the family.

    With mean m and covariance P of θ_t: the answer is ``m · x``; the outcome then moves the mean by ``k (y − m · x)``
    with ``k = P x / (x · P x + r)``, and the covariance is ``a² (P − k (P x)ᵀ) + (1 − a²) I`` (Kalman 1960; of
    conditioning: Dayan and Kakade 2001).
    """
    x, y = x.double(), y.double()
    n, trials, size = x.shape
    eye = torch.eye(size, dtype=x.dtype)
    mean, covariance, answers = x.new_zeros(n, size), eye.expand(n, -1, -1), []
    for trial in range(trials):
        cues = x[:, trial]
        answers.append((mean * cues).sum(-1))
        spread = (covariance @ cues[..., None])[..., 0]
        gain = spread / ((cues * spread).sum(-1, keepdim=True) + NOISE)
        mean = DRIFT * (mean + gain * (y[:, trial] - answers[-1])[:, None])
        covariance = DRIFT**2 * (covariance - gain[..., None] * spread[:, None]) + (1 - DRIFT**2) * eye
    return torch.stack(answers, 1)


def least_squares(x: Cues, y: Outcomes) -> Outcomes:
    """What the shortest θ with the least ``Σ (y − θ · x)²`` over the earlier trials answers at each trial."""
    x, y = x.double(), y.double()
    answers = [y.new_zeros(len(y))]
    for trial in range(1, x.shape[1]):
        weights = torch.linalg.pinv(x[:, :trial]) @ y[:, :trial, None]
        answers.append((x[:, trial, None] @ weights)[:, 0, 0])
    return torch.stack(answers, 1)
