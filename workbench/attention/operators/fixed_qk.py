"""Fixed queries and keys: attention whose pattern comes from another input than the one whose values it mixes.

``A = softmax(q' k'ᵀ / √d)``, and z = A v with the input's own values. Where q' and k' come from is the form:

- ``random``: fixed embeddings, drawn from `seed`, that run through the same layers beside the input;
- ``sequence``: the same with a fixed text. Both patterns are the same for every input of a length;
- ``static``: the layer's own projections of the input's token embeddings, in every layer.

The first two are defined for `length` positions, come as data ``q`` and ``k`` ``[head, length, d]``, and count places
without padding. The third comes as gates ``q`` and ``k`` ``[batch, pos, head, d]``.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.operator import Operator
from workbench.attention.primitives import needed, softmax_forms
from workbench.attention.primitives.visible import places, visible
from workbench.attention.settings import Setting

NAME = "fixed-qk"
WHAT = {"q": "queries", "k": "keys"}


def queries_and_keys(q: Tensor, k: Tensor, call: Call) -> tuple[Tensor, Tensor]:
    """Those that the pattern comes from, ``[batch, head, dest, d]`` and ``[batch, head, src, d]``.

    Raises:
        UsageError: they are missing, or not for so many positions.
    """
    dest, src = q.shape[2], k.shape[2]
    if call["form"] == "static":
        shape = "of the token embeddings [batch, src, head, d]"
        both = [needed.gate(call, NAME, name, f"{what} {shape}").transpose(1, 2) for name, what in WHAT.items()]
    else:
        shape = "of the second stream [head, length, d]"
        both = [needed.data(call, NAME, name, f"{what} {shape}") for name, what in WHAT.items()]
        needed.at_most(NAME, src, min(call["length"], both[0].shape[-2]))
        place = places(call, src, q.device)[0]
        both = [x[:, place].transpose(0, 1) for x in both]
    queries, keys = (x.to(q.dtype).expand(q.shape[0], q.shape[1], -1, -1) for x in both)
    return queries[:, :, src - dest :], keys


def matrix(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[batch, head, dest, src]``."""
    queries, keys = queries_and_keys(q, k, call)
    return softmax_forms.pattern(queries, keys, visible(_own(call), q.shape[2], k.shape[2], q.device), _own(call))


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """By the kernel."""
    queries, keys = queries_and_keys(q, k, call)
    return softmax_forms.plain(queries, keys, v, _own(call))


def _own(call: Call) -> Call:
    return replace(call, visible=None)


def trial(batch: int, length: int) -> dict[str, dict[str, Tensor]]:
    """The same for all heads."""
    n = torch.arange(length * 8, dtype=torch.float64)
    return {"data": {"q": torch.sin(1.3 * n).view(1, length, 8), "k": torch.cos(0.7 * n).view(1, length, 8)}}


operator = Operator(
    name=NAME,
    version=1,
    source="Xue, Moosavi and Aletras 2025, arXiv 2510.11602 (RndEmbQK, FixedSeqQK, StaticEmbQK)",
    status="as published",
    settings={
        "form": Setting("random", "word", "where q and k come from", choices=("random", "sequence", "static")),
        "length": Setting(2048, "whole number", "positions that a fixed input has", at_least=1),
        "seed": Setting(0, "whole number", "of the random embeddings", at_least=0),
    },
    needs=lambda settings: ("token embeddings",) if settings["form"] == "static" else ("second stream",),
    ignores=("q", "k"),
    form="shared softmax",
    matrix=matrix,
    efficient=efficient,
    trial=trial,
)
