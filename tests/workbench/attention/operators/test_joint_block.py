"""Joint block: the reference's numbers, top-k, and memory whose keys and values are stored."""

import pytest
import torch
from torch.nn import functional as F

from tests.workbench.attention.operators.mask_cases import close, proof, random, sines
from workbench.attention.operator import operator
from workbench.errors import UsageError

#: The reference has [token, query, memory]; the operator [token, memory, query].
ORDER = [0, 3, 4, 5, 6, 1, 2]
BACK = [0, 5, 6, 1, 2, 3, 4]


def tiny(**settings) -> tuple[torch.Tensor, torch.Tensor]:
    """z and A of the reference's 7 tokens, in its order."""
    bound = operator("joint-block", **settings)
    q, k, v = (sines((1, 1, 7, 2), rate)[:, :, ORDER] for rate in (1, 0.7, 0.4))
    call = bound.call(scale=2**-0.5, causal=False, grid=(3, 2), before=1)
    close(bound.z(q, k, v, call), bound.explicit(q, k, v, call))
    return bound.z(q, k, v, call)[0, 0, BACK], bound.pattern(q, k, call)[0, 0][BACK][:, BACK]


def test_the_references_numbers():
    z, _ = tiny()
    expected = [
        [-0.376256, -0.333042],
        [0.09222, -0.022853],
        [0.161612, -0.035022],
        [-0.28441, -0.614774],
        [-0.014179, -0.372028],
    ]
    close(z[:5], torch.tensor(expected, dtype=torch.float64), 1e-5)
    assert z.sum().item() == pytest.approx(-5.271263, abs=1e-6)


def test_the_references_numbers_with_top_k():
    z, pattern = tiny(top_k=1)
    close(pattern[1, [1, 2, 3, 6]], torch.tensor([0.183039, 0.309277, 0.255343, 0.252342], dtype=torch.float64), 1e-5)
    assert pattern[1, [0, 4, 5]].count_nonzero() == 0
    close(z[1], torch.tensor([0.314428, 0.217665], dtype=torch.float64), 1e-5)
    z, pattern = tiny(top_k=1, scope="all")
    assert pattern[1].nonzero().flatten().tolist() == [1, 2, 3]
    close(z[1], torch.tensor([0.718725, 0.504188], dtype=torch.float64), 1e-5)


SHAPES = {n * 4 + before: {"grid": (n, 2, 2), "before": before} for n, before in ((1, 0), (2, 0), (3, 1), (6, 2))}


@pytest.mark.parametrize("settings", [{}, {"top_k": 2}, {"top_k": 3, "scope": "all"}, {"top_k": 50}])
def test_both_forms_agree(settings):
    proof(operator("joint-block", **settings), list(SHAPES), causal=[False], values=SHAPES.__getitem__)


def test_all_of_the_memory_is_no_selection():
    q, k, v = random(2, 2, 13, 4)
    plain = operator("joint-block")
    expected = plain.z(q, k, v, plain.call(causal=False, **SHAPES[13]))
    for settings in ({"top_k": 4}, {"top_k": 8, "scope": "all"}):
        bound = operator("joint-block", **settings)
        close(bound.z(q, k, v, bound.call(causal=False, **SHAPES[13])), expected)


def test_without_memory_it_is_self_attention_of_the_query_frame():
    q, k, v = random(1, 2, 4, 4)
    bound = operator("joint-block", top_k=1)
    close(bound.z(q, k, v, bound.call(causal=False, grid=(1, 4))), F.scaled_dot_product_attention(q, k, v, scale=1.0))


def test_the_order_of_memory_frames_does_not_matter_to_query_and_token():
    q, k, v = random(1, 2, 13, 4)
    order = [0, *range(5, 9), *range(1, 5), *range(9, 13)]
    for settings in ({}, {"top_k": 2}):
        bound = operator("joint-block", **settings)
        call = bound.call(causal=False, **SHAPES[13])
        one, other = bound.z(q, k, v, call), bound.z(q[:, :, order], k[:, :, order], v[:, :, order], call)
        close(one[:, :, [0, *range(9, 13)]], other[:, :, [0, *range(9, 13)]])
        token = bound.pattern(q, k, call)[:, :, 0, 9:], bound.pattern(q, k, call)[:, :, 9:, 0]
        assert not any(cells.any() for cells in token)


def test_frame_by_frame_with_stored_keys_and_values_is_the_whole_pass():
    q, k, v = random(1, 2, 25, 4)
    bound = operator("joint-block", top_k=2)
    whole = bound.z(q, k, v, bound.call(causal=False, grid=(6, 4), before=1))
    for count in range(1, 6):
        frame = slice(1 + 4 * (count - 1), 1 + 4 * count)
        alone = [x[:, :, frame] for x in (q, k, v)]
        close(F.scaled_dot_product_attention(alone[0], alone[1], alone[2], scale=1.0), whole[:, :, frame])
    close(bound.z(q[:, :, 21:], k, v, bound.call(causal=False, grid=(6, 4), before=1)), whole[:, :, 21:])


def test_padding_of_the_memory_is_not_among_the_best():
    q, k, _ = random(1, 1, 9, 4)
    k[:, :, 1] = 9 * q[:, :, 7]  # would be the best
    padding = torch.ones(1, 9, dtype=torch.bool)
    padding[:, 1] = False
    bound = operator("joint-block", top_k=1)
    pattern = bound.pattern(q, k, bound.call(causal=False, grid=(3, 3), padding=padding))[0, 0, 7]
    assert pattern[1] == 0 and (pattern[:3] > 0).sum() == 1


def test_equal_scores_keep_the_first_and_a_grid_is_needed():
    bound = operator("joint-block", top_k=2)
    q, k, v = (torch.ones(1, 1, 9, 4) for _ in range(3))
    call = bound.call(causal=False, grid=(3, 3))
    assert bound.record(q, k, v, call)["keeps"][0, 0, 7].tolist() == [True, True, False, True, True, False, *[True] * 3]
    many = torch.ones(1, 1, 200, 4)
    keeps = bound.record(many, many, many, bound.call(causal=False, grid=(2, 100)))["keeps"]
    assert keeps[0, 0, 150].nonzero().flatten().tolist() == [0, 1, *range(100, 200)]
    with pytest.raises(UsageError, match="joint-block needs a grid"):
        bound.z(q, k, v, bound.call(causal=False))
