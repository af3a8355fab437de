"""Models that were trained with other attention operators: their files say which, and hold what the operators learned.

``config.json`` has ``"workbench_operators": {"0": "reversed(temperature=1.0)", ...}``, by layer. The weights of an
operator stand beside its layer's own, under ``workbench_operator``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from workbench.attention.describe import required_arguments
from workbench.attention.operator import operator
from workbench.cache import Store
from workbench.errors import UnsupportedModel, UntrustedModel, UsageError
from workbench.models.hooked import HookedModel
from workbench.models.operator_check import check_operators
from workbench.models.swap import install, written
from workbench.models.swapped_attention import CHILD, Context, SwappedOperator

Model = TypeVar("Model", bound=HookedModel)
#: The key of the configuration.
KEY = "workbench_operators"


def note_operators(hf: nn.Module) -> None:
    """Have a model's configuration say which operators are in its layers, for saving it."""
    children = [module for module in hf.modules() if isinstance(module, SwappedOperator)]
    hf_config: Any = hf.config
    setattr(hf_config, KEY, written({child.shape.layer: child.operator for child in children}))


def with_saved_operators(model: Model, tensors: Mapping[str, Tensor], store: Store | None) -> Model:
    """A model just loaded, with the operators that its configuration names and their weights; itself where it names
    none. The operators are checked with these weights.

    Raises:
        UntrustedModel: the configuration names an operator that does not exist, or the weights are those of others.
        UnsupportedModel: an operator that needs more than its settings, or that does not compute what it says.
    """
    saved = getattr(model.hf.config, KEY, None)
    if saved is None and not tensors:
        return model
    try:
        operators = {int(layer): operator(text) for layer, text in dict(saved or {}).items()}
    except (UsageError, TypeError, ValueError, AttributeError) as error:
        raise UntrustedModel(f"config.json: {KEY} is not layers → operators: {error}") from error
    if not set(operators) <= set(range(model.n_layers)):
        raise UntrustedModel(f"config.json: {KEY} names layer {max(operators)}, and the model has {model.n_layers}.")
    for layer, bound in operators.items():
        if bound.operator.role not in ("mixer", "gate") or required_arguments(bound):
            raise UnsupportedModel(f"config.json: {KEY} has {bound} in layer {layer}, which no model is saved with.")
    swapped = install(model, model.hf, {layer: (bound, Context()) for layer, bound in operators.items()})
    swapped.identity.take_over(model.identity)
    saved_weights = _by_layer(tensors)
    own = _by_layer({name: x for name, x in swapped.hf.state_dict().items() if f".{CHILD}." in name})
    wrong = sorted(
        f"{name} of layer {layer}"
        for layer, name in own.keys() | saved_weights.keys()
        if getattr(own.get((layer, name)), "shape", None) != getattr(saved_weights.get((layer, name)), "shape", None)
    )
    if wrong:
        raise UntrustedModel(
            f"The weights of operators are not those that config.json names: {len(wrong)} are missing, unknown or of "
            f"another shape, such as {wrong[0]}."
        )
    with torch.no_grad():
        for name, x in own.items():
            x.copy_(saved_weights[name])
    check_operators(swapped, store)
    return swapped


def _by_layer(tensors: Mapping[str, Tensor]) -> dict[tuple[int, str], Tensor]:
    """The weights of operators by layer and by name: transformers renames what is around them in files."""
    result = {}
    for name, x in tensors.items():
        place, _, own = name.partition(f".{CHILD}.")
        numbers = [part for part in place.split(".") if part.isdecimal()]
        result[int(numbers[-1]) if numbers else -1, own] = x
    return result
