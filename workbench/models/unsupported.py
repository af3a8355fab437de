"""Why a Hugging Face model cannot be hooked as a language model, where that is seen without running it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from workbench.errors import UnsupportedModel
from workbench.models.anatomy import Anatomy, find, missing_part
from workbench.models.attention_hook import implementation_of

_SIZES = ("num_hidden_layers", "num_attention_heads", "hidden_size")
_OF_LAYERS = ("num_attention_heads", "num_key_value_heads", "head_dim", "hidden_size")


def require_decoder(hf: Any) -> None:
    """Refuse a model that does not predict the next token.

    Raises:
        UnsupportedModel: an encoder, an encoder–decoder, a model without an unembedding.
    """
    name = type(hf).__name__
    can_generate = getattr(hf, "can_generate", None)
    if getattr(hf.config, "is_encoder_decoder", False):
        kind = "an encoder–decoder"
    elif name in MODEL_FOR_MASKED_LM_MAPPING_NAMES.values() and name not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        kind = "an encoder, which fills in masked tokens"
    elif can_generate is not None and not can_generate() and hf.get_output_embeddings() is None:
        kind = "a model without logits of the next token"
    else:
        return
    raise UnsupportedModel(
        f"{name} is {kind}, and HookedLM takes decoders, which predict the next token. Load a causal language model, "
        "or hook this one with a class of your own (docs/howto/any-model.md)."
    )


def require_sizes(hf: Any, config: Any) -> None:
    """Refuse a configuration that does not give the sizes of the layers, or not the same for all of them.

    Raises:
        UnsupportedModel: either.
    """
    layers = list(config.per_layer_config) if getattr(config, "is_heterogeneous", False) else []
    for size in _OF_LAYERS if layers else ():
        values = [getattr(layer, size, None) for layer in layers]
        if len(set(values)) > 1:
            raise UnsupportedModel(
                f"{_described(hf, config)} has layers of unequal {size} ({', '.join(map(str, values))}). Every layer "
                "has to have the same."
            )
    if missing := [size for size in _SIZES if not getattr(config, size, None)]:
        raise UnsupportedModel(
            f"{_described(hf, config)} has no attention heads, or no known number of them: its configuration gives no "
            f"{missing[0]}."
        )


def require_parts(hf: Any, config: Any, anatomy: Anatomy) -> None:
    """Refuse a model without a list of layers, attention in each of them, and a final norm.

    Raises:
        UnsupportedModel: what is missing.
    """
    name, do = _described(hf, config), "Name it in an entry of workbench.models.anatomy.FAMILIES."
    stack = find(hf, anatomy.layers) if anatomy.layers else None
    if stack is None:
        raise UnsupportedModel(f"No list of {config.num_hidden_layers} layers was found in {name}. {do}")
    layers = list(stack.children())
    named = [bool(anatomy.attention) and find(layer, anatomy.attention) is not None for layer in layers]
    attention = [named[i] or _has_attention(layer) for i, layer in enumerate(layers)]
    if not any(attention):
        raise UnsupportedModel(f"The layers of {name} have no attention, so there are no heads.")
    if not all(attention):
        without = [i for i, has in enumerate(attention) if not has]
        raise UnsupportedModel(
            f"{name} has no attention in {of_layers(without)} (linear attention, a convolution or a state instead), "
            "and every layer has to have it."
        )
    if not all(named):
        raise UnsupportedModel(f"The attention module in layer {named.index(False)} of {name} was not found. {do}")
    if not anatomy.final_norm:
        implementation_of(layers[0].get_submodule(anatomy.attention), "eager")  # a reason that no name mends
        trunk = anatomy.layers.rpartition(".")[0]
        raise UnsupportedModel(
            f"{name} has no norm after its last layer, or one of another name than usual in {trunk!r}. If it has one, "
            "name it in an entry of workbench.models.anatomy.FAMILIES."
        )
    if missing := missing_part(hf, anatomy):
        raise UnsupportedModel(f"{name} has no module {missing[0]!r} for {missing[1]}. {do}")


def of_layers(layers: Sequence[int]) -> str:
    """``layer 3``, or ``layers 0, 1 and 4``."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    return f"layers {', '.join(map(str, layers[:-1]))} and {layers[-1]}"


def _has_attention(layer: nn.Module) -> bool:
    return any("attention" in type(part).__name__.lower() for part in layer.modules())


def _described(hf: Any, config: Any) -> str:
    return f"{type(hf).__name__} (model_type {config.model_type!r})"
