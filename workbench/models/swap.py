"""`swap`: a model of the same kind, with the same weights, whose layers use other attention operators."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from workbench import arguments
from workbench.attention.layer import LayerShape, OperatorModule
from workbench.attention.operator import BoundOperator, Operator, operator
from workbench.cache import store_of
from workbench.errors import UsageError
from workbench.models.hooked import HookedModel
from workbench.models.operator_check import check_operators
from workbench.models.second_stream import EmbeddingReader, fixed_stream, read_embeddings
from workbench.models.swapped_attention import Context, SwappedOperator, operator_of
from workbench.models.swapped_modules import put_in, swapped_operators
from workbench.models.verdict import adopt

Model = TypeVar("Model", bound=HookedModel)


def swap(
    model: Model,
    operators: Mapping[Any, str | Operator | BoundOperator],
    *,
    bidirectional: bool = False,
    grid: Sequence[int] = (),
    before: int = 0,
    data: Mapping[str, Tensor] | None = None,
    text: Any = None,
    cache: Any = None,
) -> Model:
    """The model with other attention operators in some layers. Weights are shared, and `model` is left as it is.

    Operators on q, k and v go in where the layer calls its attention function. Softmax forms keep the family's mask,
    caps and sinks; the others keep rotation and padding, and a warning says what they drop. What an operator has of its
    own (``workbench operators NAME`` says what a swap makes up) is registered on the attention module: its parameters
    are the model's. Hooks, recording, sweeps, path patching, scores, generation and the cache work as before; layers
    whose operator has no matrix have no ``hook_pattern``.

    Args:
        model: any hooked model.
        operators: layers → operator. Layers are a number, a range or list of numbers, or a text such as ``"10-19"``
            or ``"all"``; an operator is a name with settings (``"sliding-window(window=32)"``), or an `Operator`.
        bidirectional: allow operators that let a causal model's positions see later ones.
        grid, before: sizes of the axes on which the positions lie, and how many positions are ahead of the grid (a
            class token), for operators on grids.
        data: by name, data that an operator needs (``layout-mask``).
        text: the fixed input of ``fixed-qk(form='sequence')``, a text or token ids.
        cache: where the check's verdict is kept (see `wb.record`).

    Raises:
        UnknownName: no such operator or setting.
        UsageError: a layer that does not exist, an operator that cannot be swapped in, or a grid that it needs.
        UnsupportedModel: the operator does not compute in this model what it says it does.

    Examples:
        >>> model = wb.load("tiny")
        >>> swapped = wb.swap(model, {0: "sliding-window(window=4)"})
        >>> {layer: str(operator) for layer, operator in swapped.operators.items()}
        {0: 'sliding-window(window=4)'}
    """
    arguments.instance("model", model, HookedModel, "a hooked model")
    chosen = operators_by_layer("operators", operators, model.n_layers)
    sizes = arguments.sequence("grid", grid, "the sizes of the grid's axes")
    context = Context(
        tuple(arguments.whole_number("grid", size, at_least=1) for size in sizes),
        arguments.whole_number("before", before, at_least=0),
        {} if data is None else _tensors(data),
        None if text is None else _ids(model, text),
    )
    bidirectional = arguments.flag("bidirectional", bidirectional)
    for layer, bound in chosen.items():
        _require_swappable(model, layer, bound, bidirectional, context)
    root = getattr(model, "peft", None) or model.hf
    shared: dict[int, Any] = {id(x): x for x in (*root.parameters(), *root.buffers())}
    with model.lock:
        hf = copy.deepcopy(root, shared)
    swapped = install(model, hf, {layer: (bound, context) for layer, bound in chosen.items()})
    swapped.identity.take_over(model.identity)
    check_operators(swapped, store_of(cache))
    return swapped


def install(model: Model, hf: nn.Module, operators: Mapping[int, tuple[BoundOperator, Context]]) -> Model:
    """A module with the same parts as the model's, with operators in some layers, as a model of the same class."""
    attentions = _attentions(model, hf)
    streams = [layer for layer, (bound, _) in operators.items() if "second stream" in bound.declared("needs")]
    for layer, (bound, context) in operators.items():
        if layer not in streams:
            put_in(attentions[layer], _swapped_operator(model, layer, bound, context))
    if streams:  # the fixed input goes through the same layers, which attend to it by softmax here
        unfinished = _hooked(model, hf)
        for bound, context in {operators[layer][0]: operators[layer] for layer in streams}.values():
            layers = [layer for layer in streams if operators[layer][0] == bound]
            for layer, own in fixed_stream(unfinished, layers, bound, context.text).items():
                put_in(attentions[layer], _swapped_operator(model, layer, bound, context, own))
    swapped = _hooked(model, hf)
    for layer, (bound, _) in operators.items():
        child = operator_of(swapped.attentions[layer])
        if child is not None and "token embeddings" in bound.declared("needs"):
            read_embeddings(swapped.layer(0), swapped.layer(layer), child)
    return swapped


def operators_of(model: HookedModel) -> dict[int, tuple[BoundOperator, Context]]:
    """The operators of a model as `install` takes them."""
    children = {layer: operator_of(attention) for layer, attention in enumerate(model.attentions)}
    return {layer: (child.operator, child.context) for layer, child in children.items() if child is not None}


def _hooked(model: Model, hf: nn.Module) -> Model:
    """A copy of the model's module as a model of the same class, not checked again."""
    provenance = {**model.provenance, "operators": written(swapped_operators(_attentions(model, hf)))}
    try:
        copied = type(model)(hf, model.processor, provenance, check=False)
    except TypeError as error:
        raise UsageError(
            f"{type(model).__name__} is not made by (hf, processor, provenance, check=...), as every hooked model is: "
            f"{error}."
        ) from error
    adopt(copied, model)
    copied.proofs.of = None
    return copied


def _swapped_operator(
    model: HookedModel, layer: int, bound: BoundOperator, context: Context, own: OperatorModule | None = None
) -> SwappedOperator:
    """What goes into one layer of a model for an operator, with what it has of its own there."""
    sizes = (model.n_heads, model.n_kv_heads, model.d_head, model.d_head, model.d_model)
    shape = LayerShape(layer, model.n_layers, *sizes)
    if own is None and bound.operator.module is not None:
        own = bound.operator.module(shape, bound.settings)
    if own is None and "token embeddings" in bound.declared("needs"):
        own = EmbeddingReader()
    swapped = SwappedOperator(bound, shape, model.anatomy, context, own).to(model.device, model.dtype)
    swapped.requires_grad_(any(x.requires_grad for x in model.hf.parameters()))  # frozen where the model is
    return swapped.train(model.hf.training)


def operators_by_layer(name: str, operators: Any, n_layers: int) -> dict[int, BoundOperator]:
    """Layer → operator, of ``{4: "uniform", "10-19": "lightning", range(2): …}``.

    Raises:
        UnknownName: no such operator or setting.
        UsageError: a layer that does not exist, or that is named twice.
    """
    do = f"Give a mapping such as {{{n_layers - 1}: 'sliding-window(window=32)'}} as {name}."
    result: dict[int, BoundOperator] = {}
    for layers, bound in bound_operators(name, operators, do).items():
        for layer in layers_of(name, layers, n_layers):
            if layer in result:
                raise UsageError(f"{name}: layer {layer} is given two operators. Give it one.")
            result[layer] = bound
    if not result:
        raise arguments.refusal(name, operators, "at least one layer", do)
    return dict(sorted(result.items()))


def _tensors(data: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for name, value in arguments.mapping("data", data, "names → tensors").items():
        if not isinstance(name, str):
            raise arguments.refusal("data", data, "names → tensors")
        arguments.instance(f"data[{name!r:.40}]", value, Tensor, "a tensor")
    return data


def _ids(model: HookedModel, text: str | Tensor) -> Tensor:
    if isinstance(text, Tensor):
        return text
    return cast(Any, model).to_tokens(arguments.text("text", text, "a text, or a tensor of token ids"))[0].cpu()


def bound_operators(name: str, operators: Any, do: str = "") -> dict[Any, BoundOperator]:
    """The mapping with its operators looked up and their settings checked, the layers as they are.

    Raises:
        UnknownName: no such operator or setting.
        UsageError: something that is no operator, or a setting that is not possible.
    """
    result = {}
    for layers, value in arguments.mapping(name, operators, "layers → operator", do=do).items():
        if not isinstance(value, str | Operator | BoundOperator):
            raise arguments.refusal(f"{name}[{layers!r:.40}]", value, "an operator, or its name with settings")
        result[layers] = operator(value)
    return result


def layers_of(name: str, layers: Any, n_layers: int) -> tuple[int, ...]:
    """The layers of a number, a range or list of numbers, or a text: ``"4"``, ``"10-19"``, ``"1,3,5"``, ``"all"``."""
    if not isinstance(layers, str):
        return arguments.indices(name, layers, n_layers, "layer")
    if layers.strip() == "all":
        return tuple(range(n_layers))
    numbers: list[int] = []
    expected = f"layers such as '{n_layers - 1}', '0-{n_layers - 1}' or 'all'"
    for part in layers.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if match is None:
            raise arguments.refusal(name, layers, expected)
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last >= n_layers:
            why = f"there are {n_layers} layers, from 0 to {n_layers - 1}"
            raise arguments.refusal(name, layers, expected, because=why)
        numbers += range(first, last + 1)
    return arguments.indices(name, numbers, n_layers, "layer")


def written(operators: Mapping[int, BoundOperator]) -> dict[str, str]:
    """Operators as a user types them, by layer (JSON-able)."""
    return {str(layer): str(bound) for layer, bound in operators.items()}


def _require_swappable(
    model: HookedModel, layer: int, bound: BoundOperator, bidirectional: bool, context: Context
) -> None:
    role, needs = bound.operator.role, bound.declared("needs")
    if role not in ("mixer", "gate"):
        reason = "it has two streams" if role == "pair" else "it is a function of what attention gives"
        raise UsageError(f"{bound} cannot replace attention: {reason}. Swap in a mixer (see workbench operators).")
    if bound.causal == "no" and model.causal and not bidirectional:
        raise UsageError(
            f"{bound} lets positions see later ones, and {type(model.hf).__name__} is causal. To do it all the same: "
            "bidirectional=True."
        )
    if "grid" in needs and not context.grid:
        raise UsageError(f"{bound} in layer {layer} needs the grid of the positions. Give grid=(rows, columns).")
    if "data" in needs and bound.operator.module is None and not context.data:
        names = ", ".join(bound.operator.trial(1, bound.check_length).get("data", {}))
        raise UsageError(f"{bound} in layer {layer} needs data. Give data= with {names}.")
    if "second stream" in needs and not model.anatomy.embed:
        raise UsageError(f"{bound} needs a model with embeddings of tokens.")
    if bound.settings.get("form") == "sequence" and "second stream" in needs and context.text is None:
        raise UsageError(f"{bound} needs its fixed text. Give text=, a text or token ids.")


def _attentions(model: HookedModel, hf: nn.Module) -> list[nn.Module]:
    """The attention modules of a copy of the model's module."""
    root = getattr(model, "peft", None) or model.hf
    if type(hf) is not type(root):  # the same configuration without adapters
        root = model.hf
    names = {module: name for name, module in root.named_modules()}
    return [hf.get_submodule(names[attention]) for attention in model.attentions]
