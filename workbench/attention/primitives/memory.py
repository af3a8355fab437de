"""Memories of the Miras family: a matrix W that is trained on each position's key and value, and read with its query.

::

    e_t = W_{t−1} k_t − v_t             W [d_value, d_head]
    W_t = step(W_{t−1}, e_t k_tᵀ, …)    the operator's loss and retention
    z_t = W_t q_t

Position by position: gradients at a frozen W (chunks) are another model. Padding changes no memory, and its z is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from workbench.attention.call import Call
from workbench.attention.layer import LayerShape, OperatorModule, Project, Settings, State
from workbench.attention.primitives import gates
from workbench.attention.settings import Setting

Rates = Mapping[str, Tensor]

#: What all of them choose where the readable sources differ or say nothing.
CHOICES = (
    "matrix memory W k in place of the published gated MLP with a layer norm",
    "one rate a head and position (one a channel, from low-rank projections, in the descriptions)",
    "q and k are the layer's own, without the short convolution",
    "position by position; chunks with gradients at a frozen W are another model",
)
SOURCE = "Behrouz et al. 2025, arXiv 2504.13173 (equations at second hand: the paper could not be read)"
INVENTS = "its rates at each position: functions of projections of x with weights 0, whose biases give the settings"


def settings(**others: Setting) -> dict[str, Setting]:
    """Those that all of them have, and the operator's own."""
    return {
        "eta": Setting(0.2, "number", "eta, how far each position moves the memory, before training", at_least=0),
        "alpha": Setting(0.9, "number", "alpha, how much stays of the memory, before training", above=0, at_most=1),
        **others,
        "unit": Setting(True, "flag", "q and k of length one"),
    }


class Module(OperatorModule):
    """eta, alpha and, where there is one, delta of each head."""

    def __init__(self, shape: LayerShape, settings: Settings) -> None:
        super().__init__()

        def projection(bias: Tensor) -> torch.nn.Linear:
            return gates.constant_projection(shape.d_model, bias.expand(shape.n_heads))

        self.eta = projection(_before_softplus(settings["eta"]))
        self.alpha = projection(torch.tensor(settings["alpha"]).logit())
        delta = settings.get("delta")
        self.delta = None if delta is None else projection(_before_softplus(delta))

    def gates(self, x: Tensor, project: Project) -> dict[str, Tensor]:
        """``eta``, ``alpha`` and ``delta``, ``[batch, pos, head]``: positive, from 0 to 1, and positive."""
        rates = {"eta": F.softplus(self.eta(x)), "alpha": self.alpha(x).sigmoid()}
        return rates if self.delta is None else {**rates, "delta": F.softplus(self.delta(x))}


def _before_softplus(value: float) -> Tensor:
    """Its inverse, −∞ for 0."""
    rate = torch.tensor(value)
    return rate + torch.log(-torch.expm1(-rate))


@dataclass(frozen=True)
class Memory:
    """The functions of an operator, from its own three.

    Attributes:
        start: ``start(like, call) -> state`` before the first position; `like` is zeros of the shape of W.
        step: ``step(state, e, k, rates, call) -> state``; e ``[batch, head, d_value, 1]``, k ``[batch, head, 1,
            d_head]``, rates ``[batch, head, 1, 1]``.
        weights: ``weights(state, call) -> W``.
    """

    start: Callable[[Tensor, Call], State]
    step: Callable[[State, Tensor, Tensor, Rates, Call], State]
    weights: Callable[[State, Call], Tensor]

    def efficient(self, q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
        """From the start."""
        return self._run(q, k, v, call)[0]

    def advance(self, k: Tensor, v: Tensor, call: Call, state: State | None) -> State:
        """What it holds after those positions."""
        return self._run(None, k, v, call, state)[1]

    def resume(self, q: Tensor, k: Tensor, v: Tensor, state: State, call: Call) -> Tensor:
        """From the memory before."""
        return self._run(q, k, v, call, state)[0]

    def record(self, q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
        """W after the last position, ``[batch, head, d_value, d_head]``; the surprise ‖e‖ of each position, and its
        rates, ``[batch, head, src]``."""
        _, state, surprise = self._run(None, k, v, call)
        rates = {name: rate.expand(surprise.shape) for name, rate in _rates(k, call).items()}
        return {"weights": self.weights(state, call), "surprise": surprise, **rates}

    def _run(
        self,
        q: Float[Tensor, "batch head pos d_head"] | None,
        k: Float[Tensor, "batch head pos d_head"],
        v: Float[Tensor, "batch head pos d_value"],
        call: Call,
        state: State | None = None,
    ) -> tuple[Tensor, State, Tensor]:
        """z, the state behind and ``‖e‖`` of each position."""
        precision, exact = v.dtype, torch.promote_types(v.dtype, torch.float32)
        queries, keys, values = (None if x is None else x.to(exact) for x in (q, k, v))
        assert keys is not None and values is not None
        if call["unit"]:
            keys, queries = F.normalize(keys, dim=-1), None if queries is None else F.normalize(queries, dim=-1)
        rates = {name: rate.to(exact) for name, rate in _rates(k, call).items()}
        if state is None:
            state = self.start(values.new_zeros(*k.shape[:2], v.shape[-1], k.shape[-1]), call)
        weights, z, surprise = self.weights(state, call), [], []
        for t in range(k.shape[2]):
            key, real = keys[:, :, t, None], None if call.padding is None else call.padding[:, t]
            error = weights @ key.mT - values[:, :, t, :, None]
            after = self.step(state, error, key, {name: r[:, :, t, None, None] for name, r in rates.items()}, call)
            state = after if real is None else _where(real, after, state)
            weights = self.weights(state, call)
            surprise.append(error.square().sum((-2, -1)))
            if queries is not None:
                z.append((weights @ queries[:, :, t, :, None])[..., 0])
        result = torch.stack(z, 2) if z else values[:, :, :0]
        if call.padding is not None and z:
            result = result * call.padding[:, None, :, None]
        return result.to(precision), state, torch.stack(surprise, 2).sqrt()


def _rates(k: Tensor, call: Call) -> dict[str, Tensor]:
    names = [name for name in ("eta", "alpha", "delta") if call.settings.get(name) is not None]
    return {name: gates.of_heads(call, name, call[name], k) for name in names}


def _where(real: Bool[Tensor, "batch"], after: State, before: State) -> State:
    return tuple(torch.where(real[:, None, None, None], new, old) for new, old in zip(after, before, strict=True))


def power(x: Tensor, exponent: float) -> Tensor:
    """``|x|^exponent``, 0 at 0 with its gradient."""
    some = x != 0
    return torch.where(some, torch.where(some, x, 1).abs() ** exponent, 0)
