"""The check of a model whose layers use other operators: each computes by its efficient form what its matrix says, its
rows sum to one where they should, and runs resume exactly. At a length at which the operators' structure is in view.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.attention.operator import BoundOperator
from workbench.cache import Store
from workbench.cache.keys import digest
from workbench.cache.notes import read_note, write_note
from workbench.errors import UnsupportedModel
from workbench.models.attention_edits import AttentionInputs
from workbench.models.precision import close
from workbench.models.reference_attention import HIDDEN
from workbench.models.resumption import FAILURES, Resumption, WatchedRun, layers_alone, prove_resumption
from workbench.models.unsupported import of_layers

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel


@torch.no_grad()
def check_operators(model: HookedModel, store: Store | None) -> None:
    """Check the swapped layers of a model that was checked before, or read what was found before from the store.

    Raises:
        UnsupportedModel: an operator does not compute what it says.
    """
    with model.one_pass():
        inputs = model.trial()
    identity = None if store is None else model.identity.current()
    place = None if identity is None else digest(identity, "operators", inputs.shape[1])
    note = read_note(store, place)
    if note is not None:
        verdict, dropped = Resumption(**note[0]), {int(layer): what for layer, what in note[1]}
    else:
        with model.one_pass(), model.state_put_back():
            run = WatchedRun.of(model, inputs)
            _compute_what_they_say(model, run)
            verdict = prove_resumption(model, inputs, base=run)
        if model.causal and model.position_keeps_earlier and not verdict.causal:
            raise UnsupportedModel(
                f"{_list(model)} lets positions see later ones, although it is declared causal. Declare causal='no'."
            )
        dropped = {
            layer: drops(model.operators[layer], run.layers.attention_inputs[layer]) for layer in model.operators
        }
        write_note(store, place, [vars(verdict), list(dropped.items())])
    model.causal, model.resumable, model.why_not_resumable = verdict.causal, verdict.resumes, verdict.why_not
    model.proofs.know(inputs.shape[1], verdict)
    if not verdict.resumes:
        warnings.warn(
            f"{_list(model)}: resuming from the middle {verdict.why_not}, so sweeps run full forward passes (exact, "
            "but slower).",
            stacklevel=4,
        )
    for bound in dict.fromkeys(model.operators.values()):
        if bound.operator.role == "gate":
            layers = [layer for layer, other in model.operators.items() if other == bound]
            warnings.warn(
                f"{bound} is a gate: it goes in beside the identity mixer, so that no position of {of_layers(layers)} "
                "attends to another.",
                stacklevel=4,
            )
        layers = [layer for layer, other in model.operators.items() if other == bound and dropped[layer]]
        if layers:
            what = " and ".join(dict.fromkeys(x for layer in layers for x in dropped[layer]))
            warnings.warn(f"{bound} drops the {what} of {of_layers(layers)}.", stacklevel=4)


def drops(bound: BoundOperator, inputs: AttentionInputs) -> list[str]:
    """What the family does in its attention that an operator other than a softmax form leaves out."""
    if bound.operator.mask is not None:
        return []
    arguments, mask = inputs.arguments, inputs.mask
    names = {"softcap": "cap of scores", "s_aux": "sinks", "position_bias": "position bias", "sliding_window": "window"}
    result = [text for name, text in names.items() if arguments.get(name) is not None]
    if mask is not None:
        seen = mask if mask.dtype == torch.bool else mask > HIDDEN
        if mask.dtype != torch.bool and bool(((mask != 0) & seen).any()):
            result.append("bias of scores")
        if "window" not in result and not bool(seen[..., -1, :].all()):
            result.append("window")
    return result


def _compute_what_they_say(model: HookedModel, run: WatchedRun) -> None:
    for layer in layers_alone(model, run):
        bound = model.operators.get(layer.index)
        hook = f"blocks.{layer.index}.attn.hook_pattern"
        if bound is None or hook not in model.hook_dict:
            continue
        patterns: list[Tensor] = []

        def written_back(x: Tensor, patterns: list[Tensor] = patterns) -> Tensor:
            patterns.append(x)
            return x.clone()

        with model.running({hook: written_back}):
            try:
                explicit = layer.call()
            except FAILURES as error:
                raise UnsupportedModel(f"{bound} in layer {layer.index} has no matrix here ({error}).") from None
        off = float((explicit - layer.after).abs().max())
        if not off <= layer.limit:
            added = float((layer.after - layer.before).abs().max())
            raise UnsupportedModel(
                f"{bound} in layer {layer.index}: its efficient form is off its matrix by {off:.2g} of {added:.2g}."
            )
        sums = patterns[0].sum(-1)
        sinks = hasattr(model.attentions[layer.index], "sinks")
        if bound.declared("row_stochastic") and not sinks and not close(sums, torch.ones_like(sums)):
            raise UnsupportedModel(f"{bound} in layer {layer.index}: the rows of its matrix do not sum to one.")


def _list(model: HookedModel) -> str:
    return ", ".join(str(bound) for bound in dict.fromkeys(model.operators.values()))
