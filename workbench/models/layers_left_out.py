"""A model's own forward with its layers left out: what comes before them and after them stays the model's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel


@contextmanager
def layers_left_out(
    model: HookedModel, stream: Float[Tensor, "row pos d_model"], rest: tuple[Any, ...] | None = None
) -> Iterator[None]:
    """While it lasts, every layer hands on `stream` instead of what it would compute; the caller holds the lock.

    Args:
        rest: what a layer returns after the stream, None where it returns the stream alone.
    """
    output = stream if rest is None else (stream, *rest)
    layers = [model.layer(index) for index in range(model.n_layers)]
    own = [layer.__dict__.get("forward") for layer in layers]  # some libraries have replaced it already
    try:
        for layer in layers:
            layer.forward = lambda *_, **__: output
        yield
    finally:
        for layer, forward in zip(layers, own, strict=True):
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward
