"""Static: learned mixing that does not depend on the input, a table of logits for each head.

``A[i, j] = softmax_j(W[h, i, j])`` over what position i may see; W starts at 0, where it is `uniform`. A control of our
own. Places are counted without padding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench.attention.call import Call
from workbench.attention.layer import LayerShape, OperatorModule, Settings
from workbench.attention.operator import Operator
from workbench.attention.primitives import needed, softmax_forms
from workbench.attention.primitives.visible import places, rows, visible
from workbench.attention.settings import Setting


class Logits(OperatorModule):
    """``logits [head, length, length]``."""

    def __init__(self, n_heads: int, length: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_heads, length, length))

    def data(self) -> dict[str, Tensor]:
        return {"logits": self.logits}


def module(shape: LayerShape, settings: Settings) -> OperatorModule:
    """All zero."""
    return Logits(shape.n_heads, settings["length"])


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """The table's softmax, ``[batch, head, dest, src]``."""
    dest, src = q.shape[2], k.shape[2]
    needed.at_most("static", src, call["length"])
    logits = needed.data(call, "static", "logits", "a table of logits [head, length, length]").to(q.dtype)
    destination, source = (x[:, 0] for x in rows(places(call, src, q.device)[0], dest))
    logits = logits[:, destination, source].transpose(0, 1)  # [batch_or_1, head, dest, src]
    pattern = softmax_forms.softmax(logits, visible(call, dest, src, q.device))
    return pattern.expand(q.shape[0], q.shape[1], -1, -1)


def trial(batch: int, length: int) -> dict[str, dict[str, Tensor]]:
    """One table for all heads."""
    return {"data": {"logits": torch.sin(torch.arange(length * length) * 1.3).view(1, length, length)}}


operator = Operator(
    name="static",
    version=1,
    source="none: a control of our own",
    status="control",
    settings={"length": Setting(256, "whole number", "positions that it has a table for", at_least=1)},
    needs=("data",),
    ignores=("q", "k"),
    invents="a table of logits for each head, which starts at 0: uniform",
    form="stored weights",
    matrix=matrix,
    module=module,
    trial=trial,
)
