"""`attention_at` and `attention_between`: the attention of one position, or of a pair of positions, in every head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench import arguments
from workbench.cache import store_of
from workbench.core import full_name
from workbench.models.attention_edits import AttentionEdits, AttentionInputs, PartialTap, Tap
from workbench.models.in_forward import attends_causally, attends_in_shares
from workbench.models.pattern_formula import PatternFormula, formula_of
from workbench.models.precision import at_least_float32
from workbench.patching.attention_view import one_prompt, pieces_of, words_of
from workbench.patching.cached_recording import CachedRecording
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import model_identity, require_language, resolve_model

if TYPE_CHECKING:
    from workbench.plotting.position_attention import AttentionBetween, PositionAttention


def attention_at(
    model: Any, prompt: Any, position: int = -1, role: str = "destination", *, cache: Any = None
) -> PositionAttention:
    """What a position attends to, or who attends to it, in every head: ``weights[layer, head, pos]``.

    ``role="destination"``: row `position` of each pattern, ``A[layer, head, position, :]``. ``role="source"``: its
    column, ``A[layer, head, :, position]``. NaN in layers whose operator has no matrix, or one whose rows are no shares
    of attention; exactly 0 where a layer's mask hides the source (`PositionAttention.masked`), as in the pattern.
    Patterns as a whole are not kept, and of a row they are not made.

    Args:
        model: a `HookedLM`.
        prompt: a text, or its token ids.
        position: of the prompt; negative ones count from the end.
        role: ``destination`` or ``source``.
        cache: as in `workbench.record`.

    Raises:
        UsageError: no such position or role, a text that has no tokens, or ids that the model cannot read.

    Examples:
        >>> at = wb.attention_at(wb.load("tiny"), "Then, Mary and John", position=2, role="source")
        >>> at.weights.shape  # [layer, head, dest]
        (2, 8, 5)
        >>> at.table(k=1).columns.tolist()
        ['destination', 'token', 'mean', 'maximum', 'head']
    """
    from workbench.plotting.attention_view import ROLES, at_position
    from workbench.plotting.position_attention import PositionAttention

    require_language(model, "wb.attention_at shows tokens")
    arguments.one_of("role", role, ROLES)
    task = one_prompt(model, prompt)
    words = words_of(model, task.clean[0])
    at = at_position("position", position, words)
    weights, masked = position_weights(model, task.clean[0], at, role, cache)
    name = full_name(model.provenance.get("name", ""), model.operators)
    return PositionAttention(words, weights, at, role, name, pieces_of(model, task.clean[0]), masked)


def attention_between(model: Any, prompt: Any, dest: int, src: int, *, cache: Any = None) -> AttentionBetween:
    """The attention that one position pays to another in every head.

    ``values[layer, head] = A[layer, head, dest, src]``; NaN in layers whose operator has no matrix, or one whose rows
    are no shares of attention. Where a layer's mask hides the source (a later position, or one before the window) it is
    exactly 0, as in the pattern: `AttentionBetween.masked` names these layers, and the table leaves them out.

    Args:
        model: a `HookedLM`.
        prompt: a text, or its token ids.
        dest, src: the position that attends, and the one that is attended to; negative ones count from the end.
        cache: as in `workbench.record`.

    Raises:
        UsageError: no such position, a text that has no tokens, or ids that the model cannot read.

    Examples:
        >>> pair = wb.attention_between(wb.load("tiny"), "Then, Mary and John", dest=-1, src=2)
        >>> pair.values.shape, pair.table(k=2).columns.tolist()
        ((2, 8), ['head', 'weight'])
    """
    from workbench.plotting.attention_view import at_position
    from workbench.plotting.position_attention import AttentionBetween

    require_language(model, "wb.attention_between shows tokens")
    task = one_prompt(model, prompt)
    words = words_of(model, task.clean[0])
    to, of = at_position("dest", dest, words), at_position("src", src, words)
    weights, masked = position_weights(model, task.clean[0], to, "destination", cache)
    name = full_name(model.provenance.get("name", ""), model.operators)
    uniform = uniform_weight(to, of, len(words), model.causal)
    return AttentionBetween(words, weights[:, :, of], to, of, name, uniform, masked[:, of])


def uniform_weight(dest: int, src: int, length: int, causal: bool) -> float:
    """The weight from `dest` to `src` in a head that attends to all positions alike; of a causal model to all up to its
    own, without a window."""
    if not causal:
        return 1 / length
    return 1 / (dest + 1) if src <= dest else 0.0


@torch.no_grad()
def position_weights(
    model: Any, ids: Int[Tensor, "pos"], position: int, role: str, cache: Any = None
) -> tuple[Float[np.ndarray, "layer head pos"], Bool[np.ndarray, "layer pos"]]:
    """A row or a column of every head's pattern, NaN in layers without shares of attention; and what the masks hide."""
    resumable, store = resolve_model(model), store_of(cache)
    identity = None if store is None else model_identity(resumable, store)
    hooks = pattern_hooks(model)
    weights = torch.full((model.n_layers, model.n_heads, len(ids)), torch.nan)
    formulas: dict[str, PatternFormula | None] = {}
    if not hooks:
        return weights.numpy(), masked_at(model, formulas, len(ids), position, role)
    if identity is None:
        _fill_in_a_run(model, ids, position, role, hooks, weights, formulas)
    else:
        source = Recorder(resumable, store, identity).source([ids], list(hooks))
        for hook, layer in hooks.items():
            weights[layer] = pattern_part(source, hook, position, role)
            formulas[hook] = formula_at(source, hook)
    return weights.numpy(), masked_at(model, formulas, len(ids), position, role)


def formula_at(source: Any, hook: str) -> PatternFormula | None:
    """How a pattern of a recording's first prompt follows from q and k, where that is stored."""
    return source.formula(hook, 0) if isinstance(source, CachedRecording) else None


def masked_at(
    model: Any, formulas: Mapping[str, PatternFormula | None], length: int, position: int, role: str
) -> Bool[np.ndarray, "layer pos"]:
    """What each layer's mask hides from a position, or hides it from; all False in layers without a matrix.

    Args:
        formulas: by hook. Of a layer without one, whose mask is of another kind, later positions alone are known to be
            hidden.
    """
    masked = torch.zeros(model.n_layers, length, dtype=torch.bool)
    for layer in range(model.n_layers):
        hook = f"blocks.{layer}.attn.hook_pattern"
        if hook not in model.hook_dict:
            continue
        masked[layer] = _formula_of_mask(model, layer, formulas.get(hook)).masked(length, position, role)
    return masked.numpy()


def mask_of(model: Any, layer: int, formula: PatternFormula | None, length: int) -> Bool[np.ndarray, "dest src"]:
    """The pairs that a layer's mask hides, as `masked_at` has those of one position."""
    return _formula_of_mask(model, layer, formula).mask(length).numpy()


def _formula_of_mask(model: Any, layer: int, formula: PatternFormula | None) -> PatternFormula:
    return formula or PatternFormula(scale=1.0, causal=attends_causally(model, layer))


def pattern_hooks(model: Any) -> dict[str, int]:
    """The hook points of patterns → their layers, of the layers whose rows are shares of attention."""
    layers = [layer for layer in range(model.n_layers) if attends_in_shares(model, layer)]
    return {model.hook_name("pattern", layer): layer for layer in layers}


def pattern_part(
    source: Any, hook: str, position: int, role: str, log_sums: Float[Tensor, "head dest"] | None = None
) -> Float[Tensor, "head pos"]:
    """A row or a column of every head's pattern, of a recording's first prompt: from q and k where it can be.

    Args:
        log_sums: of the rows, see `PatternFormula.log_sums`, where they are known already.
    """
    parts = source.read_formula(hook, 0) if isinstance(source, CachedRecording) else None
    if parts is None:
        (pattern,) = source.read([hook], 0)
        part = pattern[:, position] if role == "destination" else pattern[:, :, position]
    else:
        formula, q, k = parts
        part = formula.row(q, k, position) if role == "destination" else formula.column(q, k, position, log_sums)
    return at_least_float32(part).cpu()


def row_log_sums(source: Any, hook: str) -> Float[Tensor, "head dest"] | None:
    """`PatternFormula.log_sums` of a recording's first prompt; None where its pattern is read or made as a whole."""
    parts = source.read_formula(hook, 0) if isinstance(source, CachedRecording) else None
    return None if parts is None else parts[0].log_sums(*parts[1:])


def _fill_in_a_run(
    model: Any,
    ids: Int[Tensor, "pos"],
    position: int,
    role: str,
    hooks: dict[str, int],
    weights: Tensor,
    formulas: dict[str, PatternFormula | None],
) -> None:
    def tap(layer: int) -> Tap:
        def keep(A: Float[Tensor, "1 head dest src"]) -> None:
            part = A[0, :, 0] if role == "destination" else A[0, :, :, position]
            weights[layer] = at_least_float32(part).cpu()

        return PartialTap(keep, rows=(position,)) if role == "destination" else keep

    def on_inputs(hook: str, layer: int) -> Callable[[AttentionInputs], None]:
        return lambda inputs: formulas.update({hook: formula_of(model.attentions[layer], inputs)})

    taps: dict[str, Callable[..., Any]] = {hook: tap(layer) for hook, layer in hooks.items()}
    edits = {layer: AttentionEdits(on_inputs=on_inputs(hook, layer)) for hook, layer in hooks.items()}
    with model.state_put_back(), model.running(taps, edits):
        model.run_layers(ids[None].to(model.device))
