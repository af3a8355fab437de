"""Context-causal: the reference's numbers and pairs."""

import pytest
import torch
from torch.nn import functional as F

from tests.workbench.attention.operators.mask_cases import close, padding_changes_nothing, proof, random, reference
from workbench.attention.operator import operator
from workbench.attention.operators import context_causal
from workbench.errors import UsageError


def test_both_forms_agree():
    for settings in ({"block": 4}, {"block": 4, "context": 3}, {"block": 3, "context": 0}):
        proof(operator("context-causal", **settings), [1, 2, 4, 9, 13], causal=[False])
        padding_changes_nothing(operator("context-causal", **settings), causal=False)
    training = operator("context-causal", block=2, form="training")
    proof(training, [2, 4, 10], causal=[False])


def test_the_references_numbers():
    q, k, v = reference(2, 8, 4)
    for settings in ({"block": 4}, {"block": 4, "context": 4}):
        bound = operator("context-causal", **settings)
        z = bound.z(q, k, v, bound.call(scale=0.5, causal=False))
        assert z.sum().item() == pytest.approx(2.07624, abs=1e-6)
        expected = torch.tensor([0.097339, 0.061452, 0.004098, -0.054688], dtype=torch.float64)
        close(z[0, 0, 4], expected, 1e-5)
        assert context_causal.mask(q, k, bound.call()).sum() == 42


@pytest.mark.parametrize("block, pairs", [(1, 72), (2, 76), (4, 84), (8, 100)])
def test_pairs_of_the_training_mask(block, pairs):
    bound = operator("context-causal", block=block, form="training")
    q, k, _ = random(1, 1, 16, 4)
    mask = context_causal.mask(q, k, bound.call())[0, 0]
    assert mask.sum() == pairs
    noised, clean = slice(0, 8), slice(8, 16)
    i, j = torch.arange(8)[:, None] // block, torch.arange(8) // block
    assert torch.equal(mask[noised, noised], i == j) and torch.equal(mask[noised, clean], j < i)
    assert not mask[clean, noised].any() and torch.equal(mask[clean, clean], torch.ones(8, 8).tril().bool())
    assert bound.causal == "no"


def test_one_position_is_causal_and_one_block_is_bidirectional():
    q, k, v = random(2, 2, 8, 4)
    one, all_of_it = operator("context-causal", block=1), operator("context-causal", block=8)
    close(one.z(q, k, v, one.call(causal=False)), F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0))
    close(all_of_it.z(q, k, v, all_of_it.call(causal=False)), F.scaled_dot_product_attention(q, k, v, scale=1.0))


@pytest.mark.parametrize("settings", [{"block": 4}, {"block": 4, "context": 8}, {"block": 4, "context": 5}])
def test_a_change_reaches_back_to_the_first_position_of_its_block_at_most(settings):
    bound = operator("context-causal", **settings)
    q, k, v = random(1, 1, 11, 4)
    z = bound.z(q, k, v, bound.call(causal=False))
    reached = False
    for position in range(11):
        keys, values = k.clone(), v.clone()
        keys[:, :, position] += 1
        values[:, :, position] += 1
        changed = (bound.z(q, keys, values, bound.call(causal=False)) - z).abs().amax((0, 1, 3)) > 0
        first = int(changed.nonzero()[0])
        assert first >= position // bound.block * bound.block
        reached |= first < position
    assert reached


def test_an_odd_number_of_training_positions_is_refused():
    q, k, v = random(1, 1, 7, 4)
    bound = operator("context-causal", form="training")
    with pytest.raises(UsageError, match="expected an even number of positions, not 7"):
        bound.z(q, k, v, bound.call(causal=False))
