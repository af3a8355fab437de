"""Layout mask: objects, a prompt, an image and a subject's image in one sequence, each seeing what its layout allows.

``A = softmax(q kᵀ / √d)`` over (rows see columns):

========  ============  ========  ==============  ============================
row       object m      prompt    image           subject
========  ============  ========  ==============  ============================
object n  where n = m   no        inside box n    no
prompt    no            yes       yes             inside the subject's mask
image     inside box m  yes       yes             where inside the subject's mask itself
subject   no            no        inside its mask yes
========  ============  ========  ==============  ============================

The layout comes as data, entries of ``[src]`` or ``[batch, src]``: ``kind`` (0 object, 1 prompt, 2 image, 3 subject),
``object`` (the number of an object token's object; others' does not matter), ``boxes`` ``[object, src]`` (image tokens
inside each object's box) and ``subject`` (image and subject tokens inside the subject's mask).
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.operator import Operator
from workbench.attention.primitives import needed, softmax_forms
from workbench.attention.primitives.visible import rows
from workbench.errors import UsageError

OBJECT, PROMPT, IMAGE, SUBJECT = range(4)
ENTRIES = {
    "kind": "the kind of each token (0 object, 1 prompt, 2 image, 3 subject)",
    "object": "the number of each object token's object",
    "boxes": "which image tokens lie in each object's box [object, src]",
    "subject": "which image and subject tokens lie in the subject's mask",
}


def layout(call: Call, src: int) -> dict[str, Tensor]:
    """The layout, with a batch of its own or 1.

    Raises:
        UsageError: an entry is missing or of another length, or names a kind or an object that there is not.
    """
    entries = {name: needed.data(call, "layout-mask", name, what) for name, what in ENTRIES.items()}
    for name, entry in entries.items():
        if entry.shape[-1] != src:
            raise UsageError(f"layout-mask: data[{name!r}] is for {entry.shape[-1]} positions, and there are {src}.")
        if entry.dim() == (2 if name == "boxes" else 1):
            entries[name] = entry[None]
    kind, number, boxes = entries["kind"], entries["object"], entries["boxes"].shape[1]
    if ((kind < OBJECT) | (kind > SUBJECT)).any():
        raise UsageError("layout-mask: data['kind'] has other numbers than 0 object, 1 prompt, 2 image and 3 subject.")
    if boxes and ((kind == OBJECT) & ((number < 0) | (number >= boxes))).any():
        raise UsageError(f"layout-mask: data['object'] names an object that none of the {boxes} boxes is for.")
    return entries


def mask(q: Tensor, k: Tensor, call: Call) -> Tensor:
    """``[batch_or_1, 1, dest, src]``."""
    src, dest = k.shape[2], q.shape[2]
    entries = layout(call, src)
    to, of = rows(entries["kind"], dest)
    to_object, of_object = rows(entries["object"], dest)
    to_subject, of_subject = rows(entries["subject"].bool(), dest)
    in_box = _in_box(entries)
    to_box, of_box = in_box[:, None, src - dest :], in_box.mT[:, None, src - dest :]
    allowed = {
        (OBJECT, OBJECT): to_object == of_object,
        (OBJECT, IMAGE): of_box,
        (PROMPT, SUBJECT): of_subject,
        (IMAGE, OBJECT): to_box,
        (IMAGE, SUBJECT): to_subject,
        (SUBJECT, IMAGE): of_subject,
    }
    everything = ((PROMPT, PROMPT), (PROMPT, IMAGE), (IMAGE, PROMPT), (IMAGE, IMAGE), (SUBJECT, SUBJECT))
    seen = torch.zeros_like(to == of)
    for row, column in everything:
        seen = seen | ((to == row) & (of == column))
    for (row, column), where in allowed.items():
        seen = seen | ((to == row) & (of == column) & where)
    return seen


def _in_box(entries: dict[str, Tensor]) -> Tensor:
    """Whether each token lies in the box of each token's object, ``[batch_or_1, token, object token]``."""
    boxes, number = entries["boxes"].bool(), torch.where(entries["kind"] == OBJECT, entries["object"], 0)
    batch = max(len(boxes), len(number))
    boxes, number = boxes.expand(batch, -1, -1), number.expand(batch, -1)
    if not boxes.shape[1]:
        return torch.zeros(batch, boxes.shape[2], boxes.shape[2], dtype=torch.bool, device=boxes.device)
    return boxes.gather(1, number[..., None].expand(-1, -1, boxes.shape[2])).mT


def record(q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
    """``mass [batch, head, 4, 4]``: how much rows of each kind give to sources of each kind, on average."""
    kind = layout(call, k.shape[2])["kind"]
    of = torch.nn.functional.one_hot(kind.long(), 4).to(q.dtype)[:, None]
    to = of[:, :, -q.shape[2] :]
    pattern = softmax_forms.pattern(q, k, mask(q, k, call), call)
    return {"mass": to.mT @ (pattern @ of) / to.sum(2, keepdim=True).mT.clamp(min=1)}


def trial(batch: int, length: int) -> dict[str, dict[str, Tensor]]:
    """Two objects of a token or more, a prompt, an image and a subject."""
    part = max(1, length // 8)
    kinds = [IMAGE] * length
    kinds[: 3 * part] = [OBJECT] * (2 * part) + [PROMPT] * part if length > 4 * part else []
    kinds = (kinds + [IMAGE] * length)[:length]
    kinds[length - part if length > 1 else length :] = [SUBJECT] * (part if length > 1 else 0)
    kind, place = torch.tensor(kinds), torch.arange(length)
    boxes = torch.stack([place % 3 == 0, place % 3 == 1]) & (kind == IMAGE)
    subject = (place % 2 == 0) & (kind >= IMAGE)
    return {"data": {"kind": kind, "object": place // part % 2, "boxes": boxes, "subject": subject}}


operator = Operator(
    name="layout-mask",
    version=1,
    source="CreatiDesign; code HuiZhang0812/CreatiDesign 5efe047",
    status="as published",
    needs=("data",),
    causal="no",
    records=("mass",),
    mask=mask,
    record=record,
    trial=trial,
)
