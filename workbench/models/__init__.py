"""Models: `load` returns any catalogue name, hub id, directory or GGUF file as a `HookedModel` of its modality."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.models.language import HookedLM


def load(
    name: str = "smollm2-135m-instruct-q4",
    device: Any = None,
    dtype: Any = None,
    *,
    accept_licence: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> HookedLM:
    """Load a model with hooks. It has what makes its inputs with it: a language model its tokeniser.

    Args:
        name: a name of the catalogue (``workbench models list``), a hub id, a directory, or a ``.gguf`` file.
        device: where to put it; None takes the GPU where CUDA finds one, else the CPU.
        dtype: float32 by default.
        accept_licence: the name of a licence you accept, for models that require it.
        progress: called with (done, total, what) while fetching.

    Raises:
        UnknownName: no such model; the nearest names are suggested.
        NotAvailable: it cannot be reached, or its licence was not accepted; the message says what would make it work.
        UntrustedModel: its files are altered, truncated, or would run code.
        UnsupportedModel: it failed the load-time self-check.

    Examples:
        >>> model = wb.load("tiny")
        >>> model.n_layers, model.n_heads, model.n_kv_heads
        (2, 8, 4)
    """
    from workbench.models.catalog import MODALITIES, modality_of
    from workbench.models.sources import resolve

    loaded = resolve(name, device=device, dtype=dtype, accept_licence=accept_licence, progress=progress)
    module, hooked = MODALITIES[modality_of(str(name))]
    return getattr(import_module(module), hooked)(loaded.hf_model, loaded.processor, loaded.provenance)
