"""`check_operator` catches wrong operators and wrong declarations: each of these differs from a right one in
one place."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.attention.call import Call
from workbench.attention.layer import OperatorModule
from workbench.attention.operator import Operator
from workbench.attention.operators import lightning as lightning_file
from workbench.attention.primitives import recurrence, softmax_forms
from workbench.attention.primitives.visible import positions, visible, without_padding
from workbench.attention.settings import Setting
from workbench.registry import OPERATORS
from workbench.testing import check_operator

SOFTMAX = OPERATORS["softmax"]
WINDOW = OPERATORS["sliding-window"]
LIGHTNING = OPERATORS["lightning"]
#: A window that shows in few positions; lightning without its norm is linear, and its heads are independent.
SMALL = {"window": 3}
PLAIN = {"norm": False}
#: What they share with their slopes.
slopes = lightning_file.slopes


def problems(operator: Operator, **settings: Any) -> str:
    with pytest.raises(AssertionError) as raised:
        check_operator(operator, **settings)
    return str(raised.value)


# --- wrong numbers


def window_of_one_less(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    destination, source = positions(q.shape[2], k.shape[2], q.device)
    near = (destination - source).abs() < call["window"] - (q.shape[2] > 100)
    return softmax_forms.masked(q, k, v, near[None, None], call)


def ignores_padding(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=call.causal, scale=call.scale)


def without_scale(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    return softmax_forms.plain(q, k, v, replace(call, scale=q.shape[-1] ** -0.5))


def of_length_one(z: Tensor, call: Call) -> Tensor:
    """0 where z is 0, where its gradient is no number."""
    size = z.square().sum(-1, keepdim=True).sqrt()
    return torch.where(size > 0, z / size, 0)


def a_constant_gradient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    return softmax_forms.plain(q, k.detach(), v, call)


def the_mean_of_the_batch(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    return softmax_forms.plain(q, k, v, call) + v.mean() - v.mean().detach()


def coupled_rows(z: Tensor, call: Call) -> Tensor:
    return z * (z.shape[0] / (z.shape[0] + 1))


def writes_into_its_input(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    with torch.no_grad():
        q.mul_(1.0).add_(1e-3)
    return softmax_forms.plain(q, k, v, call)


def random_noise(z: Tensor, call: Call) -> Tensor:
    return z + 1e-6 * torch.randn_like(z)


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        (WINDOW, {"efficient": window_of_one_less}, "z of the efficient form differs from A v"),
        (SOFTMAX, {"efficient": ignores_padding}, "what padding holds changes z"),
        (SOFTMAX, {"efficient": ignores_padding}, "hides|with a mask of the model's"),
        (SOFTMAX, {"efficient": without_scale}, "z of the efficient form differs from A v"),
        (SOFTMAX, {"finish": of_length_one}, "the gradient of v is not finite with rows that see"),
        (SOFTMAX, {"efficient": a_constant_gradient}, "the gradient of k of the efficient form differs"),
        (SOFTMAX, {"efficient": the_mean_of_the_batch}, "the gradient of v of the efficient form differs"),
        (SOFTMAX, {"finish": coupled_rows}, "z of a row of the batch depends on the other rows"),
        (SOFTMAX, {"efficient": writes_into_its_input}, "writes into q, k, v or x"),
        (SOFTMAX, {"finish": random_noise}, "Draw nothing at random"),
        (SOFTMAX, {"finish": lambda z, call: z.float()}, "z is torch.float32 where q, k and v are torch.float64"),
        (SOFTMAX, {"finish": lambda z, call: z[..., :-1]}, "raises TypeCheckError"),
        (SOFTMAX, {"finish": lambda z, call: z / z.abs().sum(-1, keepdim=True)}, "z of rows that see nothing"),
    ],
)
def test_a_softmax_form_with_wrong_numbers_is_caught(base: Operator, changes: dict[str, Any], message: str) -> None:
    text = problems(replace(base, **changes), **(SMALL if base is WINDOW else {}))
    assert re.search(message, text), text


def the_future(q: Tensor, k: Tensor, call: Call) -> Tensor:
    return q @ without_padding(k, call).mT / 8


def padded_chunk(k: Tensor, v: Tensor, call: Call, state: Any) -> Any:
    """Fills the last chunk up: one more decay for each position that is not one."""
    new = lightning_file.advance(k, v, call, state)[0]
    missing = -k.shape[2] % recurrence.CHUNK
    return (new * torch.exp(-slopes(k.shape[1], call, k) * missing)[:, None, None].to(k.dtype),)


def without_decay(k: Tensor, v: Tensor, call: Call, state: Any) -> Any:
    return (recurrence.advance(without_padding(k, call), v, None, None if state is None else state[0]),)


def forgets_the_state(k: Tensor, v: Tensor, call: Call, state: Any) -> Any:
    return lightning_file.advance(k, v, call, None)


def decayed_once_too_often(q: Tensor, k: Tensor, v: Tensor, state: Any, call: Call) -> Tensor:
    decay = torch.exp(-slopes(q.shape[1], call, q))[:, None, None].to(q.dtype)
    return lightning_file.resume(q, k, v, (state[0] * decay,), call)


def one_state_a_row(q: Tensor, k: Tensor, v: Tensor, state: Any, call: Call) -> Tensor:
    flat = (state[0].flatten(0, 1), q.flatten(0, 1))
    carried = torch.bmm(flat[1], flat[0]).unflatten(0, q.shape[:2])
    decay = recurrence.decays(slopes(q.shape[1], call, q).to(q.dtype), q.shape[2] + 1)[:, 1:, None]
    return recurrence.chunked(q, without_padding(k, call), v, slopes(q.shape[1], call, q)) + carried * decay


def leaks_in_the_chunk(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    return lightning_file.efficient(q, k, v, call) + 1e-3 * v.mean(2, keepdim=True)


def reads_the_padding(q: Tensor, k: Tensor, call: Call) -> Tensor:
    return lightning_file.matrix(q, k, replace(call, padding=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"matrix": the_future, "efficient": None}, "A has entries above the diagonal"),
        ({"matrix": the_future, "efficient": None}, "a later position changes an earlier row"),
        ({"advance": padded_chunk}, "the state after pieces"),
        ({"advance": padded_chunk}, "differs from that of the whole"),
        ({"advance": without_decay}, "z from the state of"),
        ({"advance": forgets_the_state}, "the state after pieces"),
        ({"resume": decayed_once_too_often}, "z from the state of"),
        ({"resume": decayed_once_too_often}, "the last 1 of"),
        ({"resume": one_state_a_row}, "raises RuntimeError"),
        ({"efficient": leaks_in_the_chunk}, "a later position changes an earlier row"),
        ({"matrix": reads_the_padding}, "A is not 0 at padding"),
    ],
)
def test_a_recurrence_with_wrong_numbers_is_caught(changes: dict[str, Any], message: str) -> None:
    text = problems(replace(LIGHTNING, **changes), **PLAIN)
    assert message in text, text


# --- wrong declarations


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        (SOFTMAX, {"row_stochastic": False}, "row_stochastic is declared False"),
        (LIGHTNING, {"row_stochastic": True}, "row_stochastic is declared, and a row"),
        (SOFTMAX, {"linear_in_v": False}, "linear_in_v is declared False, and z is linear"),
        (LIGHTNING, {"linear_in_v": True, "heads_independent": False}, "linear_in_v is declared, and z of"),
        (SOFTMAX, {"heads_independent": False}, "change no other head"),
        (LIGHTNING, {"heads_independent": True, "linear_in_v": False}, "changes z of another head"),
        (LIGHTNING, {"causal": "model"}, "Write 'token'"),
        (SOFTMAX, {"causal": "token"}, "a later position changes an earlier row"),
        (SOFTMAX, {"causal": "mask"}, "Write 'model'"),
        (LIGHTNING, {"causal": "no"}, "Write 'token'"),
        (SOFTMAX, {"causal": "block", "block": lambda _: 4}, "a row before its block of 4"),
        (LIGHTNING, {"causal": "block", "block": lambda _: 4}, "no later position changes an earlier row"),
        (SOFTMAX, {"resumes": "no"}, "resumes is 'no', but the last rows"),
        (SOFTMAX, {"resumes": "state"}, "resumes is 'state' exactly where"),
        (SOFTMAX, {"ignores": ("q",)}, "ignores names 'q', and q changes z"),
        (SOFTMAX, {"shift_invariant": False}, "shift_invariant is declared False"),
        (SOFTMAX, {"records": ("scores",)}, "write both or neither"),
        (LIGHTNING, {"records": ("state",)}, "record gives ['slopes', 'state']"),
        (SOFTMAX, {"status": "reconstruction"}, "choices is empty"),
        (SOFTMAX, {"status": "exact"}, "status='exact' is none of"),
        (SOFTMAX, {"version": 0}, "version=0"),
        (SOFTMAX, {"source": ""}, "source is empty"),
        (SOFTMAX, {"matrix_axis": "none"}, "matrix_axis is 'none', and it has a matrix"),
        (SOFTMAX, {"mask": None, "efficient": None, "matrix_axis": "none"}, "it computes nothing"),
        (SOFTMAX, {"settings": {"size": Setting(0, "whole number", "a size", at_least=1)}}, "size=0"),
        (SOFTMAX, {"needs": ("grid",)}, "needs has 'grid', and trial gives none"),
        (SOFTMAX, {"needs": ("luck",)}, "needs has luck"),
        (WINDOW, {"check_length": lambda settings: 2}, "check_length=2 is too short"),
    ],
)
def test_a_wrong_declaration_is_caught(base: Operator, changes: dict[str, Any], message: str) -> None:
    text = problems(replace(base, **changes), **(SMALL if base is WINDOW else {}))
    assert message in text, text


def test_sinks_are_counted_from_the_first_position_and_must_be_declared_so() -> None:
    wrong = replace(WINDOW, shift_invariant=True)
    assert "write shift_invariant=False" in problems(wrong, window=3, sinks=2)
    check_operator(wrong, window=3)


def test_blocks_that_see_themselves_whole_are_not_causal() -> None:
    def own_block(q: Tensor, k: Tensor, call: Call) -> Tensor:
        destination, source = positions(q.shape[2], k.shape[2], q.device)
        return (source // 4 <= destination // 4)[None, None]

    blocks = replace(SOFTMAX, mask=own_block, efficient=None, causal="block", block=lambda _: 4, shift_invariant=False)
    check_operator(blocks)
    assert "a row before its block of 2" in problems(replace(blocks, block=lambda _: 2))


def test_what_is_selected_by_a_later_query_is_not_causal() -> None:
    """Every row sees the half of the sources that the last real query scores highest."""

    def chosen(q: Tensor, k: Tensor, call: Call) -> Tensor:
        destination, source = positions(q.shape[2], k.shape[2], q.device)
        scores = (q[:, :, -1:] @ k.mT).masked_fill(destination[-1:] < source, -torch.inf)
        return (scores >= scores.median(-1, keepdim=True).values) | (source == destination)

    operator = replace(SOFTMAX, mask=chosen, efficient=None, causal="mask", shift_invariant=False)
    text = problems(operator)
    assert "what padding holds" in text and "causal is" not in text
    assert "a later position changes an earlier row" in problems(replace(operator, causal="model"))


# --- modules


class Gate(OperatorModule):
    """One gate a head, from the layer's input."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.linear = nn.Parameter(weight)

    def gates(self, x: Tensor, project: Callable[[str, Tensor], Tensor]) -> dict[str, Tensor]:
        return {"gate": torch.sigmoid(x @ self.linear)}


def gated(q: Tensor, k: Tensor, call: Call) -> Tensor:
    seen = visible(call, q.shape[2], k.shape[2], q.device)
    return softmax_forms.softmax(call.scale * q @ k.mT, seen) * call.gates["gate"].transpose(1, 2)[:, :, None]


GATED = replace(
    SOFTMAX,
    mask=None,
    efficient=None,
    matrix=gated,
    row_stochastic=False,
    needs=("gates",),
    invents="the gates",
    module=lambda shape, settings: Gate(torch.zeros(shape.d_model, shape.n_heads)),
)


def a_gate_that_is_not_differentiable(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    return gated(q, k, replace(call, gates={"gate": call.gates["gate"].detach()})) @ v


class LaterGate(Gate):
    """Reads the position behind."""

    def gates(self, x: Tensor, project: Callable[[str, Tensor], Tensor]) -> dict[str, Tensor]:
        return super().gates(x.roll(-1, 1), project)


def test_an_operator_with_gates_passes() -> None:
    check_operator(GATED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"needs": ()}, "needs does not name 'gates'"),
        ({"invents": ""}, "invents is empty"),
        ({"module": lambda shape, _: Gate(torch.randn(shape.d_model, shape.n_heads))}, "draws random numbers"),
        ({"module": lambda shape, _: LaterGate(torch.zeros(shape.d_model, shape.n_heads))}, "changes an earlier row"),
        ({"efficient": a_gate_that_is_not_differentiable}, "the gradient of linear of the efficient form"),
        ({"row_stochastic": True}, "row_stochastic is declared, and a row"),
    ],
)
def test_a_wrong_module_is_caught(changes: dict[str, Any], message: str) -> None:
    text = problems(replace(GATED, **changes))
    assert message in text, text


def test_an_operator_without_a_matrix_must_not_have_one() -> None:
    squared = replace(
        SOFTMAX,
        mask=None,
        efficient=lambda q, k, v, call: softmax_forms.plain(q, k, v.square(), call),
        matrix_axis="none",
        row_stochastic=False,
        linear_in_v=False,
    )
    check_operator(squared)
    assert "z of v + 2 w differs" in problems(replace(squared, linear_in_v=True))
    assert "row_stochastic is declared, and it has no matrix" in problems(replace(squared, row_stochastic=True))


def test_what_is_no_operator_is_refused() -> None:
    with pytest.raises(AssertionError, match="takes an operator or the name of one, not int"):
        check_operator(3)  # pyright: ignore[reportArgumentType] - refused
