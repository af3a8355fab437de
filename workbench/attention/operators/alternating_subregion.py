"""Alternating subregions: every layer splits the positions into groups of another kind, which attend within themselves.

``A = softmax(q kᵀ / √d)`` over ``{j : group(j) = group(i)}`` with ``group(t) = ⌊t / run⌋ mod groups``. Layers take
turns: ``(groups, run)`` is (1, 1), all see all; (4, 1), every fourth position; (4, 4), every fourth run of four; or
what the settings say. Positions are numbered in their order, not along a grid; the first `stream` of them are a
stream of their own (text before an image), which is numbered by itself and split into the same groups. Places are
counted without padding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.attention.call import Call
from workbench.attention.operator import Operator
from workbench.attention.primitives import groups, softmax_forms
from workbench.attention.primitives.visible import places, rows
from workbench.attention.settings import Setting

AHEAD = -1
TURNS = ((1, 1), (4, 1), (4, 4))


def division(call: Call) -> tuple[int, int]:
    """How many groups, and how long their runs are, in the call's layer."""
    if call["groups"] is None:
        return TURNS[call.layer % len(TURNS)]
    return call["groups"], call["run"]


def labels(call: Call, src: int, device: torch.device) -> Tensor:
    """Each position's group, ``[batch_or_1, src]``; −1 ahead of a grid."""
    count, run = division(call)
    place = places(call, src, device)[0] - call.before
    own = torch.where(place < call["stream"], place, place - call["stream"])
    return torch.where(place < 0, AHEAD, own // run % count)


def mask(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[batch_or_1, 1, dest, src]``."""
    label = labels(call, k.shape[2], q.device)
    destination, source = rows(label == AHEAD, q.shape[2])
    return groups.same(label, q.shape[2]) | destination | source


def efficient(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """Each group's attention by itself: a `groups`-th of the work."""
    count, run = division(call)
    length, stream = q.shape[2], call["stream"]
    whole = length % (count * run) == 0 and stream % (count * run) == 0
    plain = call.visible is None and call.padding is None and not call.before and length == k.shape[2]
    if count == 1:
        return softmax_forms.plain(q, k, v, call)
    if not (plain and whole):
        return softmax_forms.masked(q, k, v, mask(q, k, call), call)
    queries, keys, values = (x.unflatten(2, (-1, count, run)).transpose(2, 3).flatten(3, 4) for x in (q, k, v))
    z = F.scaled_dot_product_attention(queries, keys, values, is_causal=call.causal, scale=call.scale)
    return z.unflatten(3, (-1, run)).transpose(2, 3).flatten(2, 4)


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """Each position's group, ``[batch_or_1, src]``."""
    return {"group": labels(call, k.shape[2], q.device)}


operator = Operator(
    name="alternating-subregion",
    version=1,
    source="E-MMDiT; code AMD-AGI/Nitro-E 9f12d73",
    status="as published",
    choices=(
        "any length: groups may differ in size; the source takes lengths that groups · run divides",
        "positions ahead of a grid see everything and are seen by everything",
    ),
    settings={
        "groups": Setting(None, "whole number", "how many groups; None: by layer", at_least=1, optional=True),
        "run": Setting(1, "whole number", "positions in a row of one group, where `groups` is set", at_least=1),
        "stream": Setting(0, "whole number", "first positions that are a stream of their own", at_least=0),
    },
    records=("group",),
    mask=mask,
    efficient=efficient,
    record=record,
    check_length=lambda settings: settings["stream"] + 2 * (settings["groups"] or 4) * max(4, settings["run"]),
)
