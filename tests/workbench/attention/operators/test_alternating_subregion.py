"""Alternating subregions: the reference's numbers and identities."""

import pytest
import torch
from torch.nn import functional as F

from tests.workbench.attention.operators.mask_cases import close, padding_changes_nothing, proof, random, reference
from workbench.attention.operator import operator

NAME = "alternating-subregion"


@pytest.mark.parametrize("groups, run, total", [(1, 1, 1.12685), (4, 1, 2.010552), (4, 4, 1.15411), (2, 2, 1.098699)])
def test_the_references_numbers(groups, run, total):
    q, k, v = reference(1, 16, 4)
    bound = operator(NAME, groups=groups, run=run)
    z = bound.z(q, k, v, bound.call(scale=0.5, causal=False))
    assert z.sum().item() == pytest.approx(total, abs=1e-6)
    if (groups, run) == (4, 1):
        expected = torch.tensor([0.028795, 0.03431, 0.027839, 0.011643], dtype=torch.float64)
        close(z[0, 0, 5], expected, 1e-5)


def test_layers_take_turns():
    q, k, v = random(1, 2, 32, 4)
    by_layer = operator(NAME)
    for layer, (groups, run) in enumerate([(1, 1), (4, 1), (4, 4), (1, 1), (4, 1)]):
        bound = operator(NAME, groups=groups, run=run)
        close(by_layer.z(q, k, v, by_layer.call(layer=layer)), bound.z(q, k, v, bound.call()))
        group = by_layer.record(q, k, v, by_layer.call(layer=layer))["group"]
        assert group.tolist() == [[t // run % groups for t in range(32)]]


def test_both_forms_agree():
    for settings in (
        {"groups": 1},
        {"groups": 4},
        {"groups": 3, "run": 2},
        {"groups": 2, "run": 3, "stream": 6},
        {"groups": 2, "stream": 3},
    ):
        bound = operator(NAME, **settings)
        proof(bound, [1, 2, 5, 12, 24, 31])
        if not settings.get("stream"):
            padding_changes_nothing(bound)
            padding_changes_nothing(bound, causal=False)
    proof(operator(NAME, groups=3), [1, 10], values=lambda length: {"grid": (length - 1,), "before": 1})


def test_groups_attend_by_themselves():
    q, k, v = random(1, 2, 12, 4)
    bound = operator(NAME, groups=3)
    z = bound.z(q, k, v, bound.call(causal=False))
    for group in range(3):
        own = [x[:, :, group::3] for x in (q, k, v)]
        close(z[:, :, group::3], F.scaled_dot_product_attention(own[0], own[1], own[2], scale=1.0))
    halves = operator(NAME, groups=2, run=6)
    z = halves.z(q, k, v, halves.call(causal=False))
    close(z[:, :, 6:], F.scaled_dot_product_attention(q[:, :, 6:], k[:, :, 6:], v[:, :, 6:], scale=1.0))


def test_a_first_stream_is_numbered_by_itself():
    q, k, v = random(1, 1, 11, 4)
    bound = operator(NAME, groups=2, stream=3)
    group = bound.record(q, k, v, bound.call())["group"]
    assert group.tolist() == [[0, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1]]
    ahead = bound.record(q, k, v, bound.call(grid=(9,), before=2))["group"]
    assert ahead.tolist() == [[-1, -1, 0, 1, 0, 0, 1, 0, 1, 0, 1]]
    seen = bound.pattern(q, k, bound.call(grid=(9,), before=2, causal=False))[0, 0] > 0
    assert seen[:2].all() and seen[:, :2].all() and not seen[2:, 2:].all()
