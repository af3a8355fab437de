"""The proof that runs resume exactly, on the model at hand: layer by layer, on two inputs that change halfway.

Every layer is entered in the middle of a changed input, with the unchanged run's keys and values before it, and has to
give what the layer gives for the full changed input. What a layer adds is what counts: an error that is small beside
the residual stream is not hidden by it. Half precision would hide one, so its layers are run in float32, one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from workbench.errors import UnsupportedModel, WorkbenchError
from workbench.models.attention_edits import AttentionEdits, AttentionInputs
from workbench.models.layer_arguments import Call, each_tensor, without_caches, without_mask
from workbench.models.precision import HALF, TOLERANCE, at_least_float32
from workbench.models.resumable_layers import LayersRun, ResumableLayers

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel

#: What can go wrong in a layer that is called for some of its positions.
FAILURES = (WorkbenchError, AttributeError, IndexError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Resumption:
    """What was found on inputs of one length.

    Attributes:
        causal: whether a position depends on no later one.
        why_not: why runs that resume are not exact; empty where they are.
    """

    causal: bool
    why_not: str = ""

    @property
    def resumes(self) -> bool:
        return not self.why_not


class _NotCausal(Exception):
    """A layer's output depends on later positions."""


@dataclass
class WatchedRun:
    """A run of all layers, with what each layer and its attention module were called with (of a layer without the
    stream, mask included) and what they gave."""

    layers: LayersRun
    calls: list[Call] = field(default_factory=list)
    outputs: list[Float[Tensor, "two pos d_model"]] = field(default_factory=list)
    attention_calls: list[Call] = field(default_factory=list)
    attention_outputs: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, model: HookedModel, inputs: Shaped[Tensor, "two pos *rest"]) -> WatchedRun:
        """Run the layers."""
        run, handles = cls(LayersRun(inputs)), []

        def entered(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            named = {name: value for name, value in kwargs.items() if name != "hidden_states"}
            run.calls.append((without_caches(args[1:]), without_caches(named)))

        def left(_: Any, args: Any, output: Any) -> None:
            run.outputs.append(first(output))

        def attended(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            run.attention_calls.append((without_caches(args), without_caches(kwargs)))
            run.attention_outputs.append(first(output))

        for index in range(model.n_layers):
            handles.append(model.layer(index).register_forward_pre_hook(entered, with_kwargs=True))
            handles.append(model.layer(index).register_forward_hook(left))
            handles.append(model.attentions[index].register_forward_hook(attended, with_kwargs=True))
        try:
            run.layers = ResumableLayers(model).base_run(inputs)
        finally:
            for handle in handles:
                handle.remove()
        return run


@dataclass(frozen=True)
class _Layer:
    """One layer: the unchanged run, which is resumed, and what enters and leaves the layer in both runs."""

    run: LayersRun
    entering: tuple[Tensor, Tensor]
    leaving: tuple[Tensor, Tensor]

    @property
    def limit(self) -> float:
        """The largest difference that the order of sums explains."""
        return _limit(self.entering[0], self.leaving[0])


def changed_halfway(
    inputs: Shaped[Tensor, "two pos *rest"], model: HookedModel | None = None
) -> tuple[Shaped[Tensor, "two pos *rest"], int]:
    """The inputs with other content from the middle position on (of `model`, from where its operators let a change
    there reach), and that position: each has the other's end, reversed (the same end in another order would change
    nothing where no position has a place)."""
    position, other = inputs.shape[1] // 2, inputs.clone()
    if model is not None:
        position = model.first_changed(position)
    other[:, position:] = inputs.flip(0)[:, position:].flip(1)
    return other, position


@torch.no_grad()
def prove_resumption(
    model: HookedModel,
    inputs: Shaped[Tensor, "two pos *rest"],
    *,
    patterns: bool = False,
    base: WatchedRun | None = None,
) -> Resumption:
    """Whether resuming is exact at the length of two different inputs, and whether attention is causal there.

    Args:
        patterns: have every resumed layer compute its pattern explicitly, as edits of patterns do.
        base: the run of the inputs, where there is one.
    """
    other, position = changed_halfway(inputs, model)
    with model.lock, model.state_put_back():
        base, changed = base or WatchedRun.of(model, inputs), WatchedRun.of(model, other)
        for layer, (output, stream) in enumerate(zip(base.outputs, base.layers.streams[1:], strict=True)):
            if not torch.equal(output, stream):
                return Resumption(False, f"fails (what layer {layer} gives is changed before the next one)")
        if model.why_never_resumed:
            return Resumption(model.causal, model.why_never_resumed)
        if (n_streams := several_streams(base.layers)) > 1:
            before, after = (side_by_side(run.outputs[-1])[:, :position].float() for run in (base, changed))
            causal = _differs(before, after) <= TOLERANCE[torch.float32] * float(before.abs().max())
            why_not = f"is not possible, as its layers carry {n_streams} streams (resid_* and *_out are left out)"
            return Resumption(causal, why_not)
        try:
            if not position or not model.position_keeps_earlier:
                raise _NotCausal
            return Resumption(True, _why_not(model, base, changed, position, patterns))
        except _NotCausal:
            return Resumption(False, _why_not(model, base, changed, 0, patterns, middle=position or 1))


def several_streams(run: LayersRun) -> int:
    """How many streams the layers carry: more than one where they are ``[stream, input, pos, d_model]``."""
    several = all(x.ndim == 4 and x.shape[1:3] == (run.size, run.length) for x in run.streams)
    return run.streams[0].shape[0] if several else 1


def side_by_side(x: Float[Tensor, "*streams input pos d_model"]) -> Float[Tensor, "input pos d"]:
    """Several streams as ``[input, pos, stream · d_model]``; one stream as it is."""
    return x.movedim(0, 2).flatten(2) if x.ndim == 4 else x


def _why_not(
    model: HookedModel, base: WatchedRun, changed: WatchedRun, start: int, patterns: bool, middle: int = 0
) -> str:
    """Why runs are not exact that resume at `start`: the middle in a causal model (0 in others, which change from
    `middle` on); empty where they are.

    Raises:
        _NotCausal: a layer's output before `start` depends on what follows.
    """
    resumable = ResumableLayers(model, causal=start > 0)
    rows = torch.tensor([0, 0, 1], device=base.layers.streams[0].device)  # several runs may resume one input
    for index in range(model.n_layers):
        with _layer(model, index, base, changed, start or middle, causal=start > 0) as layer:
            (unchanged, entering), (_, leaving) = layer.entering, layer.leaving
            if start and _differs(layer.leaving[0][:, :start], leaving[:, :start]) > layer.limit:
                raise _NotCausal
            stream = torch.stack([entering[0], unchanged[0], entering[1]])[:, start:]
            expected = torch.stack([leaving[0], layer.leaving[0][0], leaving[1]])
            pattern = f"blocks.{index}.attn.hook_pattern"
            taps = {pattern: Tensor.clone} if patterns and pattern in model.hook_dict else {}
            try:
                resumed = resumable.block(layer.run, index, rows, start, (stream,), lambda *_, taps=taps: taps)[0]
            except FAILURES as error:
                return f"failed ({error})"
            if 0 < resumed.shape[1] == model.reads_first:  # the outputs read no other
                off = _differs(resumed, expected[:, : model.reads_first])
            else:
                off = _differs(resumed, expected[:, -resumed.shape[1] :])
            if not off <= layer.limit:
                added = float((leaving - entering).abs().max())
                return f"differs by {off:.2g} where layer {index} adds {added:.2g}"
    readout = model.read_out(changed.layers.inputs, changed.layers.streams[-1], None, changed.layers.rest)
    outputs = model.outputs(changed.layers.inputs)
    limit = max(1e-5, 8 * torch.finfo(outputs.dtype).eps) * float(outputs.abs().max().clamp(min=1e-3))
    off = _differs(readout, outputs)
    return "" if off <= limit else f"gives other outputs for the same residual stream, off by {off:.2g}"


@dataclass(frozen=True)
class LayerAlone:
    """One layer of a run, to be called again by itself: on the stream `before` it, with its own arguments; `after` is
    what it gives without taps."""

    index: int
    module: nn.Module
    before: Float[Tensor, "*streams two pos d_model"]
    after: Float[Tensor, "*streams two pos d_model"]
    arguments: Call

    def call(self) -> Float[Tensor, "*streams two pos d_model"]:
        """What it gives, with the active taps."""
        return first(_call(self.module, self.before, self.arguments))

    @property
    def limit(self) -> float:
        """The largest difference from what it gives that the order of sums explains."""
        return _limit(self.before, self.after)


def layers_alone(model: HookedModel, run: WatchedRun) -> Iterator[LayerAlone]:
    """The layers of a run, one at a time; in half precision each is in float32 for that time."""
    for index, (stream, after, call) in enumerate(zip(run.layers.streams, run.outputs, run.calls, strict=False)):
        module, half = model.layer(index), stream.dtype in HALF
        with in_float32(module) if half else nullcontext():
            before = at_least_float32(stream)
            if half:
                try:
                    after = first(_call(module, before, call))
                except FAILURES as error:
                    raise UnsupportedModel(
                        f"Layer {index} of {type(model.hf).__name__} does not run in float32, in which models in half "
                        f"precision are checked ({error}). Load it in float32."
                    ) from error
            yield LayerAlone(index, module, before, after, call)


def _limit(before: Tensor, after: Tensor) -> float:
    rounding = 16 * torch.finfo(before.dtype).eps * float(before.abs().max())
    return TOLERANCE[before.dtype] * float((after - before).abs().max()) + rounding


def _differs(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@contextmanager
def _layer(
    model: HookedModel, index: int, base: WatchedRun, changed: WatchedRun, middle: int, causal: bool
) -> Iterator[_Layer]:
    """One layer in both runs. A causal model resumes a run with other content, as the changed run has it; any other
    resumes an edited run of the same input, so its changed stream passes through the layer with the input's own
    arguments. In half precision the layer is in float32 meanwhile, and called again for both."""
    streams, after = base.layers.streams, (base.outputs[index], changed.outputs[index])
    half = streams[index].dtype in HALF
    before = streams[index], changed.layers.streams[index]
    if not causal or half:
        before = before[0], torch.cat([before[0][:, :middle], before[1][:, middle:]], 1)
    if causal and not half:
        yield _Layer(base.layers, before, after)
        return
    module, own = model.layer(index), changed if causal else base
    with in_float32(module) if half else nullcontext():
        before = at_least_float32(before[0]), at_least_float32(before[1])
        seen: list[AttentionInputs] = []
        with model.running({}, {index: AttentionEdits(on_inputs=seen.append)}):
            unchanged = first(_call(module, before[0], base.calls[index]))
        args, kwargs = _widened(base.calls[index])
        run = LayersRun(
            base.layers.inputs,
            [before[0]] * (index + 1),
            [(args, without_mask(kwargs))] * (index + 1),
            seen * (index + 1),
        )
        yield _Layer(run, before, (unchanged, first(_call(module, before[1], own.calls[index]))))


def _call(module: nn.Module, stream: Tensor, call: Call) -> Any:
    args, kwargs = _widened(call)
    return module(stream, *args, **kwargs)


def _widened(call: Call) -> Call:
    """Arguments with every half-precision tensor in float32."""
    return each_tensor(call, lambda _, x: at_least_float32(x))


@contextmanager
def in_float32(module: nn.Module) -> Iterator[None]:
    """While it lasts, a module's half-precision parameters and buffers are in float32; then they are as before, bit for
    bit."""
    tensors = [x for x in (*module.parameters(), *module.buffers()) if x.dtype in HALF]
    before = [x.data for x in tensors]
    try:
        for x in tensors:
            x.data = x.data.float()
        yield
    finally:
        for x, data in zip(tensors, before, strict=True):
            x.data = data


def first(output: Any) -> Tensor:
    """The stream that a layer hands on, the first of several outputs."""
    return output[0] if isinstance(output, tuple) else output
