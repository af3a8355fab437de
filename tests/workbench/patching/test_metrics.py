"""Metrics against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax

from tests.families import hooked, paired
from workbench import statistics
from workbench.core import Edit
from workbench.errors import BadInput, UnknownName, UsageError
from workbench.patching.metric import Example, Metric, resolve_metric
from workbench.patching.run import Outcome, run
from workbench.patching.sweep import sweep
from workbench.registry import METRICS

LOGITS = torch.tensor([[0.0, 1.0, 2.0, 3.0], [3.0, 0.0, 0.0, 0.0]])


def score(name: str, example: Example, logits: torch.Tensor = LOGITS) -> list[float]:
    metric = resolve_metric(name)
    required = metric.required_tokens(example)
    return metric(logits if required is None else logits[:, list(required)], example).tolist()


def test_logit_difference_averages_several_answers() -> None:
    assert score("logit_difference", Example(0, (3,), (1,), ())) == [2.0, 0.0]
    assert score("logit_difference", Example(0, (3, 2), (0, 1), ())) == [2.0, -1.5]
    assert score("logit_difference", Example(0, (1,), (3, 0, 2), ())) == pytest.approx([1 - 5 / 3, -1.0])


def test_probabilities_of_several_answers_are_summed() -> None:
    total = sum(math.exp(x) for x in (0, 1, 2, 3))
    one = score("answer_probability", Example(0, (1,), (3,), ()))
    assert one[0] == pytest.approx(math.e / total)
    two = score("answer_probability", Example(0, (1, 3), (0,), ()))
    assert two[0] == pytest.approx((math.e + math.e**3) / total)
    assert score("answer_probability", Example(0, (0, 1, 2, 3), (), ())) == pytest.approx([1.0, 1.0])
    assert [math.exp(x) for x in score("answer_log_probability", Example(0, (1, 3), (0,), ()))] == pytest.approx(two)


def test_accuracy_over_the_vocabulary_and_among_the_options() -> None:
    assert score("accuracy", Example(0, (3,), (1,), ())) == [1.0, 0.0]
    assert score("accuracy", Example(0, (0, 3), (1,), ())) == [1.0, 1.0]
    assert score("accuracy", Example(0, (2,), (1,), (1, 2))) == [0.0, 0.0]
    # Among options 1 and 2 the answer 2 wins the first row, although 3 is likelier.
    assert score("accuracy_among_options", Example(0, (2,), (1,), (1, 2)))[0] == 1.0
    assert score("accuracy_among_options", Example(0, (2,), (1,), (1, 2, 3)))[0] == 0.0
    assert score("accuracy_among_options", Example(0, (2,), (1,), ()))[0] == 1.0
    assert score("accuracy_among_options", Example(0, (1,), (2,), ()))[0] == 0.0
    # An answer that is not the first of several still counts.
    assert score("accuracy_among_options", Example(0, (1, 2), (0,), (0, 1, 2)))[0] == 1.0


def test_divergence_from_the_clean_run() -> None:
    reference = LOGITS[0]
    divergence = score("kl_divergence", Example(0, (1,), (2,), (), reference))
    p, q = LOGITS[0].double().softmax(-1), LOGITS[1].double().softmax(-1)
    assert divergence[0] == pytest.approx(0.0, abs=1e-7)
    assert divergence[1] == pytest.approx(float((p * (p / q).log()).sum()), abs=1e-6)
    shifted = score("kl_divergence", Example(0, (1,), (2,), (), reference + 5))
    assert shifted == pytest.approx(divergence, abs=1e-6)
    with pytest.raises(BadInput, match="clean run"):
        score("kl_divergence", Example(0, (1,), (2,), ()))


NO = -math.inf
#: Logits of the clean and of the edited run in which tokens are excluded.
EXCLUDED = {
    "by both": ([0.0, 1.0, NO, NO], [0.5, 0.0, NO, NO]),
    "by the clean run": ([0.0, 1.0, NO, 2.0], [3.0, 0.0, 1.0, 0.5]),
    "by the edited run": ([0.0, 1.0, 0.5, 2.0], [3.0, 0.0, NO, 0.5]),
    "all but one": ([NO, 1.0, NO, NO], [0.0, 0.0, 0.0, 0.0]),
    "by each another": ([0.0, NO, 1.0, 0.0], [NO, 0.0, 1.0, 0.0]),
}


@pytest.mark.parametrize("clean, edited", EXCLUDED.values(), ids=EXCLUDED)
def test_an_excluded_token_adds_nothing_to_the_divergence_or_makes_it_infinite(
    clean: list[float], edited: list[float]
) -> None:
    before, after = torch.tensor(clean), torch.tensor([edited])
    p, q = (softmax(np.array(logits)) for logits in (clean, edited))
    expected = float(rel_entr(p, q).sum())
    outcome = Outcome(after, before[None], paired(1), ())
    assert score("kl_divergence", Example(0, (1,), (2,), (), before), after) == [pytest.approx(expected, abs=1e-6)]
    assert outcome.kl().tolist() == [pytest.approx(expected, abs=1e-12)]
    log_p, log_q = (log_softmax(np.array(logits)) for logits in (clean, edited))
    assert statistics.kl_divergence(log_p, log_q) == pytest.approx(expected, abs=1e-12)
    assert math.isinf(expected) == any(a > NO == b for a, b in zip(clean, edited, strict=True))


def test_a_probability_that_rounds_to_zero_is_not_excluded() -> None:
    before, after = torch.tensor([0.0, -2000.0]), torch.tensor([[0.0, NO]])
    assert score("kl_divergence", Example(0, (0,), (1,), (), before), after) == [math.inf]
    far = torch.tensor([[-2000.0, 0.0]])  # q rounds to 0 too, and p log(p / q) is 2000 nats
    assert score("kl_divergence", Example(0, (0,), (1,), (), before), far) == [2000.0]
    assert statistics.kl_divergence(np.array([0.0, -2000.0]), np.array([-2000.0, 0.0])) == 2000


def test_the_divergence_from_or_to_what_is_no_number_is_none() -> None:
    good, bad = torch.tensor([0.0, 1.0]), torch.tensor([math.nan, 1.0])
    for before, after in ((good, bad), (bad, good), (torch.full((2,), NO), good)):
        assert math.isnan(score("kl_divergence", Example(0, (0,), (1,), (), before), after[None])[0])
        assert Outcome(after[None], before[None], paired(1), ()).kl().isnan().all()
        log_p, log_q = (logits.log_softmax(-1).numpy() for logits in (before, after))
        assert math.isnan(statistics.kl_divergence(log_p, log_q))


def test_the_divergence_has_a_gradient_beside_excluded_tokens() -> None:
    logits = torch.tensor([[0.0, 1.0, NO, 2.0]], requires_grad=True)
    metric = resolve_metric("kl_divergence")
    metric(logits, Example(0, (1,), (2,), (), torch.tensor([1.0, 0.0, NO, 0.0]))).sum().backward()
    p, q = torch.tensor([1.0, 0.0, NO, 0.0]).softmax(-1), logits.detach()[0].softmax(-1)
    assert logits.grad is not None and torch.allclose(logits.grad[0], q - p)  # of KL(p ‖ softmax) in its logits


def test_names_and_callables() -> None:
    with pytest.raises(UnknownName, match="logit_difference"):
        resolve_metric("logit_diference")
    metric = resolve_metric(lambda logits, example: logits[:, example.index])
    assert isinstance(metric, Metric)
    assert metric(LOGITS, Example(2, (), (), ())).tolist() == [2.0, 0.0]
    assert all(METRICS[name].name == name and METRICS[name].units for name in METRICS.names())


def test_a_token_that_is_not_named_is_refused() -> None:
    metric = Metric(
        "m", "logits", lambda logits, example, columns: logits[:, columns(example.wrong)[0]], lambda e: e.answer
    )
    with pytest.raises(UsageError, match="metric=m: score reads the logit of token 2, which tokens does not return"):
        metric(torch.zeros(1, 1), Example(0, (1,), (2,), ()))


@pytest.mark.parametrize("name", [name for name in METRICS.names() if METRICS[name].reads == "logits"])
def test_every_metric_of_logits_agrees_between_sweep_and_run(name: str) -> None:
    model, inputs = hooked("llama"), paired(3)
    swept = sweep(model, inputs, site="z", direction="noise", metric=name, layers=[1], heads=[2])
    out = run(model, inputs, [Edit("z", 1, head=2)])
    assert swept.values[0, 0] == pytest.approx(out.scores(name).numpy(), abs=1e-4)
    assert swept.base == pytest.approx(out.scores(name, base=True).numpy(), abs=1e-4)
    assert swept.info["metric"] == name
    if name == "kl_divergence":
        assert swept.base == pytest.approx(0.0, abs=1e-5)
        assert swept.values.min() > 0


def test_a_callable_metric_in_a_sweep() -> None:
    model, inputs = hooked("gpt2"), paired(3)

    def first_answer(logits: torch.Tensor, example: Example) -> torch.Tensor:
        return logits[:, example.answer[0]]

    swept = sweep(model, inputs, direction="noise", metric=first_answer, layers=[0], heads=[1])
    out = run(model, inputs, [Edit("z", 0, head=1)])
    expected = [float(out.logits[i, inputs.answer[i][0]]) for i in range(3)]
    assert swept.values[0, 0] == pytest.approx(expected, abs=1e-4)
    assert swept.info["metric"] == "first_answer"
