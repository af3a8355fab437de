"""Guidance's two passes as positions of one activation: the labelled ones first, then those without a label.

Inside, the two passes of a row are two rows of the batch. Hooks see one activation of twice the positions, so that an
edit of a head reaches both passes, as in any pipeline, and naming positions picks one. A pattern is
``[head, 2 pos, 2 pos]``: no pass attends to the other.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from workbench.arguments import as_typed
from workbench.errors import HookError
from workbench.models.attention_edits import PartialTap
from workbench.models.resumable import Tap

#: Entries of a pattern, and of scores, where a pass would attend to the other one.
_UNSEEN = {"hook_pattern": 0.0, "hook_attn_scores": -torch.inf}


def apart(x: Shaped[Tensor, "row pos *rest"], branches: int) -> Shaped[Tensor, "pass some_pos *rest"]:
    """One row a pass."""
    return x if branches == 1 else x.unflatten(1, (branches, -1)).flatten(0, 1)


def together(x: Shaped[Tensor, "pass pos *rest"], branches: int) -> Shaped[Tensor, "row more_pos *rest"]:
    """The passes of a row as positions of one."""
    return x if branches == 1 else x.reshape(-1, branches * x.shape[1], *x.shape[2:])


def over_branches(name: str, tap: Tap, branches: int, length: int) -> Tap:
    """A tap on the activation of all passes together, as one on the batch of passes, each of `length` positions."""
    unseen = _UNSEEN.get(name.rpartition(".")[2])
    if unseen is not None:
        return _on_pattern(name, tap, branches, length, unseen)

    def both(x: Tensor) -> Tensor | None:
        new = tap(joined := together(x, branches))
        return None if new is None else apart(_of_shape(name, new, joined), branches)

    return both


def _on_pattern(name: str, tap: Tap, branches: int, length: int, unseen: float) -> Tap:
    """A tap on a pattern or on scores."""
    rows: tuple[int, ...] | None = tap.rows if isinstance(tap, PartialTap) else None
    inner = range(length) if rows is None else sorted({row % length for row in rows})
    on_part: Tap = tap.tap if isinstance(tap, PartialTap) else tap

    def passes(x: Float[Tensor, "pass head some_dest src"]) -> Tensor | None:
        joined = _square(x, branches, unseen)
        if rows is None:
            new = on_part(joined)
            return None if new is None else _passes(name, _of_shape(name, new, joined), branches, unseen)
        chosen = [row // length * len(inner) + inner.index(row % length) for row in rows]
        new = on_part(part := joined[:, :, chosen])
        if new is None:
            return None
        joined[:, :, chosen] = _of_shape(name, new, part)
        return _passes(name, joined, branches, unseen)

    if not isinstance(tap, PartialTap):
        return passes
    return PartialTap(passes, tap.heads, None if rows is None else tuple(inner))


def _square(
    x: Float[Tensor, "pass head dest src"], branches: int, unseen: float
) -> Float[Tensor, "row head more_dest more_src"]:
    """The passes' patterns on a diagonal."""
    x = x.unflatten(0, (-1, branches))
    whole = x.new_full((x.shape[0], x.shape[2], branches, x.shape[3], branches, x.shape[4]), unseen)
    for branch in range(branches):
        whole[:, :, branch, :, branch] = x[:, branch]
    return whole.flatten(4, 5).flatten(2, 3)


def _passes(
    name: str, x: Float[Tensor, "row head more_dest more_src"], branches: int, unseen: float
) -> Float[Tensor, "pass head dest src"]:
    """The inverse of `_square`.

    Raises:
        HookError: a pass attends to the other one.
    """
    x = x.unflatten(3, (branches, -1)).unflatten(2, (branches, -1))
    for branch in range(branches):
        for other in range(branches):
            if branch != other and bool((x[:, :, branch, :, other] != unseen).any()):
                raise HookError(
                    f"The edit at {name} lets one pass of guidance attend to positions of the other, which it does not "
                    "see. Edit positions of one pass, and let them attend to positions of the same."
                )
    return torch.stack([x[:, :, branch, :, branch] for branch in range(branches)], 1).flatten(0, 1)


def _of_shape(name: str, new: Any, old: Tensor) -> Tensor:
    """What a tap returned.

    Raises:
        HookError: it is of another shape.
    """
    if not isinstance(new, Tensor) or new.shape != old.shape:
        raise HookError(
            f"The edit at {name} gave {as_typed(new)} where {tuple(old.shape)} came in. An edit must keep the shape."
        )
    return new
