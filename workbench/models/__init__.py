"""Models: `load` returns any catalogue name, hub id, directory or GGUF file as a `HookedModel` of its modality."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from workbench import arguments
from workbench.errors import UsageError

if TYPE_CHECKING:
    from workbench.attention.operator import BoundOperator, Operator
    from workbench.models.language import HookedLM


def load(
    name: str = "smollm2-135m-instruct-q4",
    device: Any = None,
    dtype: Any = None,
    *,
    operators: Mapping[Any, str | Operator | BoundOperator] | None = None,
    bidirectional: bool = False,
    accept_licence: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> HookedLM:
    """Load a model with hooks. It has what makes its inputs with it: a language model its tokeniser, a vision model its
    image processor.

    Args:
        name: a name of the catalogue (``workbench models list``), a hub id, a directory, or a ``.gguf`` file.
        device: where to put it; None takes the GPU where CUDA finds one, else the CPU.
        dtype: float32 by default.
        operators: layers → attention operator, as `wb.swap` takes them: ``{"10-19": "lightning"}``. For those that
            need a grid, data or a text: `wb.swap`.
        bidirectional: allow operators that let a causal model's positions see later ones.
        accept_licence: the name of a licence you accept, for models that require it.
        progress: called with (done, total, what) while fetching, and at each step of loading (with a total of 0).

    Raises:
        UnknownName: no such model or operator; the nearest names are suggested.
        UsageError: operators that `wb.swap` refuses.
        NotAvailable: it cannot be reached, or its licence was not accepted; the message says what would make it work.
        UntrustedModel: its files are altered, truncated, or would run code.
        UnsupportedModel: it failed the load-time self-check.

    Examples:
        >>> model = wb.load("tiny")
        >>> model.n_layers, model.n_heads, model.n_kv_heads
        (2, 8, 4)
        >>> {layer: str(operator) for layer, operator in wb.load("tiny", operators={1: "lightning"}).operators.items()}
        {1: 'lightning'}
    """
    arguments.function("progress", progress)
    tell: Callable[[int, int, str], None] = progress or (lambda *_: None)
    tell(0, 0, "importing torch and transformers")
    from workbench.cache import store_of
    from workbench.models.catalog import MODALITIES
    from workbench.models.sources import resolve
    from workbench.models.verdict import check_once

    arguments.flag("bidirectional", bidirectional)
    if operators is not None:  # names and settings, before anything is fetched
        from workbench.attention.describe import required_arguments
        from workbench.models.swap import bound_operators

        operators = bound_operators("operators", operators)
        for layers, bound in operators.items():
            if required := required_arguments(bound):
                needs = " and ".join(f"{name}=" for name in required)
                raise UsageError(f"operators[{layers!r}]={bound}: it needs {needs}. Load the model, and use wb.swap.")
    loaded = resolve(name, device=device, dtype=dtype, accept_licence=accept_licence, progress=progress)
    module, hooked = MODALITIES[loaded.modality]
    model = getattr(import_module(module), hooked)(loaded.hf_model, loaded.processor, loaded.provenance, check=False)
    tell(0, 0, "proving hooks and resumed runs")
    model.check_with(partial(check_once, store=store_of(None)))
    if loaded.operator_tensors or hasattr(loaded.hf_model.config, "workbench_operators"):
        from workbench.models.saved_operators import with_saved_operators

        model = with_saved_operators(model, loaded.operator_tensors, store_of(None))
    if operators is None:
        return model
    from workbench.models.swap import swap

    return swap(model, operators, bidirectional=bidirectional)
