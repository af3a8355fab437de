"""q, k and v of every layer while the model runs, so that nothing of a layer is kept but what is computed of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from workbench.attention.statistics import PatternStatistics, Requested, pattern_statistics
from workbench.models.attention_edits import AttentionEdits, AttentionInputs, Tap
from workbench.models.pattern_formula import PatternFormula, formula_of
from workbench.models.precision import at_least_float32

T = TypeVar("T")
#: Called with a layer, its q, k and v ``[batch, head, pos, d_head]``, and how it makes its pattern of q and k; None for
#: the formula where that takes more.
See = Callable[[int, Tensor, Tensor, Tensor, PatternFormula | None], object]


@torch.no_grad()
def each_layer(model: Any, ids: Int[Tensor, "batch pos"], see: See, taps: Mapping[str, Tap] | None = None) -> None:
    """Run the layers once on unpadded inputs and hand each one's q, k and v to `see` from inside its attention.

    Args:
        model: a `HookedLM`.
        taps: hook name → what is called with the activation there besides.
    """
    queries: dict[int, Tensor] = {}
    taps = dict(taps or {})

    def tap_query(layer: int, name: str) -> Tap:
        other = taps.get(name)

        def tap(q: Tensor) -> Tensor | None:
            queries[layer] = q.transpose(1, 2)
            return None if other is None else other(q)

        return tap

    def on_inputs(layer: int) -> Callable[[AttentionInputs], None]:
        def show(inputs: AttentionInputs) -> None:
            formula = formula_of(model.attentions[layer], inputs)
            see(layer, queries.pop(layer), inputs.keys, inputs.values, formula)

        return show

    for layer in range(model.n_layers):
        name = model.hook_name("q", layer)
        taps[name] = tap_query(layer, name)
    edits = {layer: AttentionEdits(on_inputs=on_inputs(layer)) for layer in range(model.n_layers)}
    with model.state_put_back(), model.running(taps, edits):
        model.run_layers(ids.to(model.device))


@torch.no_grad()
def each_pattern(
    model: Any,
    ids: Shaped[Tensor, "batch pos *rest"],
    layers: Sequence[int],
    see: Callable[[int, Float[Tensor, "batch head dest src"]], object],
) -> None:
    """Run the layers once and hand the patterns of some of them, at least in float32, to `see`, one layer at a time. Of
    a layer whose operator has no matrix, or one whose rows are no shares of attention, it is handed NaN: entropies and
    masses of such rows mean nothing."""

    def tap(layer: int) -> Tap:
        def show(A: Tensor) -> None:
            see(layer, at_least_float32(A))

        return show

    nothing = torch.full((1, 1, 1, 1), torch.nan).expand(len(ids), model.n_heads, ids.shape[1], ids.shape[1])
    for layer in layers:
        if not attends_in_shares(model, layer):
            see(layer, nothing)
    layers = [layer for layer in layers if attends_in_shares(model, layer)]
    if layers:
        with model.state_put_back(), model.running({model.hook_name("pattern", layer): tap(layer) for layer in layers}):
            model.run_layers(ids.to(model.device))


def attends_in_shares(model: Any, layer: int) -> bool:
    """Whether the rows of a layer's patterns are shares: not negative, and with a sum of one (less what sinks take)."""
    operator = model.operators.get(layer)
    return operator is None or (operator.has_pattern and bool(operator.declared("row_stochastic")))


def attends_causally(model: Any, layer: int) -> bool:
    """Whether no position of a layer attends to a later one."""
    operator = model.operators.get(layer)
    return model.causal and (operator is None or operator.keeps_causality)


def without_pattern_scores(model: Any) -> dict[str, str]:
    """Layer → why its heads have no pattern scores, of the layers whose scores are NaN (JSON-able)."""
    layers = [layer for layer in range(model.n_layers) if not attends_in_shares(model, layer)]
    why = {True: "the rows of its matrix are no shares of attention", False: "it has no matrix of each head"}
    return {str(i): f"{model.operators[i]}: {why[model.operators[i].has_pattern]}" for i in layers}


def of_each_layer(
    model: Any,
    ids: Int[Tensor, "batch pos"],
    requested: Requested,
    of_statistics: Callable[[PatternStatistics], T],
    of_pattern: Callable[[Float[Tensor, "batch head dest src"]], T],
) -> list[T]:
    """Something of every layer, by layer: of the statistics of its patterns or, where a pattern is no softmax of q and
    k, of the patterns themselves, which are made in another run."""
    results: dict[int, T] = {}
    without_formula: list[int] = []

    def see(layer: int, q: Tensor, k: Tensor, _: Tensor, formula: PatternFormula | None) -> None:
        if formula is None or formula.operator is not None:
            without_formula.append(layer)
        else:
            results[layer] = of_statistics(pattern_statistics(q, k, formula, requested))

    def see_pattern(layer: int, A: Tensor) -> None:
        results[layer] = of_pattern(A)

    each_layer(model, ids, see)
    each_pattern(model, ids, without_formula, see_pattern)
    return [results[layer] for layer in range(model.n_layers)]
