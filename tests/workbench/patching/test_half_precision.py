"""Models in half precision: what is computed of their logits and activations is what float64 gives on Hugging Face's
own half-precision numbers, to 1e-6."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.families import nudged, paired
from tests.oracle.plain_hooks import captured, edited, head_slice, output_projection
from workbench.models.language import HookedLM
from workbench.models.precision import HALF
from workbench.patching.attribution import first_order_change
from workbench.patching.metric import Example, resolve_metric
from workbench.patching.values import mean_of

INPUTS = paired(6)
HALVES = pytest.mark.parametrize("dtype", HALF, ids=lambda dtype: str(dtype).removeprefix("torch."))
FAMILIES = pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])


@cache
def model_of(family: str, dtype: torch.dtype) -> HookedLM:
    return HookedLM(nudged(family, dtype=dtype))


def mean_difference(logits: Tensor, i: int) -> float:
    """The logit difference of input `i` in float64."""
    answers, wrongs = (logits[list(ids)].double().mean() for ids in (INPUTS.answer[i], INPUTS.wrong[i]))
    return float(answers - wrongs)


def last_logits(hf: torch.nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Of each input, from plain forwards of all inputs of one length."""
    logits: dict[int, Tensor] = {}
    for length in {len(ids) for ids in inputs}:
        members = [i for i, ids in enumerate(inputs) if len(ids) == length]
        with torch.no_grad():
            outputs = hf(torch.stack([inputs[i] for i in members])).logits[:, -1]
        logits |= dict(zip(members, outputs, strict=True))
    return [logits[i] for i in range(len(inputs))]


@HALVES
@FAMILIES
def test_metrics_of_unedited_runs_are_those_of_hugging_faces_logits(family: str, dtype: torch.dtype) -> None:
    model, hf = model_of(family, dtype), nudged(family, dtype=dtype)
    clean, corrupt = last_logits(hf, INPUTS.clean), last_logits(hf, INPUTS.corrupt)
    assert clean[0].dtype == dtype
    for direction, logits in (("noise", clean), ("denoise", corrupt)):
        sweep = wb.sweep(model, INPUTS, direction=direction, layers=[2], heads=[0], cache=False)
        np.testing.assert_allclose(sweep.base, [mean_difference(x, i) for i, x in enumerate(logits)], atol=1e-6)
        for name in ("kl_divergence", "answer_log_probability"):
            sweep = wb.sweep(model, INPUTS, direction=direction, metric=name, layers=[2], heads=[0], cache=False)
            for i, x in enumerate(logits):
                p, q = clean[i].double().log_softmax(-1), x.double().log_softmax(-1)
                divergence, answers = (p.exp() * (p - q)).sum(), q[list(INPUTS.answer[i])].logsumexp(-1)
                expected = float(divergence if name == "kl_divergence" else answers)
                assert sweep.base[i] == pytest.approx(expected, abs=1e-6)


@HALVES
@FAMILIES
def test_metrics_of_every_edited_run_are_those_of_its_own_logits(family: str, dtype: torch.dtype) -> None:
    received: list[tuple[int, Tensor]] = []

    def spy(logits: Tensor, example: Example) -> Tensor:
        received.extend((example.index, row) for row in logits)
        return torch.arange(len(received) - len(logits), len(received), dtype=torch.float64)

    model = model_of(family, dtype)
    order = wb.sweep(model, INPUTS, direction="noise", metric=spy, cache=False).values.astype(int)
    assert {logits.dtype for _, logits in received} == {torch.float32}
    assert all(torch.equal(logits, logits.to(dtype).float()) for _, logits in received)  # the model's own rounding

    differences = wb.sweep(model, INPUTS, direction="noise", cache=False)
    expected = np.array([mean_difference(logits, i) for i, logits in received])[order]
    # Only the logits of two tokens are computed here: they are those of the whole unembedding.
    np.testing.assert_allclose(differences.values, expected, atol=1e-6)
    assert len(np.unique(differences.values)) == len(np.unique(expected))

    divergences = wb.sweep(model, INPUTS, direction="noise", metric="kl_divergence", cache=False).values
    clean = [logits.double().log_softmax(-1) for logits in last_logits(nudged(family, dtype=dtype), INPUTS.clean)]
    of_row = [(clean[i].exp() * (clean[i] - row.double().log_softmax(-1))).sum() for i, row in received]
    np.testing.assert_allclose(divergences, np.array(of_row)[order], atol=1e-6)
    assert divergences.min() >= 0 and divergences.max() > 1e-3


@HALVES
def test_full_forwards_give_the_metrics_of_plain_hooks(dtype: torch.dtype) -> None:
    hf, layer, head = nudged("llama", dtype=dtype), 1, 2
    projection, part = output_projection(hf, "llama", layer), head_slice(head, 8)

    def without_head(z: Tensor) -> Tensor:
        z = z.clone()
        z[..., part] = 0
        return z

    outcome = wb.run(model_of("llama", dtype), INPUTS, [wb.Edit("z", layer, head=head, kind="zero")], cache=False)
    with edited((projection, "input", without_head)):
        logits = last_logits(hf, INPUTS.clean)
    expected = [mean_difference(x, i) for i, x in enumerate(logits)]
    np.testing.assert_allclose(outcome.scores().double(), expected, atol=1e-6)
    for row, x in zip(outcome.top(3), logits, strict=True):
        probabilities = x.double().softmax(-1).topk(3).values.tolist()
        assert [probability for _, probability in row] == pytest.approx(probabilities, abs=1e-6)


@HALVES
def test_attribution_is_summed_in_float32(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    value, activation, gradient = torch.randn(3, 4, 2, 512, generator=generator).to(dtype)
    expected = ((value.double() - activation.double()) * gradient.double()).sum(-1)
    np.testing.assert_allclose(first_order_change(value, activation, gradient), expected, atol=1e-4)
    rounded = ((value - activation) * gradient).sum(-1).double()
    assert (rounded - expected).abs().max() > 1e-2


@HALVES
def test_means_are_summed_in_float32(dtype: torch.dtype) -> None:
    activations = (1 + torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))).to(dtype)
    mean = mean_of(activations)
    assert mean.dtype == dtype and torch.equal(mean, activations.double().mean(0).to(dtype))


@HALVES
def test_direct_logit_attribution_is_summed_in_float32(dtype: torch.dtype) -> None:
    hf, inputs = nudged("llama", dtype=dtype), paired(2, lengths=(9,))
    scores = wb.scores_on(model_of("llama", dtype), inputs, cache=False)
    projections = [output_projection(hf, "llama", i) for i in range(3)]
    ends = [*((module, "input") for module in projections), (hf.model.norm, "input")]
    with torch.no_grad():
        *z, residual = (x[:, -1].double() for x in captured(hf, torch.stack(inputs.clean), *ends))
    scale = (residual.square().mean(-1, keepdim=True) + hf.config.rms_norm_eps).sqrt()
    rows = hf.lm_head.weight.double() * hf.model.norm.weight.double()
    towards = torch.stack(
        [rows[list(a)].mean(0) - rows[list(b)].mean(0) for a, b in zip(inputs.answer, inputs.wrong, strict=True)]
    )
    towards = towards / scale
    for layer, (of_layer, module) in enumerate(zip(z, projections, strict=True)):
        read = (towards @ module.weight.double()).unflatten(-1, (6, 8))
        expected = (of_layer.unflatten(-1, (6, 8)) * read).sum(-1).mean(0)
        np.testing.assert_allclose(scores["direct_logit_attribution"][layer], expected, rtol=1e-5, atol=1e-6)


@HALVES
def test_the_loss_is_hugging_faces(dtype: torch.dtype) -> None:
    ids = INPUTS.clean[0][None]
    with torch.no_grad():
        expected = nudged("llama", dtype=dtype)(ids, labels=ids).loss
        loss = model_of("llama", dtype)(ids, return_type="loss")
    assert loss.dtype == torch.float32 and float(loss) == pytest.approx(float(expected), abs=1e-6)


def test_other_precisions_are_left_alone() -> None:
    example = Example(0, (1,), (2,), (), torch.tensor([1.0, 2.0, 3.0]))
    for dtype in (torch.float32, torch.float64):
        logits = torch.randn(4, 2, dtype=dtype, generator=torch.Generator().manual_seed(0))
        score = resolve_metric("logit_difference")(logits, example)
        assert score.dtype == dtype and torch.equal(score, logits[:, 0] - logits[:, 1])
    assert example.reference is not None and example.reference.dtype == torch.float32
