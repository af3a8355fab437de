"""Models that run their layers once, as `ResumableModel`: exact resumption through unmodified layers.

A base run holds, per decoder layer, the arguments it was called with, its input, and the keys, values and mask of its
attention. To resume at layer L and position p, the layer is called on the stored input from p on, with its
per-position arguments cut, every cache argument None, and the base run's earlier keys and values prepended inside the
attention function. This works for any family: none of its arithmetic is repeated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from workbench.models.attention_edits import AttentionEdits, AttentionInputs
from workbench.models.layer_arguments import cut_argument, each_tensor, without_mask
from workbench.models.pattern_formula import PatternFormula, formula_of
from workbench.models.prefix_attention import Prefix
from workbench.models.resumable import StopForward, Stream, Tap, TapsFrom
from workbench.models.swapped_attention import operator_of

if TYPE_CHECKING:
    from workbench.cache import Store
    from workbench.inputs.paired import PairedInputs
    from workbench.models.hooked import HookedModel


@dataclass
class LayersRun:
    """A base run of inputs ``[batch, pos, ...]``.

    Attributes:
        streams: what enters each layer, and what leaves the last one.
        calls: the other arguments of each layer. rest: what layers return besides the stream, None for nothing.
        attention_inputs: keys, values and mask of each layer.
    """

    inputs: Shaped[Tensor, "batch pos *rest"]
    streams: list[Float[Tensor, "batch pos d_model"]] = field(default_factory=list)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    attention_inputs: list[AttentionInputs] = field(default_factory=list)
    rest: tuple[Any, ...] | None = None

    @property
    def size(self) -> int:
        return self.inputs.shape[0]

    @property
    def length(self) -> int:
        return self.inputs.shape[1]


class ResumableLayers:
    """`workbench.models.resumable.ResumableModel` over a `workbench.models.hooked.HookedModel`; one step."""

    n_steps = 1

    def __init__(self, model: HookedModel, causal: bool | None = None) -> None:
        self.model = model
        self.n_layers, self.n_heads, self.n_kv_heads = model.n_layers, model.n_heads, model.n_kv_heads
        self.resumes, self.why_not = model.resumable, model.why_not_resumable
        # Where a model does not resume nothing is taken for granted: full forwards leave no position out.
        self.causal = model.causal and model.resumable if causal is None else causal

    def prove(self, inputs: PairedInputs, store: Store | None, patterns: bool = False) -> None:
        """Find out, before anything is resumed, whether that is exact at these inputs' lengths (once for each:
        `workbench.models.proofs`). Where it is not, full forwards leave no position out.

        Args:
            store: where the verdict is kept.
            patterns: of runs in which patterns are edited.
        """
        if self.resumes:
            verdict = self.model.proofs.resumption(inputs, store, patterns)
            self.causal, self.resumes = verdict.causal and verdict.resumes, verdict.resumes
            self.why_not = verdict.why_not

    @property
    def device(self) -> torch.device:
        """Where activations are computed, and where cached ones are put back."""
        return self.model.device

    def hook_name(self, site: str, layer: int) -> str:
        return self.model.hook_name(site, layer)

    @property
    def by_block(self) -> bool:
        """Whether a layer's operator attends to all of a block, later positions among them, or needs all of a grid."""
        children = filter(None, map(operator_of, self.model.attentions))
        return any(child.operator.block > 1 or child.context.grid for child in children)

    def first_changed(self, position: int) -> int:
        """The first position that a change at a position can reach, in a causal model."""
        return self.model.first_changed(position)

    def base_run(
        self, inputs: Shaped[Tensor, "batch pos *rest"], taps: Mapping[int, Mapping[str, Tap]] | None = None
    ) -> LayersRun:
        model, base = self.model, LayersRun(inputs.to(self.model.device))
        edits = {i: AttentionEdits(on_inputs=base.attention_inputs.append) for i in range(self.n_layers)}
        handles = []

        def capture_input(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            base.streams.append(args[0] if args else kwargs["hidden_states"])
            base.calls.append((args[1:], without_mask(kwargs)))

        def capture_output(_: Any, args: Any, output: Any) -> None:
            base.streams.append(output[0] if isinstance(output, tuple) else output)
            base.rest = output[1:] if isinstance(output, tuple) else None

        with torch.no_grad(), model.lock, model.state_put_back(), model.running((taps or {}).get(0, {}), edits):
            try:
                # Registered after the taps, so that they see the layer's input after the taps.
                handles += [
                    model.layer(i).register_forward_pre_hook(capture_input, with_kwargs=True)
                    for i in range(self.n_layers)
                ]
                handles.append(model.layer(self.n_layers - 1).register_forward_hook(capture_output))
                model.run_layers(base.inputs)
            finally:  # before another thread may run the model
                for handle in handles:
                    handle.remove()
        return base

    def truncate(self, base: LayersRun, length: int) -> LayersRun:
        return _truncated(base, length)

    def embed(self, inputs: Shaped[Tensor, "batch pos *rest"]) -> Stream:
        embedded: list[Tensor] = []

        def capture_input(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            embedded.append(args[0] if args else kwargs["hidden_states"])
            raise StopForward

        with torch.no_grad(), self.model.lock, self.model.state_put_back():
            handle = self.model.layer(0).register_forward_pre_hook(capture_input, with_kwargs=True)
            try:
                with suppress(StopForward):
                    self.model.run_layers(inputs.to(self.model.device))
            finally:  # before another thread may run the model
                handle.remove()
        return (embedded[0],)

    def stream_at(self, base: LayersRun, depth: int, rows: Int[Tensor, "row"], start: int) -> Stream:
        return (base.streams[depth][rows, start:],)

    def block(
        self,
        base: LayersRun,
        depth: int,
        rows: Int[Tensor, "row"],
        start: int,
        stream: Stream,
        taps: TapsFrom,
        frozen: Tensor | None = None,
        expand: frozenset[str] = frozenset(),
        all_positions: bool = False,
    ) -> Stream:
        last = base.length - 1
        prefix = self._prefix(base, depth, rows, start) if frozen is None else None
        # Where only the last position is read out, the last layer needs no more of the others than keys and values.
        only_last = self.causal and self.model.reads_last_position and not all_positions
        if depth == self.n_layers - 1 and start < last and prefix is not None and only_last:
            prefix = self._keys_until(base, depth, rows, start, stream[0], taps, prefix, expand)
            stream, start = (stream[0][:, -1:],), last
        elif frozen is None and not all_positions and (n := self._read_first(base, depth, start, stream, taps)):
            return self._first(base, depth, rows, stream[0], taps, expand, n)
        edits = AttentionEdits(prefix=prefix, frozen=frozen, expand=expand)
        return (self._call(base, depth, rows, slice(start, None), stream[0], taps(start), edits),)

    def readout(
        self,
        base: LayersRun,
        rows: Int[Tensor, "row"],
        stream: Stream,
        tokens: Int[Tensor, "n"] | None = None,
    ) -> Float[Tensor, "row n"]:
        resid, start = stream[0], base.length - stream[0].shape[1]
        if self.model.reads_first == resid.shape[1]:
            return self.model.read_out(base.inputs[rows], resid, tokens, base.rest)
        if start and not self.model.reads_last_position:  # earlier positions are the base run's
            resid = torch.cat([base.streams[-1][rows, :start], resid], 1)
        return self.model.read_out(base.inputs[rows], resid, tokens, base.rest)

    def full_forward(
        self,
        inputs: Shaped[Tensor, "row pos *rest"],
        taps: Mapping[int, Mapping[str, Tap]],
        tokens: Int[Tensor, "n"] | None = None,
        expand: Mapping[int, frozenset[str]] | None = None,
    ) -> Float[Tensor, "row n"]:
        edits = {layer: AttentionEdits(expand=sites) for layer, sites in (expand or {}).items()}
        with torch.no_grad(), self.model.state_put_back(), self.model.running(taps.get(0, {}), edits):
            outputs = self.model.outputs(inputs.to(self.model.device))
        return outputs if tokens is None else outputs[:, tokens]

    def weights_frozen(self) -> AbstractContextManager[None]:
        return self.model.weights_frozen()

    def identity(self) -> bytes | None:
        """What the cache keys of this model's activations begin with; None where nothing may be cached now."""
        return self.model.identity.current()

    def pattern_formula(self, base: LayersRun, layer: int) -> PatternFormula | None:
        """How a layer computed its pattern in a base run; None where that takes more than rotated q and k."""
        return formula_of(self.model.attentions[layer], base.attention_inputs[layer])

    # --- one layer ------------------------------------------------------------------------------------------------

    def _call(
        self,
        base: LayersRun,
        layer: int,
        rows: Int[Tensor, "row"],
        positions: slice,
        stream: Float[Tensor, "row pos d_model"],
        taps: Mapping[str, Tap],
        edits: AttentionEdits,
    ) -> Float[Tensor, "row pos d_model"]:
        args, kwargs = self._cut(base, layer, rows, positions)
        with self.model.running(taps, {layer: edits}):
            output = self.model.layer(layer)(stream, *args, **kwargs)
        return output[0] if isinstance(output, tuple) else output

    def _prefix(self, base: LayersRun, layer: int, rows: Int[Tensor, "row"], start: int) -> Prefix:
        inputs = base.attention_inputs[layer]
        examples = None if base.size == 1 else rows
        gates = {name: gate[:, :start] for name, gate in inputs.gates.items()}
        return Prefix(start, inputs.keys[:, :, :start], inputs.values[:, :, :start], inputs.mask, examples, gates=gates)

    def _keys_until(
        self,
        base: LayersRun,
        layer: int,
        rows: Int[Tensor, "row"],
        start: int,
        stream: Float[Tensor, "row pos d_model"],
        taps: TapsFrom,
        prefix: Prefix,
        expand: frozenset[str],
        required: slice = slice(-1),
    ) -> Prefix:
        """The prefix with the rows' own keys and values at some of their positions: by default, before the last."""
        own: list[AttentionInputs] = []

        def stop(inputs: AttentionInputs) -> None:
            own.append(inputs)
            raise StopForward

        edits = AttentionEdits(on_inputs=stop, expand=expand)
        args, kwargs = self._cut(base, layer, rows, slice(start, None))
        with self.model.running(taps(start), {layer: edits}, must_fire=False), suppress(StopForward):
            self.model.layer(layer)(stream, *args, **kwargs)
        return replace(
            prefix,
            own_keys=own[0].keys[:, :, required],
            own_values=own[0].values[:, :, required],
            own_gates={name: gate[:, required] for name, gate in own[0].gates.items()},
        )

    def _read_first(self, base: LayersRun, layer: int, start: int, stream: Stream, taps: TapsFrom) -> int:
        """How many first positions alone a layer has to give, the last one where no other is read; 0 for all. Sources
        are then in another order, so nothing may depend on it: no mask, no bias, and no edit of a pattern."""
        n = self.model.reads_first
        if layer < self.n_layers - 1 or start or not n:
            return 0
        attention = base.attention_inputs[layer]
        ordered = attention.mask is not None or attention.arguments.get("position_bias") is not None
        swapped = operator_of(self.model.attentions[layer]) is not None
        if ordered or swapped or stream[0].shape[1] <= n or stream[0].shape[1] != base.length:
            return 0
        return 0 if any(hook.endswith(("pattern", "hook_attn_scores")) for hook in taps(0)) else n

    def _first(
        self,
        base: LayersRun,
        layer: int,
        rows: Int[Tensor, "row"],
        stream: Float[Tensor, "row pos d_model"],
        taps: TapsFrom,
        expand: frozenset[str],
        n: int,
    ) -> Stream:
        """The first n positions of what a layer gives, from the keys and values of all."""
        prefix = self._keys_until(
            base, layer, rows, 0, stream, taps, self._prefix(base, layer, rows, 0), expand, slice(n, None)
        )
        edits = AttentionEdits(prefix=prefix, expand=expand)
        return (self._call(base, layer, rows, slice(n), stream[:, :n], taps(0, n), edits),)

    def _cut(
        self, base: LayersRun, layer: int, rows: Int[Tensor, "row"], positions: slice
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        mask, of_rows = base.attention_inputs[layer].mask, self.model.row_arguments.get(layer, frozenset())

        def cut(index: int, x: Tensor) -> Tensor | None:
            return None if x is mask else cut_argument(x, base, rows, positions, index in of_rows)

        return each_tensor(base.calls[layer], cut, every=True)


def _truncated(base: LayersRun, length: int) -> LayersRun:
    """The first `length` positions of a base run, as a base run."""
    rows = torch.arange(base.size)
    inputs, calls = [], []
    for call, full in zip(base.calls, base.attention_inputs, strict=True):
        mask = None if full.mask is None else full.mask[:, :, :length, :length]
        gates = {name: gate[:, :length] for name, gate in full.gates.items()}
        inputs.append(AttentionInputs(full.keys[:, :, :length], full.values[:, :, :length], mask, gates=gates))

        def cut(_: int, x: Tensor, full: AttentionInputs = full, mask: Tensor | None = mask) -> Tensor | None:
            return mask if x is full.mask else cut_argument(x, base, rows, slice(length), of_rows=False)

        calls.append(each_tensor(call, cut))
    return LayersRun(base.inputs[:, :length], [x[:, :length] for x in base.streams], calls, inputs, base.rest)
