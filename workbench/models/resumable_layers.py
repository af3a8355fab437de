"""Language models as `ResumableModel`: exact resumption through unmodified Hugging Face layers.

A base run holds, per decoder layer, the arguments it was called with, its input, and the keys, values and mask of its
attention. To resume at layer L and position p, the layer is called on the stored input from p on, with its
per-position arguments cut, every cache argument None, and the base run's earlier keys and values prepended inside the
attention function. This works for any family: none of its arithmetic is repeated here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import Cache

from workbench.errors import UnsupportedModel
from workbench.models.attention_hook import AttentionEdits, AttentionInputs
from workbench.models.pattern_formula import PatternFormula, formula_of
from workbench.models.prefix_attention import Prefix
from workbench.models.resumable import StopForward, Stream, Tap, TapsFrom

if TYPE_CHECKING:
    from workbench.models.language import HookedLM


class UnknownArgument(UnsupportedModel):
    """A layer takes a per-position argument that cannot be sliced by position."""


@dataclass
class LanguageBaseRun:
    """A base run of ids ``[batch, pos]``; `streams[i]` enters layer i, the last one leaves the last layer."""

    ids: Int[Tensor, "batch pos"]
    streams: list[Float[Tensor, "batch pos d_model"]] = field(default_factory=list)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    attention_inputs: list[AttentionInputs] = field(default_factory=list)

    @property
    def size(self) -> int:
        return self.ids.shape[0]

    @property
    def length(self) -> int:
        return self.ids.shape[1]


class ResumableLM:
    """`workbench.models.resumable.ResumableModel` over a `HookedLM`; one sampling step."""

    n_steps = 1

    def __init__(self, model: HookedLM) -> None:
        self.model = model
        self.n_layers, self.n_heads, self.n_kv_heads = model.n_layers, model.n_heads, model.n_kv_heads
        self.causal, self.resumes = model.causal, model.resumable
        # Only the last position's logits are computed: those of a full prompt are much work for a small model.
        takes_logits_to_keep = "logits_to_keep" in inspect.signature(model.hf.forward).parameters
        self._last = {"logits_to_keep": 1} if takes_logits_to_keep else {}

    @property
    def device(self) -> torch.device:
        """Where activations are computed, and where cached ones are put back."""
        return self.model.device

    def hook_name(self, site: str, layer: int) -> str:
        return self.model.hook_name(site, layer)

    def base_run(
        self, inputs: Int[Tensor, "batch pos"], taps: Mapping[int, Mapping[str, Tap]] | None = None
    ) -> LanguageBaseRun:
        model, base = self.model, LanguageBaseRun(inputs.to(self.model.device))
        edits = {i: AttentionEdits(on_inputs=base.attention_inputs.append) for i in range(self.n_layers)}
        handles = []

        def capture_input(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            base.streams.append(args[0] if args else kwargs["hidden_states"])
            base.calls.append((args[1:], {k: v for k, v in kwargs.items() if k != "hidden_states"}))

        def capture_output(_: Any, args: Any, output: Any) -> None:
            base.streams.append(output[0] if isinstance(output, tuple) else output)

        try:
            with torch.no_grad(), model.running((taps or {}).get(0, {}), edits):
                # Registered after the taps, so that they see the layer's input after the taps.
                handles += [
                    model.layer(i).register_forward_pre_hook(capture_input, with_kwargs=True)
                    for i in range(self.n_layers)
                ]
                handles.append(model.layer(self.n_layers - 1).register_forward_hook(capture_output))
                model.hf.base_model(base.ids, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        return base

    def truncate(self, base: LanguageBaseRun, length: int) -> LanguageBaseRun:
        return _truncated(base, length)

    def embed(self, inputs: Int[Tensor, "batch pos"]) -> Stream:
        embedded: list[Tensor] = []

        def capture_input(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            embedded.append(args[0] if args else kwargs["hidden_states"])
            raise StopForward

        handle = self.model.layer(0).register_forward_pre_hook(capture_input, with_kwargs=True)
        try:
            with torch.no_grad(), self.model.lock, suppress(StopForward):
                self.model.hf.base_model(inputs.to(self.model.device), use_cache=False)
        finally:
            handle.remove()
        return (embedded[0],)

    def stream_at(self, base: LanguageBaseRun, depth: int, rows: Int[Tensor, "row"], start: int) -> Stream:
        return (base.streams[depth][rows, start:],)

    def block(
        self,
        base: LanguageBaseRun,
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
        # Only the last position is read out, so the last layer needs no more of the others than keys and values.
        if depth == self.n_layers - 1 and start < last and prefix is not None and self.causal and not all_positions:
            prefix = self._keys_until(base, depth, rows, start, stream[0], taps, prefix, expand)
            stream, start = (stream[0][:, -1:],), last
        edits = AttentionEdits(prefix=prefix, frozen=frozen, expand=expand)
        return (self._call(base, depth, rows, start, stream[0], taps(start), edits),)

    def readout(
        self,
        base: LanguageBaseRun,
        rows: Int[Tensor, "row"],
        stream: Stream,
        tokens: Int[Tensor, "n"] | None = None,
    ) -> Float[Tensor, "row n"]:
        return self.model.unembed(stream[0][:, -1], tokens)

    def full_forward(
        self,
        inputs: Int[Tensor, "row pos"],
        taps: Mapping[int, Mapping[str, Tap]],
        tokens: Int[Tensor, "n"] | None = None,
        expand: Mapping[int, frozenset[str]] | None = None,
    ) -> Float[Tensor, "row n"]:
        edits = {layer: AttentionEdits(expand=sites) for layer, sites in (expand or {}).items()}
        with torch.no_grad(), self.model.running(taps.get(0, {}), edits):
            logits = self.model.hf(inputs.to(self.model.device), use_cache=False, **self._last).logits[:, -1]
        return logits if tokens is None else logits[:, tokens]

    @contextmanager
    def weights_frozen(self) -> Iterator[None]:
        with self.model.lock:
            trainable = [p for p in self.model.parameters() if p.requires_grad]
            try:
                for p in trainable:
                    p.requires_grad_(False)
                yield
            finally:
                for p in trainable:
                    p.requires_grad_(True)

    def identity(self) -> bytes | None:
        """What the cache keys of this model's activations begin with; None where nothing may be cached now."""
        return self.model.identity.current()

    def pattern_formula(self, base: LanguageBaseRun, layer: int) -> PatternFormula | None:
        """How a layer computed its pattern in a base run; None where that takes more than rotated q and k."""
        return formula_of(self.model.attentions[layer], base.attention_inputs[layer])

    # --- one layer ------------------------------------------------------------------------------------------------

    def _call(
        self,
        base: LanguageBaseRun,
        layer: int,
        rows: Int[Tensor, "row"],
        start: int,
        stream: Float[Tensor, "row pos d_model"],
        taps: Mapping[str, Tap],
        edits: AttentionEdits,
    ) -> Float[Tensor, "row pos d_model"]:
        args, kwargs = self._cut(base, layer, rows, start)
        with self.model.running(taps, {layer: edits}):
            output = self.model.layer(layer)(stream, *args, **kwargs)
        return output[0] if isinstance(output, tuple) else output

    def _prefix(self, base: LanguageBaseRun, layer: int, rows: Int[Tensor, "row"], start: int) -> Prefix:
        inputs = base.attention_inputs[layer]
        examples = None if base.size == 1 else rows
        return Prefix(start, inputs.keys[:, :, :start], inputs.values[:, :, :start], inputs.mask, examples)

    def _keys_until(
        self,
        base: LanguageBaseRun,
        layer: int,
        rows: Int[Tensor, "row"],
        start: int,
        stream: Float[Tensor, "row pos d_model"],
        taps: TapsFrom,
        prefix: Prefix,
        expand: frozenset[str],
    ) -> Prefix:
        """The prefix with the rows' own keys and values before the last position."""
        own: list[AttentionInputs] = []

        def stop(inputs: AttentionInputs) -> None:
            own.append(inputs)
            raise StopForward

        edits = AttentionEdits(on_inputs=stop, expand=expand)
        args, kwargs = self._cut(base, layer, rows, start)
        with self.model.running(taps(start), {layer: edits}, must_fire=False), suppress(StopForward):
            self.model.layer(layer)(stream, *args, **kwargs)
        return replace(prefix, own_keys=own[0].keys[:, :, :-1], own_values=own[0].values[:, :, :-1])

    def _cut(
        self, base: LanguageBaseRun, layer: int, rows: Int[Tensor, "row"], start: int
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = base.calls[layer]
        mask = base.attention_inputs[layer].mask

        def cut(x: Tensor) -> Tensor | None:
            return None if x is mask else _cut_positions(x, base, rows, start)

        return _each_tensor(args, cut), _each_tensor(_without_mask(kwargs), cut)


def _truncated(base: LanguageBaseRun, length: int) -> LanguageBaseRun:
    """The first `length` positions of a base run, as a base run."""
    rows = torch.arange(base.size)
    inputs, calls = [], []
    for (args, kwargs), full in zip(base.calls, base.attention_inputs, strict=True):
        mask = None if full.mask is None else full.mask[:, :, :length, :length]
        inputs.append(AttentionInputs(full.keys[:, :, :length], full.values[:, :, :length], mask))

        def cut(x: Tensor, full: AttentionInputs = full, mask: Tensor | None = mask) -> Tensor | None:
            return mask if x is full.mask else _cut_positions(x, base, rows, 0, length)

        calls.append((_each_tensor(args, cut), _each_tensor(_without_mask(kwargs), cut)))
    return LanguageBaseRun(base.ids[:, :length], [x[:, :length] for x in base.streams], calls, inputs)


def _without_mask(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """A resumed layer takes its mask from what the base run's attention saw."""
    return {name: None if name == "attention_mask" else value for name, value in kwargs.items()}


def without_caches(value: Any) -> Any:
    """A module's arguments with every cache left out, to call it once more."""
    return _each_tensor(value, lambda x: x)


def _each_tensor(value: Any, change: Callable[[Tensor], Tensor | None]) -> Any:
    """A layer's arguments with every tensor changed and every cache left out."""
    if isinstance(value, Cache):
        return None
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        return type(value)(_each_tensor(v, change) for v in value)
    if isinstance(value, Mapping):
        return {k: _each_tensor(v, change) for k, v in value.items()}
    return value


def _cut_positions(
    x: Tensor, base: LanguageBaseRun, rows: Int[Tensor, "row"], start: int, end: int | None = None
) -> Tensor:
    """Positions `start` to `end` of a per-position argument ``[pos]`` or ``[1 or batch, pos, ...]``."""
    if x.ndim == 1:
        return x[start:end] if x.shape[0] == base.length else x
    if base.length not in x.shape:
        return x
    if x.shape[1] != base.length or x.shape[0] not in (1, base.size):
        raise UnknownArgument(f"A layer takes an argument of shape {tuple(x.shape)} that cannot be sliced by position.")
    x = x[:, start:end]
    return x if x.shape[0] == 1 else x[rows]
