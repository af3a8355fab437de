"""`attention`: one head's pattern on one prompt, with its tokens, to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.core import Head
from workbench.errors import UsageError
from workbench.patching.record import record
from workbench.patching.resolve import unpaired

if TYPE_CHECKING:
    from workbench.plotting.attention_view import Attention


def attention(model: Any, prompt: Any, layer: int, head: int, *, cache: Any = None) -> Attention:
    """One head's attention on one prompt; in a notebook the result shows itself.

    Args:
        model: a `HookedLM`.
        prompt: a text, or its token ids.
        layer, head: which head; query heads are counted.
        cache: as in `workbench.record`.

    Raises:
        UsageError: no such layer or head, or a text that has no tokens.
    """
    from workbench.plotting.attention_view import Attention

    if isinstance(head, bool) or not isinstance(head, int):
        raise UsageError(f"head={head!r}: give its number.")
    if not 0 <= head < model.n_heads:
        raise UsageError(f"head {head} does not exist: the model has heads 0 to {model.n_heads - 1}.")
    if isinstance(prompt, str):
        task: Any = prompt
        ids = model.to_tokens(prompt)[0]
    else:
        ids = _ids(prompt, model.cfg.d_vocab)
        task = unpaired(model, [ids])
    pattern = record(model, task, ["pattern"], layer, cache=cache).clean["pattern"][0][0, head]
    words = model.to_str_tokens(ids) if model.tokenizer is not None else [str(int(i)) for i in ids]
    return Attention(
        tuple(words), pattern.float().cpu().numpy(), Head(layer, head), str(model.provenance.get("name", ""))
    )


def _ids(prompt: Any, d_vocab: int) -> Int[Tensor, "pos"]:
    """One prompt's token ids.

    Raises:
        UsageError: something else.
    """
    try:
        ids = torch.as_tensor(prompt)
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(
            f"prompt: {type(prompt).__name__} is neither a text nor the token ids of one prompt."
        ) from None
    if ids.ndim != 1 or not len(ids) or ids.is_floating_point():
        raise UsageError(
            f"prompt: ids of shape {tuple(ids.shape)} and {ids.dtype}; give the whole numbers of one prompt, [pos]."
        )
    if int(ids.min()) < 0 or int(ids.max()) >= d_vocab:
        raise UsageError(f"prompt: the model's tokens have the ids 0 to {d_vocab - 1}.")
    return ids.long()
