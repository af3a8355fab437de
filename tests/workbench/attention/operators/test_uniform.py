"""Uniform: the mean of what is visible."""

import torch

from tests.workbench.attention.operators.mask_cases import close, padding_changes_nothing, proof, random, reference
from workbench.attention.operator import operator

UNIFORM = operator("uniform")


def test_both_forms_agree():
    proof(UNIFORM, [1, 2, 7, 64, 65])
    padding_changes_nothing(UNIFORM)
    padding_changes_nothing(UNIFORM, causal=False)


def test_it_is_the_mean():
    q, k, v = reference(2, 8, 4)
    z = UNIFORM.z(q, k, v, UNIFORM.call())
    for position in range(8):
        close(z[:, :, position], v[:, :, : position + 1].mean(2))
    close(UNIFORM.z(q, k, v, UNIFORM.call(causal=False)), v.mean(2, keepdim=True).expand_as(v))
    assert UNIFORM.pattern(q, k, UNIFORM.call())[0, 1, 2].tolist() == [1 / 3] * 3 + [0] * 5


def test_it_is_softmax_of_equal_scores_and_has_the_references_indicators():
    """On 8 positions, a head: sink .339732, entropy 10.604603, concentration 1.648592."""
    q, k, _ = reference(2, 8, 4)
    pattern = UNIFORM.pattern(q, k, UNIFORM.call())
    softmax = operator("softmax")
    close(pattern, softmax.pattern(torch.zeros_like(q), k, softmax.call()))
    head = pattern[0, 0]
    entropy = torch.special.entr(head).sum()
    expected = torch.tensor([0.339732, 10.604603, 1.648592], dtype=torch.float64)
    close(torch.stack([head[:, 0].mean(), entropy, head.norm()]), expected, 1e-6)


def test_states_add_up():
    _, k, v = random(3, 2, 23, 4)
    q = k
    call = UNIFORM.call(padding=torch.rand(3, 23, generator=torch.Generator().manual_seed(0)) > 0.3)
    whole = UNIFORM.advance(k, v, call)
    state = None
    for start, stop in ((0, 5), (5, 6), (6, 23)):
        state = UNIFORM.advance(k[:, :, start:stop], v[:, :, start:stop], call.positions(start, stop), state)
    assert state is not None
    for one, other in zip(state, whole, strict=True):
        close(one, other)
    expected = UNIFORM.z(q, k, v, call)[:, :, 9:]
    state = UNIFORM.advance(k[:, :, :9], v[:, :, :9], call.positions(0, 9))
    close(UNIFORM.z(q[:, :, 9:], k[:, :, 9:], v[:, :, 9:], call.positions(9), state), expected)


def test_bfloat16_counts_further_than_256():
    v = torch.ones(1, 1, 3000, 1, dtype=torch.bfloat16)
    assert (UNIFORM.z(v, v, v, UNIFORM.call()) == 1).all()
    assert [x.item() for x in UNIFORM.advance(v, v, UNIFORM.call())] == [3000, 3000]
