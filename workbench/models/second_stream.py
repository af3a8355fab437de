"""Queries and keys of another stream than a layer's own, for operators that take their pattern from there.

Of a fixed input (random embeddings, or a text) they are computed once, by the same layers, and are the operator's data.
Of the input's own token embeddings they are computed in every run: the layer is called on what entered the first layer,
as far as its attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench.attention.layer import OperatorModule
from workbench.attention.operator import BoundOperator
from workbench.errors import UsageError
from workbench.models.attention_edits import expanded
from workbench.models.layer_arguments import without_caches
from workbench.models.layer_run import run_of
from workbench.models.resumable import StopForward
from workbench.models.swapped_attention import SwappedOperator

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel


class FixedStream(OperatorModule):
    """Queries and keys of a fixed input, ``[head, length, d_head]``."""

    q: Tensor
    k: Tensor

    def __init__(self, q: Float[Tensor, "head length d_head"], k: Float[Tensor, "head length d_head"]) -> None:
        super().__init__()
        self.register_buffer("q", q)
        self.register_buffer("k", k)

    def data(self) -> dict[str, Tensor]:
        return {"q": self.q, "k": self.k}


@torch.no_grad()
def fixed_stream(
    model: HookedModel, layers: Sequence[int], operator: BoundOperator, ids: Int[Tensor, "pos"] | None
) -> dict[int, FixedStream]:
    """Queries and keys of each layer for a fixed input: `ids`, or without them random embeddings (normal, with the
    standard deviation of those of as many random tokens, from the operator's seed)."""
    length = int(operator.settings["length"])
    longest = getattr(model.config, "max_position_embeddings", None) or length
    length = min(length, longest) if ids is None else min(length, len(ids))
    generator = torch.Generator().manual_seed(int(operator.settings["seed"]))
    random = torch.randint(0, model.n_outputs, (1, length), generator=generator)
    tokens = random if ids is None else ids[None, :length]
    captured: dict[tuple[int, str], Tensor] = {}
    taps: dict[str, Any] = {}
    for layer in layers:
        for site in ("q", "k"):
            taps[model.hook_name(site, layer)] = lambda x, key=(layer, site): captured.__setitem__(key, x[0].clone())
    if ids is None:
        taps["hook_embed"] = lambda x: (torch.randn(x.shape, generator=generator) * float(x.float().std())).to(x)
    with model.lock, model.state_put_back(), model.running(taps):
        model.run_layers(tokens.to(model.device))

    def heads_first(x: Tensor) -> Tensor:
        return expanded(x.transpose(0, 1)[None], model.n_heads)[0]

    return {i: FixedStream(heads_first(captured[i, "q"]), heads_first(captured[i, "k"])) for i in layers}


class EmbeddingReader(OperatorModule):
    """Queries and keys of the input's token embeddings, noted before the layer runs."""

    def note(self, q: Tensor, k: Tensor) -> None:
        """Queries and keys, ``[batch, head, pos, d]``."""
        run_of(self).read = q.transpose(1, 2), k.transpose(1, 2)

    def gates(self, x: Tensor, project: Any) -> dict[str, Tensor]:
        run = run_of(self)
        if run.read is None:
            raise UsageError("fixed-qk(form='static') reads token embeddings: its layer does not run alone.")
        (q, k), run.read = run.read, None
        return {"q": q, "k": k}


def read_embeddings(first_layer: nn.Module, layer: nn.Module, swapped: SwappedOperator) -> None:
    """Have a layer's operator read the stream that enters the first layer, in every run."""
    if not any(hook is _note_entering for hook in first_layer._forward_pre_hooks.values()):
        first_layer.register_forward_pre_hook(_note_entering, with_kwargs=True)
    # No children: they are in the tree already.
    layer.__dict__["workbench_embeddings"] = (first_layer, swapped)
    layer.register_forward_pre_hook(_note_queries_and_keys, with_kwargs=True)


def _note_entering(first_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    run_of(first_layer).entering = args[0] if args else kwargs["hidden_states"]


def _note_queries_and_keys(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    first_layer, swapped = layer.__dict__["workbench_embeddings"]
    reader, entered, run = swapped.own, run_of(first_layer).entering, run_of(swapped)
    replaced = all(module is not swapped for module in layer.modules())
    if replaced or run.reading is not None or entered is None:  # the call below
        return
    others, named = without_caches(args[1:]), without_caches(kwargs)
    named.pop("hidden_states", None)
    run.reading = reader.note
    try:
        with suppress(StopForward):  # the forward itself: hooks on the layer are for the stream that it gets
            layer.forward(entered, *others, **named)
    finally:
        run.reading = None
