"""`attention_view`: one head's pattern on one prompt, with its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from workbench import arguments
from workbench.core import Head, full_name
from workbench.inputs.paired import PairedInputs
from workbench.io.written_text import Piece, pieces_of_labels, written_pieces
from workbench.models.in_forward import attends_causally
from workbench.models.precision import at_least_float32
from workbench.models.prompts import unpaired
from workbench.patching.record import record
from workbench.patching.resolve import require_language, resolve_inputs

if TYPE_CHECKING:
    from workbench.plotting.attention_view import Attention


def attention_view(model: Any, prompt: Any, layer: int, head: int, *, cache: Any = None) -> Attention:
    """One head's attention on one prompt; in a notebook the result is displayed as a picture.

    Args:
        model: a `HookedLM`.
        prompt: a text, or its token ids.
        layer, head: which head; query heads are counted.
        cache: as in `workbench.record`.

    Raises:
        UsageError: no such layer or head, a text that has no tokens, or ids that the model cannot read.

    Examples:
        >>> model = wb.load("tiny")
        >>> view = wb.attention_view(model, "Then, Mary and John", layer=1, head=3)
        >>> view.table(dest=-1, k=2).columns.tolist()
        ['source', 'token', 'weight']
    """
    from workbench.plotting.attention_view import Attention

    require_language(model, "wb.attention_view shows tokens")
    layer = arguments.index("layer", layer, model.n_layers, "layer")
    head = arguments.index("head", head, model.n_heads, "head")
    task = one_prompt(model, prompt)
    pattern = record(model, task, ["pattern"], layer, cache=cache).clean["pattern"][0][0, head]
    words, name = words_of(model, task.clean[0]), full_name(model.provenance.get("name", ""), model.operators)
    weights, pieces = at_least_float32(pattern).cpu().numpy(), pieces_of(model, task.clean[0])
    return Attention(words, weights, Head(layer, head), name, pieces, attends_causally(model, layer))


def one_prompt(model: Any, prompt: Any) -> PairedInputs:
    """A text, or token ids, as the one input of its kind.

    Raises:
        UsageError: a text that has no tokens, or ids that the model cannot read.
    """
    if isinstance(prompt, str):
        return resolve_inputs(arguments.text("prompt", prompt), model, "prompt")
    return unpaired(model, [_tensor(prompt)])


def words_of(model: Any, ids: Int[Tensor, "pos"]) -> tuple[str, ...]:
    """The tokens' texts; without a tokenizer their ids."""
    return tuple(model.to_str_tokens(ids) if model.tokenizer is not None else [str(int(i)) for i in ids])


def pieces_of(model: Any, ids: Int[Tensor, "pos"]) -> tuple[Piece, ...]:
    """The prompt's text in pieces; without a tokenizer its ids."""
    if model.tokenizer is None:
        return pieces_of_labels(words_of(model, ids))
    return written_pieces(model.tokenizer, ids.tolist())


def _tensor(prompt: Any) -> Tensor:
    """One prompt's token ids, however they are held.

    Raises:
        UsageError: something that is no array of numbers.
    """
    try:
        return torch.as_tensor(prompt)
    except (TypeError, ValueError, RuntimeError):
        raise arguments.refusal("prompt", prompt, "a text, or the token ids of one prompt, [pos]") from None
