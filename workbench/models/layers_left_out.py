"""A model's own forward with its layers left out: what comes before them and after them stays the model's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from workbench.models.replaced_forwards import replaced_forwards

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
    with replaced_forwards({model.layer(index): lambda *_, **__: output for index in range(model.n_layers)}):
        yield
