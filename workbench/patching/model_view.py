"""`model_view`: the patterns of all heads on one prompt, as small maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench import arguments
from workbench.attention.statistics import PatternStatistics, Requested
from workbench.attention.statistics.pooling import block_maxima
from workbench.cache import store_of
from workbench.cache.result_cache import ResultCache
from workbench.core import Head, full_name
from workbench.errors import UsageError
from workbench.models.in_forward import of_each_layer, without_pattern_scores
from workbench.patching.attention_view import one_prompt
from workbench.patching.resolve import model_identity, require_language, resolve_layers, resolve_model

if TYPE_CHECKING:
    from workbench.plotting.model_view import ModelView

#: Raise it when a number here changes: cached maps are then computed again.
VERSION = 1


@torch.no_grad()
def model_view(
    model: Any,
    prompt: Any,
    heads: Sequence[Any] | None = None,
    layers: Sequence[int] | int | None = None,
    *,
    size: int = 32,
    score: str = "",
    cache: Any = None,
) -> ModelView:
    """The attention patterns of all heads on one prompt, as small multiples; in a notebook the result is displayed as
    a picture.

    Where the prompt has more than `size` positions, a pattern ``A[dest, src]`` is max-pooled by blocks of
    ``b = ⌈positions / size⌉`` positions, of which the last may have fewer:
    ``map[i, j] = max A[q, k] over ⌊q / b⌋ = i and ⌊k / b⌋ = j``. The maps are computed in one forward pass, a layer at
    a time, from q and k: no layer's patterns are made whole, except where they are no softmax of q and k. This is the
    model view of BertViz (Vig 2019, "A Multiscale Visualization of Attention in the Transformer Model",
    arXiv:1906.05714).

    Args:
        model: a `HookedLM`. Layers whose operator has no matrix of each head, or one whose rows are no shares of
            attention, are left out; ``notes`` says which, and why.
        prompt: a text, or its token ids.
        heads: the heads to show, in this order (``Head(23, 3)``, ``"23.3"`` or ``(23, 3)``), or pairs of a head and its
            value, as `HeadScores.top` gives them; all heads by default, in order of layer.
        layers: show the heads of these layers only; without `heads`.
        size: rows and columns of a map at most.
        score: what the values of `heads` are, for titles and tables.
        cache: where the maps are stored, as in `wb.record`.

    Returns:
        `ModelView`: ``maps[head, row, column]`` in float32, in order of ``heads``; ``block`` and ``labels`` say which
        positions a row or column has.

    Raises:
        UsageError: a head or layer that does not exist or has no pattern, a prompt that the model cannot read, or a
            `size` below 1.

    Examples:
        >>> view = wb.model_view(wb.load("tiny"), "Then, Mary and John", layers=1)
        >>> view.maps.shape  # [head, row, column]
        (8, 5, 5)
        >>> str(view.heads[0]), view.labels[2]
        ('1.0', '2 ·Mary')
    """
    from workbench.plotting.model_view import ModelView

    require_language(model, "wb.model_view shows tokens")
    selected = resolve_layers(layers, model.n_layers)
    if heads is not None and layers is not None:
        raise arguments.refusal("layers", layers, "None", "Leave it out.", because="heads says which heads are shown")
    size, score = arguments.whole_number("size", size, at_least=1), arguments.text("score", score, empty=True)
    ids, store, resumable = one_prompt(model, prompt).clean[0], store_of(cache), resolve_model(model)
    block = -(-len(ids) // size)
    results = ResultCache(store, model_identity(resumable, store), "model view", VERSION, ids, block)
    maps = results.arrays(["maps"], lambda: {"maps": _maps(model, ids, block)})["maps"]
    absent = {int(layer): reason for layer, reason in without_pattern_scores(model).items()}
    present = [layer for layer in range(model.n_layers) if layer not in absent]
    view = ModelView(
        tuple(Head(layer, index) for layer in present for index in range(model.n_heads)),
        np.ascontiguousarray(maps[present].reshape(-1, *maps.shape[2:])),
        block,
        model.labels(ids),
        full_name(model.provenance.get("name", ""), model.operators),
        tuple(f"Layer {layer} is left out: {absent[layer]}." for layer in selected if layer in absent),
    )
    if heads is not None:
        return view.of(heads, score)
    some = [Head(layer, index) for layer in selected if layer in present for index in range(model.n_heads)]
    if not some:
        raise UsageError(f"There are no patterns to show. {view.notes[0]}")
    return view.of(some)


def _maps(model: Any, ids: Int[Tensor, "pos"], block: int) -> Float[np.ndarray, "layer head row column"]:
    """Of every layer; NaN where patterns are no shares of attention."""

    def of_statistics(statistics: PatternStatistics) -> Tensor:
        assert statistics.largest is not None
        return statistics.largest[0]

    def of_pattern(A: Float[Tensor, "1 head dest src"]) -> Tensor:
        return block_maxima(A[0], block)

    by_layer = of_each_layer(model, ids[None], Requested(largest=block), of_statistics, of_pattern)
    return torch.stack([layer.float().cpu() for layer in by_layer]).numpy()
