"""Query-free: the reference's numbers, running sums and states."""

import pytest
import torch
from torch.nn import functional as F

from tests.workbench.attention.operators.mask_cases import close, proof, random, reference
from workbench.attention.layer import LayerShape
from workbench.attention.operator import operator
from workbench.attention.operators import query_free
from workbench.errors import UsageError

FREE = operator("query-free")
SHAPE = LayerShape(layer=0, n_layers=1, n_heads=2, n_kv_heads=1, d_head=4, d_value=4, d_model=16)


def logits(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """By the module, from projections that are q and k."""
    projections = {"query": q.transpose(1, 2), "key": k.transpose(1, 2)}
    module = query_free.module(SHAPE, FREE.settings)
    assert not list(module.parameters())
    return module.gates(q, lambda name, x: projections[name])["logit"]


def some(length: int, size: float = 3.0) -> dict:
    generator = torch.Generator().manual_seed(length + 1)
    return {"gates": {"logit": size * torch.randn(2, length, 2, generator=generator, dtype=torch.float64)}}


def test_the_references_numbers():
    q, k, v = reference(2, 8, 4)
    logit = logits(q, k)
    expected = [-0.0458, -0.03235, 0.142195, 0.150783, 0.003206, 0.329138, -0.113956, 0.151221]
    close(logit[0, :, 0], torch.tensor(expected, dtype=torch.float64), 1e-5)
    call = FREE.call(gates={"logit": logit})
    row = FREE.pattern(q, k, call)[0, 0, 3, :4]
    close(row, torch.tensor([0.225347, 0.228398, 0.271955, 0.2743], dtype=torch.float64), 1e-5)
    z = FREE.z(q, k, v, call)
    close(z[0, 0, 7], torch.tensor([0.053724, 0.087432, 0.090597, 0.062114], dtype=torch.float64), 1e-5)
    assert z.sum().item() == pytest.approx(2.406099, abs=1e-6)


def test_both_forms_agree():
    proof(FREE, [1, 2, 9, 64, 65, 150], values=some)
    for causal in (True, False):
        for left in (0, 2, 5):
            q, k, v = random(2, 2, 16, 4)
            padding = torch.zeros(2, 16, dtype=torch.bool)
            padding[:, left : left + 11] = True
            call = FREE.call(causal=causal, padding=padding, **some(16))
            real = slice(left, left + 11)
            alone = FREE.call(causal=causal, gates={"logit": call.gates["logit"][:, real]})
            expected = FREE.z(q[:, :, real], k[:, :, real], v[:, :, real], alone)
            close(FREE.z(q, k, v, call)[:, :, real], expected)
            close(FREE.explicit(q, k, v, call)[:, :, real], expected)


def test_gradients_of_the_logits():
    q, k, v = random(2, 2, 100, 4)
    both = []
    for form in (FREE.z, FREE.explicit):
        logit = some(100)["gates"]["logit"].requires_grad_()
        (form(q, k, v, FREE.call(gates={"logit": logit})) * q).sum().backward()
        both.append(logit.grad)
    close(both[0], both[1], 1e-10)


@pytest.mark.parametrize("causal", [True, False])
def test_states_add_up(causal):
    q, k, v = random(2, 2, 150, 4)
    padding = torch.ones(2, 150, dtype=torch.bool)
    padding[0, :20] = padding[1, 140:] = False
    call = FREE.call(causal=causal, padding=padding, **some(150))
    whole, z = FREE.advance(k, v, call), FREE.z(q, k, v, call)
    state = None
    for start, stop in ((0, 7), (7, 8), (8, 90), (90, 150)):
        if state is not None:
            at = slice(start, None)
            rest = FREE.z(q[:, :, at], k[:, :, at], v[:, :, at], call.positions(start), state)
            close(rest, z[:, :, at])
        state = FREE.advance(k[:, :, start:stop], v[:, :, start:stop], call.positions(start, stop), state)
    assert state is not None
    for one, other in zip(state, whole, strict=True):
        close(one, other)


def test_rows_are_beginnings_of_one_vector_and_huge_logits_stay_finite():
    q, k, v = random(2, 2, 80, 4)
    pattern = FREE.pattern(q, k, FREE.call(**some(80)))
    row = pattern[:, :, 50, :30] / pattern[:, :, 50, :30].sum(-1, keepdim=True)
    close(pattern[:, :, 29, :30], row)
    call = FREE.call(gates={"logit": some(80, size=1e3)["gates"]["logit"].float()})
    z = FREE.z(q.float(), k.float(), v.float(), call)
    assert z.isfinite().all()
    close(z, FREE.explicit(q.float(), k.float(), v.float(), call), 1e-5)


def test_it_is_softmax_of_scores_that_only_sources_decide():
    q, k, v = random(1, 2, 12, 4)
    logit = logits(q, k)
    scores = (F.silu(q) * k).sum(-1)[:, :, None] / 2
    causal = torch.ones(12, 12).tril().bool()
    expected = scores.expand(-1, -1, 12, -1).masked_fill(~causal, -torch.inf).softmax(-1) @ v
    close(FREE.z(q, k, v, FREE.call(gates={"logit": logit})), expected)
    with pytest.raises(UsageError, match=r"query-free needs the logit of each position .* gates\['logit'\]"):
        FREE.z(q, k, v, FREE.call())
