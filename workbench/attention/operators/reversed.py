"""Reversed attention: each sender spreads its value over receivers, through heads that it selects.

::

    F[i, j] = softmax over receivers j of (q_i · k_j / √d)
    A[j, i] = F[i, j] p_i m_i                            z_j = Σ_i A[j, i] v_i
    p_i     = softmax over heads of (x_i W / τ)          the head selector
    m_i     = sigmoid(W₂ gelu(W₁ x_i + b₁) + b₂)         the message gate: how much i still sends

Columns sum to ``p_i m_i``, over all heads to m_i; rows are not normalised: a receiver may get any amount. The
dependency mask ``D[j, i] = Σ_h A_h[j, i]`` says how much i depends on j. A published layer multiplies its m by those of
the layers before: take the product of the recorded ones.

With `sender` ``"key"`` i scores with its key and j with its query, as a layer of softmax attention was trained. In a
causal model a position sends to itself and to later ones; how it spreads over them depends on them all.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.attention.call import Call
from workbench.attention.layer import LayerShape, OperatorModule, Project, Settings
from workbench.attention.operator import Operator
from workbench.attention.primitives import gates, softmax_forms
from workbench.attention.primitives.visible import visible
from workbench.attention.settings import Setting
from workbench.errors import UsageError


class Module(OperatorModule):
    """The head selector and the message gate."""

    def __init__(self, shape: LayerShape, settings: Settings) -> None:
        super().__init__()
        width, hidden = shape.d_model, max(shape.d_model // 2, 1)
        self.temperature = settings["temperature"]
        self.select = _linear(torch.zeros(shape.n_heads, width))
        # Not 0, or the gate could not be trained.
        self.hidden = _linear(torch.sin(torch.arange(1, hidden * width + 1)).view(hidden, width) / width**0.5, True)
        self.message = gates.constant_projection(hidden, torch.tensor([settings["message"]]).logit())

    def gates(self, x: Tensor, project: Project) -> dict[str, Tensor]:
        """``selector``, p ``[batch, pos, head]``, and ``message``, m ``[batch, pos, 1]``."""
        selector = torch.softmax(self.select(x) / self.temperature, -1)
        return {"selector": selector, "message": self.message(F.gelu(self.hidden(x))).sigmoid()}


def _linear(weight: Tensor, bias: bool = False) -> nn.Linear:
    """A layer of that weight, with a bias of 0 or none."""
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=bias)
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias:
            layer.bias.zero_()
    return layer


def _selector(k: Tensor, call: Call) -> Tensor:
    """p, ``[batch_or_1, head, src]``."""
    return gates.of_heads(call, "selector", 1 / k.shape[1], k).expand(-1, k.shape[1], -1)


def _message(k: Tensor, call: Call) -> Tensor:
    """m, ``[batch_or_1, 1, src]``."""
    return gates.of_heads(call, "message", call["message"], k)


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``A[j, i]``, receivers by senders; receivers share each sender's softmax, so all must be present.

    Raises:
        UsageError: queries of the last positions alone.
    """
    n = k.shape[2]
    if q.shape[2] != n:
        raise UsageError(
            f"reversed got the queries of {q.shape[2]} of {n} positions: expected all of them, because each sender's "
            "softmax runs over every receiver."
        )
    senders, receivers = (q, k) if call["sender"] == "query" else (k, q)
    seen = visible(call, n, n, q.device).mT
    if call.padding is not None:
        seen = seen & call.padding[:, None, None, :]
    forward = softmax_forms.softmax((senders * call.scale) @ receivers.mT, seen)
    return (forward * (_selector(k, call) * _message(k, call)).to(q.dtype)[..., None]).mT


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """``dependency``, D ``[batch, dest, src]``; ``selector``, p ``[batch, head, src]``; ``message``, m ``[batch,
    src]``."""
    batch = k.shape[0]
    selector, message = _selector(k, call).expand(batch, -1, -1), _message(k, call).expand(batch, -1, -1)[:, 0]
    return {"dependency": matrix(q, k, call).sum(1), "selector": selector, "message": message}


operator = Operator(
    name="reversed",
    version=1,
    source="Ding et al. 2023, arXiv 2304.03282 (DependencyViT; its repository holds no code)",
    status="reconstruction",
    choices=(
        "the message gate's MLP is C → C/2 → 1 with GELU, as in an independent attempt at the model",
        "m of the layer alone: the product with earlier layers' is left to who reads the records",
        "τ = 0.1 as printed; that attempt found it unstable and took 1",
        "in a causal model receivers are the sender and later positions",
    ),
    settings={
        "temperature": Setting(0.1, "number", "τ of the head selector", above=0),
        "message": Setting(0.88, "number", "m before training", above=0, at_most=1),
        "sender": Setting("query", "word", "what a sender scores with", choices=("query", "key")),
    },
    needs=("gates",),
    invents="the head selector (at first all heads alike) and the message gate (at first the setting `message`)",
    causal="mask",
    row_stochastic=False,
    resumes="no",
    form="reversed softmax",
    records=("dependency", "selector", "message"),
    matrix=matrix,
    record=record,
    module=Module,
)
