"""The load-time self-check: the adapter's assumptions are proven on the model itself, on two random inputs.

Refused (`UnsupportedModel`): a weight is NaN, hooks change the logits, a layer does not call the hooked attention, or
its rows do not sum to one. Dropped with a warning: branch outputs that do not add up to the residual stream. Switched
to full forwards with a warning: a model that does not resume exactly. Found out: which way heads' contributions to
the outputs add up.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from workbench.errors import HookError, UnsupportedModel
from workbench.models.additivity import additivity, writes_by_weights
from workbench.models.anatomy import find
from workbench.models.half_precision import warn_of_rounding
from workbench.models.layer_arguments import row_arguments
from workbench.models.modality import Modality
from workbench.models.named_parts import misnamed_part
from workbench.models.nan_weights import tensor_with_nan
from workbench.models.precision import HALF, close
from workbench.models.projections import projection
from workbench.models.resumable_layers import LayersRun, ResumableLayers
from workbench.models.resumption import (
    FAILURES,
    LayerAlone,
    WatchedRun,
    changed_halfway,
    first,
    layers_alone,
    prove_resumption,
    several_streams,
    side_by_side,
)
from workbench.models.taps import on_input, on_output
from workbench.models.unsupported import of_layers

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel


def check(model: HookedModel) -> None:
    """Run every check, setting `model.resumable` and `model.why_not_resumable`; raises `UnsupportedModel`."""
    was_training, attributes = model.hf.training, set(vars(model))
    if named := tensor_with_nan(model.hf):
        raise _refuse(model, f"its weights hold NaN, in {named}.")
    model.hf.eval()
    try:
        with model.one_pass(), torch.no_grad(), model.state_put_back():
            inputs = model.trial()
            if len(inputs) < 2 or torch.equal(inputs[0], inputs[1]):
                raise UnsupportedModel(
                    f"{type(model).__name__}.trial: expected two different inputs, which prove more than one."
                )
            _hooks_change_nothing(model, inputs)
            with _embeddings(model) as embedded:
                run = WatchedRun.of(model, inputs)
            if model.modality != "language":
                _check_ends(model, run)
            by_weights = _layers_are_as_taken(model, run)
            model.proofs.warned_of_rounding = warn_of_rounding(model, model.rounding_trial())
            _noise_in_z_matters(model, run)
            reason = _why_not_resumable(model, run)
            _projections_give_heads(model)
            model.additivity = additivity(model, inputs, by_weights, embedded, run.layers.streams)
            if model.additivity.gated and model.anatomy.output:
                model.hook_gated_z()
        if reason:
            model.resumable, model.why_not_resumable = False, reason
            warnings.warn(
                f"{type(model.hf).__name__}: resuming from the middle {reason}, so sweeps run full forward passes "
                "(exact, but slower).",
                stacklevel=4,
            )
    finally:
        model.hf.train(was_training)
        model.first_attributes |= vars(model).keys() - attributes


def _refuse(model: HookedModel, reason: str, *, of_names: bool = False) -> UnsupportedModel:
    """The refusal; `of_names` where the anatomy may name the wrong modules, so that naming others may help."""
    kind = getattr(model.config, "model_type", None)
    name = type(model.hf).__name__ + (f" (model_type {kind!r})" if kind else "")
    do = f" {model.where_parts_are_named}" if of_names else ""
    return UnsupportedModel(f"{name} failed the load-time self-check: {reason}{do}")


def _hooks_change_nothing(model: HookedModel, inputs: Tensor) -> None:
    """Reading z moves nothing."""
    expected = model.trial_outputs(inputs)
    called: list[int] = []
    taps = {f"blocks.{i}.attn.hook_z": lambda x, i=i: called.append(i) for i in range(model.n_layers)}
    try:
        with model.running(taps, must_fire=False):
            hooked = model.trial_outputs(inputs)
    except HookError as error:
        raise _refuse(model, str(error), of_names=True) from None
    if called != list(range(model.n_layers)):
        raise _why_not_called_once(model, called)
    if expected.isnan().any():
        raise _refuse(model, "its outputs are NaN, also without hooks, and no weight is.")
    if not torch.equal(expected, hooked):
        raise _refuse(model, f"reading z moves the outputs by {float((expected - hooked).abs().max()):.2g}.")


def _why_not_called_once(model: HookedModel, called: list[int]) -> UnsupportedModel:
    calls = [called.count(layer) for layer in range(model.n_layers)]
    other = next((layer for layer, n in enumerate(calls) if n != 1), None)
    if other is None:
        return _refuse(model, f"the layers call the attention function in the order {called}.")
    reason = f"layer {other} calls the attention function {calls[other]} times in a forward, not once."
    # Of a model of one's own, another module than the one that is named may call PyTorch's function.
    if calls[other] or model.modality != "language":
        return _refuse(model, reason, of_names=calls[other] == 0)
    layers = of_layers([layer for layer, n in enumerate(calls) if n == 0])
    name = type(model.attentions[other]).__name__
    return _refuse(
        model,
        f"{name} of {layers} computes its attention itself instead of calling the attention function, so its heads "
        "cannot be reached.",
    )


@contextmanager
def _embeddings(model: HookedModel) -> Iterator[list[Tensor]]:
    """What the embeddings give, while it lasts."""
    embedded: list[Tensor] = []
    names = [name for name in (model.anatomy.embed, model.anatomy.position_embed) if name]
    handles = [handle for name in names for handle in on_output(model.module(name), embedded.append)]
    try:
        yield embedded
    finally:
        for handle in handles:
            handle.remove()


def _check_ends(model: HookedModel, run: WatchedRun) -> None:
    """Of a model of one's own: an input's outputs are the same whatever else is in its batch, and the final norm reads
    what leaves the last layer, if it reads all of it."""
    inputs, stream = run.layers.inputs, run.layers.streams[-1]
    name = model.anatomy.final_norm
    with _inputs_of(model.module(name) if name else None) as read:
        outputs = model.outputs(inputs)
    together = model.outputs(torch.cat([inputs, changed_halfway(inputs)[0]]))[: len(inputs)]
    if outputs.dtype not in HALF and not close(together, outputs):
        off, what = float((together - outputs).abs().max()), f"what {type(model).__name__}.outputs gives for an input"
        raise _refuse(model, f"{what} depends on the others of its batch, by {off:.2g}.")
    if name and not read:
        raise _refuse(model, f"final_norm={name!r} is not called.", of_names=True)
    if name and read[-1].shape == stream.shape and not torch.equal(read[-1], stream):
        raise _refuse(model, f"final_norm={name!r} does not read what leaves the last layer.", of_names=True)


def _layers_are_as_taken(model: HookedModel, run: WatchedRun) -> bool:
    """Attention computed explicitly is what every layer computes, its rows sum to one, what the branches give adds up:
    ``resid_post = resid_pre + attn_out + mlp_out``, and the norm before the MLP reads resid_mid. Returns whether
    attn_out is shown to be ``Σ z W_O + b_O``."""
    by_weights = True
    sinks = any(hasattr(attention, "sinks") for attention in model.attentions)
    if several_streams(run.layers) > 1:  # none of them is the residual stream
        model.drop_hooks("hook_resid_pre", "hook_attn_out", "hook_resid_mid", "hook_mlp_out", "hook_resid_post")
    for layer in layers_alone(model, run):
        hooks = ("attn.hook_pattern", "attn.hook_z", "hook_attn_out", "hook_mlp_out")
        seen: dict[str, Tensor] = {}
        names = {hook: f"blocks.{layer.index}.{hook}" for hook in hooks}
        taps = {name: partial(_written_back, seen, hook) for hook, name in names.items() if name in model.hook_dict}
        norm2, output = (
            find(root, name) if name else None
            for root, name in (
                (layer.module, model.anatomy.norm2),
                (model.attentions[layer.index], model.anatomy.output),
            )
        )
        with model.running(taps), _inputs_of(norm2) as read, _inputs_of(output) as projected:
            try:
                explicit = layer.call()
            except FAILURES as error:
                raise _refuse(
                    model, f"attention of layer {layer.index} cannot be computed explicitly ({error})."
                ) from None
        pattern, z = seen.pop("attn.hook_pattern", None), seen.pop("attn.hook_z")
        if projected and (projected[0].numel() != z.numel() or not torch.equal(projected[0].flatten(), z.flatten())):
            model.z_is_projected = False
        if pattern is not None and pattern.shape[1] != model.n_heads:
            raise _refuse(model, f"layer {layer.index} has {pattern.shape[1]} heads, and n_heads is {model.n_heads}.")
        off = float((explicit - layer.after).abs().max())
        if not off <= layer.limit:
            added = float((layer.after - layer.before).abs().max())
            raise _refuse(
                model,
                "attention computed explicitly from q, k and v is not the model's own: in layer "
                f"{layer.index} it differs by {off:.2g} of {added:.2g}.",
            )
        operator = model.operators.get(layer.index)
        sums_to_one = not sinks and (operator is None or operator.declared("row_stochastic"))
        if pattern is not None and sums_to_one and not close(pattern.sum(-1), torch.ones_like(pattern[..., 0])):
            raise _refuse(model, f"the rows of layer {layer.index}'s pattern do not sum to one.")
        if reason := _why_not_the_branches(model, layer, explicit, seen, read):
            _leave_branches_out(model, f"in layer {layer.index} {reason}")
            by_weights = False
        if model.modality != "language" and (reason := misnamed_part(model, layer)):
            raise _refuse(model, f"in layer {layer.index}, {reason}.")
        by_weights = by_weights and len(seen) == 2 and writes_by_weights(model, layer.index, z, seen["hook_attn_out"])
    return by_weights


def _written_back(seen: dict[str, Tensor], hook: str, x: Tensor) -> Tensor:
    """Note an activation, and have it used as it is: a pattern that is written goes through the explicit form."""
    seen[hook] = x
    return x.clone()


def _why_not_the_branches(
    model: HookedModel, layer: LayerAlone, explicit: Tensor, seen: Mapping[str, Tensor], read: Sequence[Tensor]
) -> str:
    """Why what the branches give is not what joins the residual stream; empty where it may be."""
    for hook, x in seen.items():
        if x.shape != layer.before.shape:
            name = "attention" if hook == "hook_attn_out" else "MLP"
            return f"the {name} gives {tuple(x.shape)} and the residual stream is {tuple(layer.before.shape)}"
    if len(seen) == 2 and not float((layer.before + sum(seen.values()) - explicit).abs().max()) <= layer.limit:
        return "the attention's and the MLP's outputs do not add up to the residual stream"
    if read and f"blocks.{layer.index}.hook_resid_mid" in model.hook_dict:
        middle = layer.before + seen["hook_attn_out"]
        if read[-1].shape != middle.shape or not float((read[-1] - middle).abs().max()) <= layer.limit:
            return f"{model.anatomy.norm2} does not read the sum of the residual stream and the attention's output"
    return ""


@contextmanager
def _inputs_of(module: nn.Module | None) -> Iterator[list[Tensor]]:
    """What a module is called with; nothing where there is none."""
    read: list[Tensor] = []
    handles = on_input(module, lambda x: read.append(x.clone())) if module is not None else []
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()


def _leave_branches_out(model: HookedModel, reason: str) -> None:
    if model.listed:
        do = "Name the modules whose outputs are added as attn_out and mlp_out, or leave these two out."
        raise _refuse(model, f"{reason}. {do}")
    warnings.warn(f"{type(model.hf).__name__}: {reason}; attn_out, resid_mid and mlp_out are left out.", stacklevel=6)
    model.drop_hooks("hook_attn_out", "hook_resid_mid", "hook_mlp_out")


def _projections_give_heads(model: HookedModel) -> None:
    """Leave out hook_q and hook_k where a projection gives more than heads of the model's width: a gate beside q
    (Qwen3-Next), or heads whose keys are wider than their values."""
    for field, part, heads in (("query", "hook_q", model.n_heads), ("key", "hook_k", model.n_kv_heads)):
        name = getattr(model.anatomy, field)
        if not name or model.anatomy.fused or model.attention_site(f"attn.{part}"):
            continue
        modules = [find(attention, name) for attention in model.attentions]  # some layers share another one's keys
        if any(m is None or projection(m).shape[0] != heads * model.d_head for m in modules):
            model.drop_hooks(f"attn.{part}")


def _noise_in_z_matters(model: HookedModel, run: WatchedRun) -> None:
    """Each attention module is called again with its own arguments, and z changed."""
    for layer, ((args, kwargs), before) in enumerate(zip(run.attention_calls, run.attention_outputs, strict=True)):
        with model.running({f"blocks.{layer}.attn.hook_z": lambda x: x + 1}):
            after = first(model.attentions[layer](*args, **kwargs))
        if torch.equal(before, after):
            reason = f"changing z in layer {layer} does not change the attention module's output."
            raise _refuse(model, reason, of_names=True)


def _why_not_resumable(model: HookedModel, run: WatchedRun) -> str:
    """Why runs that resume a base run are not exact; empty where they are. Finds on the way whether attention is
    causal, which arguments of a layer have an entry for each input, and whether there is a shorter readout."""
    inputs, base = run.layers.inputs, run.layers
    try:
        base_of_both = ResumableLayers(model).base_run(torch.cat([inputs, changed_halfway(inputs)[0]]))
        _streams_are_of_the_inputs(model, base, base_of_both)
        _heads_match_sizes(model, base)
        model.row_arguments = row_arguments(base, base_of_both)
        model.choose_readout(base)
    except _Refused as error:
        raise _refuse(model, str(error)) from None
    except FAILURES as error:
        return f"failed ({error})"
    verdict = prove_resumption(model, inputs, base=run)
    model.causal = verdict.causal
    model.proofs.know(inputs.shape[1], verdict)
    return verdict.why_not


class _Refused(Exception):
    """What neither resuming nor full forwards can mend."""


def _streams_are_of_the_inputs(model: HookedModel, base: LayersRun, base_of_both: LayersRun) -> None:
    """Every layer carries the inputs' positions, and an input's stream is the same whatever else is in its batch."""
    n_streams = several_streams(base)
    for layer, stream in enumerate(map(side_by_side, base.streams)):
        if stream.ndim != 3 or stream.shape[0] != base.size:
            raise _Refused(f"layer {layer} gets {tuple(stream.shape)} for {base.size} inputs.")
        if stream.shape[1] != base.length:
            raise _Refused(
                f"layer {layer} gets {stream.shape[1]} positions where the inputs have {base.length}. Give inputs a "
                "row for each position that the model adds, and leave it out again in outputs."
            )
        if stream.shape[2] != n_streams * model.d_model:
            raise _Refused(f"layer {layer} gets a stream of width {stream.shape[2]}, and d_model is {model.d_model}.")
    alone, together = side_by_side(base.streams[-1]), side_by_side(base_of_both.streams[-1])[: base.size]
    if alone.dtype in (torch.float32, torch.float64) and not close(alone, together):
        raise _Refused("what the layers give for an input depends on the other inputs of its batch.")


def _heads_match_sizes(model: HookedModel, base: LayersRun) -> None:
    """Keys and values have the KV heads and the width that the sizes say. Of sizes that only a configuration says, what
    runs counts: latent attention gives every query head keys of its own, and values of another width."""
    seen = {(inputs.values.shape[1], inputs.values.shape[3]) for inputs in base.attention_inputs}
    if len(seen) > 1:
        raise _Refused(f"its layers have KV heads of different numbers or widths, {sorted(seen)}.")
    (n_kv_heads, d_head), expected = seen.pop(), (model.n_kv_heads, model.d_head)
    if (n_kv_heads, d_head) == expected:
        return
    if type(model).sizes is not Modality.sizes or model.n_heads % n_kv_heads:
        raise _Refused(
            f"its values are of {n_kv_heads} heads of width {d_head}, and n_kv_heads and d_head are {expected}."
        )
    model.set_heads(n_kv_heads, d_head)
