"""The load-time self-check: the adapter's assumptions are proven on the model itself, on two random inputs.

Refused (`UnsupportedModel`): hooks change the logits, a layer does not call the hooked attention, or its rows do not
sum to one. Dropped with a warning: branch outputs that do not add up to the residual stream. Switched to full forwards
with a warning: a model that does not resume exactly.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import UnsupportedModel, WorkbenchError
from workbench.models.layer_arguments import row_arguments, without_caches
from workbench.models.resumable import Tap, TapsFrom
from workbench.models.resumable_layers import ResumableLayers

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel

#: Relative tolerance of each precision for sums taken in another order. Most families compute norms, rotations and
#: softmax in float32 even in a float64 model.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.02}


def check(model: HookedModel) -> None:
    """Run every check, setting `model.resumable` and `model.why_not_resumable`; raises `UnsupportedModel`."""
    was_training = model.hf.training
    model.hf.eval()
    try:
        inputs = model.trial()
        with torch.no_grad():
            _hooks_change_nothing(model, inputs)
            _patterns_sum_to_one(model, inputs)
            _branches_add_up(model, inputs)
            _noise_in_z_matters(model, inputs)
            model.causal = _is_causal(model, inputs)
            model.row_arguments = _row_arguments(model, inputs)
            model.choose_readout(inputs)
            _resumes(model, inputs)
    finally:
        model.hf.train(was_training)


def adopt(model: HookedModel, checked: HookedModel) -> None:
    """Take over what the check of a model with the same modules found: for copies, which are not checked again."""
    model.resumable, model.why_not_resumable = checked.resumable, checked.why_not_resumable
    model.causal, model.row_arguments, model.unembeds = checked.causal, checked.row_arguments, checked.unembeds
    left_out = [hook for hook in model.block_hooks if f"blocks.0.{hook}" not in checked.hook_dict]
    if left_out:
        model.drop_hooks(*left_out)


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= TOLERANCE.get(a.dtype, 1e-4) * b.abs().max().clamp(min=1e-3))


def _refuse(model: HookedModel, reason: str) -> UnsupportedModel:
    kind = getattr(model.config, "model_type", None)
    name = type(model.hf).__name__ + (f" (model_type {kind!r})" if kind else "")
    return UnsupportedModel(f"{name} failed the load-time self-check: {reason} {model.where_parts_are_named}")


def _hooks_change_nothing(model: HookedModel, inputs: Tensor) -> None:
    expected = model.trial_outputs(inputs)
    called: list[int] = []
    taps = {f"blocks.{i}.attn.hook_z": lambda x, i=i: called.append(i) for i in range(model.n_layers)}
    with model.running(taps, must_fire=False):
        hooked = model.trial_outputs(inputs)
    if called != list(range(model.n_layers)):
        missing = sorted(set(range(model.n_layers)) - set(called))
        raise _refuse(model, f"layers {missing or called} do not call the attention function once each, in order.")
    if not torch.equal(expected, hooked):
        raise _refuse(model, f"reading z moves the outputs by {float((expected - hooked).abs().max()):.2g}.")


def _patterns_sum_to_one(model: HookedModel, inputs: Tensor) -> None:
    sums: dict[int, Tensor] = {}
    taps = {f"blocks.{i}.attn.hook_pattern": lambda x, i=i: sums.update({i: x.sum(-1)}) for i in range(model.n_layers)}
    with model.running(taps):
        recomputed = model.trial_outputs(inputs)
    if not close(recomputed, model.trial_outputs(inputs)):
        raise _refuse(model, "attention computed explicitly from q, k and v does not give the model's outputs.")
    sinks = any(hasattr(attention, "sinks") for attention in model.attentions)
    for layer, total in sums.items():
        if total.shape[1] != model.n_heads:
            raise _refuse(
                model, f"layer {layer} has {total.shape[1]} heads where the configuration says {model.n_heads}."
            )
        if not sinks and not close(total, torch.ones_like(total)):
            raise _refuse(model, f"the rows of layer {layer}'s pattern do not sum to one.")


def _branches_add_up(model: HookedModel, inputs: Tensor) -> None:
    """resid_post = resid_pre + attn_out + mlp_out in every layer."""
    names = ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post")
    if any(f"blocks.0.{name}" not in model.hook_dict for name in names):
        return
    activations: dict[str, Tensor] = {}
    taps = {
        f"blocks.{i}.{name}": lambda x, key=f"blocks.{i}.{name}": activations.update({key: x.clone()})
        for i in range(model.n_layers)
        for name in names
    }
    with model.running(taps):
        model.run_layers(inputs)
    for layer in range(model.n_layers):
        pre, attention, mlp, post = (activations[f"blocks.{layer}.{name}"] for name in names)
        if not close(pre + attention + mlp, post):
            reason = f"in layer {layer} the attention's and the MLP's outputs do not add up to the residual stream"
            if model.listed:
                raise _refuse(model, reason + ".")
            warnings.warn(
                f"{type(model.hf).__name__}: {reason}; attn_out, resid_mid and mlp_out are left out.", stacklevel=5
            )
            model.drop_hooks("hook_attn_out", "hook_resid_mid", "hook_mlp_out")
            return


def _noise_in_z_matters(model: HookedModel, inputs: Tensor) -> None:
    """Each attention module is called again with its own arguments, and z changed."""
    calls: dict[int, tuple[Any, Any, Tensor]] = {}

    def capture(layer: int) -> Callable[..., None]:
        def hook(_: object, args: Any, kwargs: Any, output: Any) -> None:
            calls[layer] = without_caches(args), without_caches(kwargs), _first(output)

        return hook

    attentions = model.attentions
    handles = [m.register_forward_hook(capture(i), with_kwargs=True) for i, m in enumerate(attentions)]
    try:
        model.run_layers(inputs)
    finally:
        for handle in handles:
            handle.remove()
    for layer, (args, kwargs, before) in calls.items():
        with model.running({f"blocks.{layer}.attn.hook_z": lambda x: x + 1}):
            after = _first(attentions[layer](*args, **kwargs))
        if torch.equal(before, after):
            raise _refuse(model, f"changing z in layer {layer} does not change the attention module's output.")


def _is_causal(model: HookedModel, inputs: Tensor) -> bool:
    """Whether another last position changes nothing before it, whatever the attention modules' attributes say."""
    others = [j for j in range(inputs.shape[1] - 1) if not torch.equal(inputs[:, j], inputs[:, -1])]
    if not others:
        return model.causal
    other = inputs.clone()
    other[:, -1] = inputs[:, others[0]]
    stream = ResumableLayers(model).base_run(torch.cat([inputs, other])).streams[-1][:, :-1]
    before, after = stream.chunk(2)
    return bool((before - after).abs().max() <= TOLERANCE.get(stream.dtype, 1e-4) / 10 * before.abs().max())


def _row_arguments(model: HookedModel, inputs: Tensor) -> dict[int, frozenset[int]]:
    resumable, larger = ResumableLayers(model), torch.cat([inputs, inputs[:1]])
    return row_arguments(resumable.base_run(inputs), resumable.base_run(larger))


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _resumes(model: HookedModel, inputs: Tensor) -> None:
    """Two runs that resume one base run, together and by full forwards: one edited in the middle layer, and one
    with other tokens from the middle position on."""
    resumable, middle, position = ResumableLayers(model), model.n_layers // 2, inputs.shape[1] // 2
    hook, other = model.hook_name("z", middle), inputs.clone()
    other[:, position:] = other[:, position:].flip(1)

    def taps_from(first: int) -> dict[str, Tap]:
        def add_one(z: Tensor) -> Tensor:
            z = z.clone()
            if position >= first:
                z[0, position - first, 0] += 1
            return z

        return {hook: add_one}

    full = torch.cat([resumable.full_forward(inputs, {0: taps_from(0)}), resumable.full_forward(other, {})])
    try:
        resumed = _resumed(resumable, inputs, other, middle, position if model.causal else 0, taps_from)
        reason = "" if close(resumed, full) else f"differs by {float((resumed - full).abs().max()):.2g}"
    except (WorkbenchError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = f"failed ({error})"
    if reason:
        model.resumable, model.why_not_resumable = False, reason
        warnings.warn(
            f"{type(model.hf).__name__}: resuming from the middle {reason}, so sweeps run full "
            "forward passes (exact, but slower).",
            stacklevel=5,
        )


def _resumed(
    resumable: ResumableLayers, inputs: Tensor, other: Tensor, middle: int, start: int, taps_from: TapsFrom
) -> Float[Tensor, "run d_vocab"]:
    """The readouts of a run that is edited in layer `middle`, and of one with other tokens from `start` on."""
    base, once = resumable.base_run(inputs), torch.arange(len(inputs))
    twice = torch.cat([once, once])
    stream = tuple(part[:, start:] for part in resumable.embed(other))
    for layer in range(middle):
        stream = resumable.block(base, layer, once, start, stream, lambda _: {})
    edited = resumable.stream_at(base, middle, once, start)
    stream = tuple(torch.cat(parts) for parts in zip(edited, stream, strict=True))
    for layer in range(middle, resumable.n_layers):
        stream = resumable.block(base, layer, twice, start, stream, taps_from if layer == middle else lambda _: {})
    return resumable.readout(base, twice, stream)
