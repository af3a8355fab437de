"""One attention function for every architecture: where q, k, v, the pattern and z are read and written.

Hugging Face looks its attention up by name in ``AttentionInterface`` and calls
``f(module, query, key, value, attention_mask, **kwargs) -> (z [batch, pos, head, d_head], weights | None)``.
While a model runs with hooks, that lookup finds `hooked_attention` around the implementation that it names; the name in
the configuration stays, since model files branch on it. A layer without edits calls the implementation itself, so its
numbers stay Hugging Face's own; only a layer whose pattern is edited, or one that resumes from a prefix, is computed by
`explicit_attention` or `prefix_attention`, and one with another operator by `swapped_attention`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from workbench.errors import UnsupportedModel
from workbench.models import prefix_attention
from workbench.models.attention_edits import AttentionEdits, AttentionInputs, expanded, tapped_heads, tapped_site
from workbench.models.explicit_attention import ExplicitAttention, is_causal
from workbench.models.kernel_notes import OWN, note_kernel
from workbench.models.swapped_attention import operator_of, swapped_attention

#: Hugging Face's signature: ``f(module, query, key, value, attention_mask, **kwargs) -> (z, weights | None)``.
Implementation = Callable[..., tuple[Tensor, Tensor | None]]

#: Attention layers of hooked models → what they do differently now.
_LAYERS: WeakKeyDictionary[nn.Module, AttentionEdits | None] = WeakKeyDictionary()
_LOOKUP = threading.Lock()


@dataclass
class _Answered:
    """An implementation whose lookup is answered by `hooked_attention`: for how many runs, what it is, and the entries
    in the tables before."""

    runs: int
    implementation: Implementation | None
    entries: list[Any]


_ANSWERED: dict[str | None, _Answered] = {}


@contextmanager
def answered(names: Collection[str | None]) -> Iterator[None]:
    """While it lasts, whoever looks up one of these implementations in transformers finds `hooked_attention` around it.
    Modules that are no layers of a hooked model get the implementation itself."""
    functions = _tables()
    with _LOOKUP:
        for name in names:
            if name not in _ANSWERED:
                _ANSWERED[name] = _Answered(0, ALL_ATTENTION_FUNCTIONS.get(name), [f.get(name) for f in functions])
                for table in functions:
                    table[name] = _around(name)
            _ANSWERED[name].runs += 1
    try:
        yield
    finally:
        with _LOOKUP:
            for name in names:
                _ANSWERED[name].runs -= 1
                if not _ANSWERED[name].runs:
                    for table, before in zip(functions, _ANSWERED.pop(name).entries, strict=True):
                        if before is None:
                            del table[name]
                        else:
                            table[name] = before


def _tables() -> tuple[dict[Any, Any], dict[Any, Any]]:
    """What transformers looks implementations up in: what every model file sees, and what goes before it in the
    instance that all but a few of them share."""
    shared: Any = ALL_ATTENTION_FUNCTIONS
    return type(shared)._global_mapping, shared._local_mapping


def _around(name: str | None) -> Implementation:
    def attention(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        implementation = implementation_of(module, name)
        if module not in _LAYERS and operator_of(module) is None:
            return implementation(module, *args, **kwargs)
        return hooked_attention(implementation, module, *args, **kwargs)

    return attention


def implementation_of(module: nn.Module, name: str | None) -> Implementation:
    """The attention function of that name; the family's own one for ``eager``.

    Raises:
        UnsupportedModel: the module's file has none.
    """
    registered = _ANSWERED[name].implementation if name in _ANSWERED else ALL_ATTENTION_FUNCTIONS.get(name)
    implementation = registered or getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if implementation is None:
        raise UnsupportedModel(
            f"{type(module).__name__} computes its attention itself instead of calling Hugging Face's "
            "AttentionInterface, so its heads cannot be reached."
        )
    return implementation


def implementations(modules: Iterable[nn.Module], names: Collection[str | None]) -> list[Implementation]:
    """The functions that these layers find under these names, each once."""
    return list(dict.fromkeys(implementation_of(module, name) for module in modules for name in sorted(names, key=str)))


def set_edits(module: nn.Module, edits: AttentionEdits | None) -> None:
    """What one attention layer does from now on; None for what its model does."""
    _LAYERS[module] = edits


def hooked_attention(
    implementation: Implementation,
    module: nn.Module,
    query: Float[Tensor, "batch head dest d_head"],
    key: Float[Tensor, "batch kv_head src d_head"],
    value: Float[Tensor, "batch kv_head src d_value"],
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "batch dest head d_value"], Tensor | None]:
    """The function Hugging Face calls: edits and records around the implementation the model came with."""
    edits, operator = _LAYERS.get(module), operator_of(module)
    if operator is not None:
        return swapped_attention(operator, module, edits or AttentionEdits(), query, key, value, attention_mask, kwargs)
    if edits is None:
        note_kernel(module, OWN, "nothing is hooked")
        return implementation(module, query, key, value, attention_mask, **kwargs)
    n_heads, prefix = query.shape[1], edits.prefix
    query = tapped_heads(edits, "q", query)
    key = tapped_heads(edits, "k", expanded(key, n_heads, "k" in edits.expand))
    value = tapped_heads(edits, "v", expanded(value, n_heads, "v" in edits.expand))
    if edits.on_inputs is not None:
        edits.on_inputs(AttentionInputs(key, value, attention_mask, kwargs))
    if prefix is not None and prefix.own_keys is not None and prefix.own_values is not None:
        key, value = torch.cat([prefix.own_keys, key], 2), torch.cat([prefix.own_values, value], 2)
    weights: list[Tensor | None] = [None]

    def explicit() -> ExplicitAttention:
        return ExplicitAttention(module, edits, query, key, value, attention_mask, kwargs)

    def kernel() -> Tensor:
        """z where the pattern is not edited, as fast as it can be had."""
        if prefix is not None and prefix_attention.is_plain(prefix, query, key, value, kwargs):
            note_kernel(module, "prefix", "the run resumes from earlier keys and values")
            return prefix_attention.attention(query, key, value, prefix, kwargs["scaling"], is_causal(module, kwargs))
        if prefix is not None or edits.expand:
            why = "the layer resumes, with a mask or a cap" if prefix is not None else "heads have keys or values apart"
            note_kernel(module, "explicit", why)
            return explicit().z()
        note_kernel(module, OWN, "the pattern is only read" if edits.on_pattern else "no pattern is hooked")
        z, weights[0] = implementation(module, query, key, value, attention_mask, **kwargs)
        return z

    if edits.frozen is not None:
        note_kernel(module, "none", "z is frozen")
        return tapped_site(edits, "z", edits.frozen), None
    if edits.on_pattern:
        z = (form := explicit()).edited(kernel)
        if form.changed:
            note_kernel(module, "explicit", f"the pattern of {form.changed} is edited")
    else:
        z = kernel()
    return tapped_site(edits, "z", z), weights[0]
