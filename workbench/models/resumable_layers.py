"""Language models as towers: exact resumption through unmodified Hugging Face layers.

A base run keeps, per decoder layer, the arguments it was called with, its input, and the keys, values and mask that
its attention saw. To resume at layer L and position p, the layer is called on the stored input from p on, with its
per-position arguments cut, every cache argument None, and the base run's earlier keys and values prepended inside the
attention function. Nothing of the family's arithmetic is known here.
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
from workbench.models.attention_hook import AttentionEdits, AttentionInputs, Prefix
from workbench.models.pattern_formula import PatternFormula, formula_of
from workbench.models.resumable import Stream, Tap, TapsFrom

if TYPE_CHECKING:
    from workbench.models.language import HookedLM


class UnknownArgument(UnsupportedModel):
    """A layer was given a per-position argument that nobody knows how to cut."""


class StopForward(Exception):
    """Raised inside a forward once what was wanted is known, to leave it."""


@dataclass
class LanguageBaseRun:
    """A base run of ids ``[batch, pos]``; `streams[i]` enters layer i, the last one leaves the last layer."""

    ids: Int[Tensor, "batch pos"]
    streams: list[Float[Tensor, "batch pos d_model"]] = field(default_factory=list)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    seen: list[AttentionInputs] = field(default_factory=list)

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
        # Only the last position's logits are asked for: those of a whole prompt are much work for a small model.
        keeps = "logits_to_keep" in inspect.signature(model.hf.forward).parameters
        self._last = {"logits_to_keep": 1} if keeps else {}

    @property
    def device(self) -> torch.device:
        """Where activations are made, and where those that were kept are put back."""
        return self.model.device

    def hook_name(self, site: str, layer: int) -> str:
        return self.model.hook_name(site, layer)

    def base_run(
        self, inputs: Int[Tensor, "batch pos"], taps: Mapping[int, Mapping[str, Tap]] | None = None
    ) -> LanguageBaseRun:
        model, base = self.model, LanguageBaseRun(inputs.to(self.model.device))
        runs = {i: AttentionEdits(keep=base.seen.append) for i in range(self.n_layers)}
        handles = []

        def entering(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            base.streams.append(args[0] if args else kwargs["hidden_states"])
            base.calls.append((args[1:], {k: v for k, v in kwargs.items() if k != "hidden_states"}))

        def leaving(_: Any, args: Any, output: Any) -> None:
            base.streams.append(output[0] if isinstance(output, tuple) else output)

        try:
            with torch.no_grad(), model.running((taps or {}).get(0, {}), runs):
                # Registered after the taps, so that what is kept is what the layer really works on.
                handles += [
                    model.layer(i).register_forward_pre_hook(entering, with_kwargs=True) for i in range(self.n_layers)
                ]
                handles.append(model.layer(self.n_layers - 1).register_forward_hook(leaving))
                model.hf.base_model(base.ids, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        return base

    def select(self, base: LanguageBaseRun, index: int) -> LanguageBaseRun:
        return _part(base, slice(index, index + 1), base.length)

    def truncate(self, base: LanguageBaseRun, length: int) -> LanguageBaseRun:
        return _part(base, slice(0, base.size), length)

    def embed(self, inputs: Int[Tensor, "batch pos"]) -> Stream:
        kept: list[Tensor] = []

        def keep(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            kept.append(args[0] if args else kwargs["hidden_states"])
            raise StopForward

        handle = self.model.layer(0).register_forward_pre_hook(keep, with_kwargs=True)
        try:
            with torch.no_grad(), self.model.lock, suppress(StopForward):
                self.model.hf.base_model(inputs.to(self.model.device), use_cache=False)
        finally:
            handle.remove()
        return (kept[0],)

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
        run = AttentionEdits(prefix=prefix, frozen=frozen, expand=expand)
        return (self._call(base, depth, rows, start, stream[0], taps(start), run),)

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
        runs = {layer: AttentionEdits(expand=sites) for layer, sites in (expand or {}).items()}
        with torch.no_grad(), self.model.running(taps.get(0, {}), runs):
            logits = self.model.hf(inputs.to(self.model.device), use_cache=False, **self._last).logits[:, -1]
        return logits if tokens is None else logits[:, tokens]

    @contextmanager
    def weights_frozen(self) -> Iterator[None]:
        with self.model.lock:
            trained = [p for p in self.model.parameters() if p.requires_grad]
            try:
                for p in trained:
                    p.requires_grad_(False)
                yield
            finally:
                for p in trained:
                    p.requires_grad_(True)

    def identity(self) -> bytes | None:
        """What the keys of this model's activations begin with; None where nothing may be kept now."""
        return self.model.identity.now()

    def pattern_formula(self, base: LanguageBaseRun, layer: int) -> PatternFormula | None:
        """How a layer made its pattern in a base run; None where that takes more than rotated q and k."""
        return formula_of(self.model.attentions[layer], base.seen[layer])

    # --- one layer ------------------------------------------------------------------------------------------------

    def _call(
        self,
        base: LanguageBaseRun,
        layer: int,
        rows: Int[Tensor, "row"],
        start: int,
        stream: Float[Tensor, "row pos d_model"],
        taps: Mapping[str, Tap],
        run: AttentionEdits,
    ) -> Float[Tensor, "row pos d_model"]:
        args, kwargs = self._cut(base, layer, rows, start)
        with self.model.running(taps, {layer: run}):
            output = self.model.layer(layer)(stream, *args, **kwargs)
        return output[0] if isinstance(output, tuple) else output

    def _prefix(self, base: LanguageBaseRun, layer: int, rows: Int[Tensor, "row"], start: int) -> Prefix:
        seen = base.seen[layer]
        which = None if base.size == 1 else rows
        return Prefix(start, seen.keys[:, :, :start], seen.values[:, :, :start], seen.mask, which)

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
        kept: list[AttentionInputs] = []

        def keep(seen: AttentionInputs) -> None:
            kept.append(seen)
            raise StopForward

        run = AttentionEdits(keep=keep, expand=expand)
        args, kwargs = self._cut(base, layer, rows, start)
        with self.model.running(taps(start), {layer: run}, must_fire=False), suppress(StopForward):
            self.model.layer(layer)(stream, *args, **kwargs)
        return replace(prefix, own_keys=kept[0].keys[:, :, :-1], own_values=kept[0].values[:, :, :-1])

    def _cut(
        self, base: LanguageBaseRun, layer: int, rows: Int[Tensor, "row"], start: int
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = base.calls[layer]
        mask = base.seen[layer].mask

        def cut(x: Tensor) -> Tensor | None:
            return None if x is mask else _cut_positions(x, base, rows, start)

        return _each_tensor(args, cut), _each_tensor(_without_mask(kwargs), cut)


def _part(base: LanguageBaseRun, inputs: slice, length: int) -> LanguageBaseRun:
    """Some inputs and the first positions of a base run, as a base run."""
    rows = torch.arange(base.size)[inputs]

    def masked(mask: Tensor | None) -> Tensor | None:
        if mask is None:
            return None
        return (mask if mask.shape[0] == 1 else mask[inputs])[:, :, :length, :length]

    seen = [
        AttentionInputs(s.keys[inputs, :, :length], s.values[inputs, :, :length], masked(s.mask)) for s in base.seen
    ]
    calls = []
    for (args, kwargs), before, after in zip(base.calls, base.seen, seen, strict=True):

        def cut(x: Tensor, before: AttentionInputs = before, after: AttentionInputs = after) -> Tensor | None:
            return after.mask if x is before.mask else _cut_positions(x, base, rows, 0, length)

        calls.append((_each_tensor(args, cut), _each_tensor(_without_mask(kwargs), cut)))
    return LanguageBaseRun(base.ids[inputs, :length], [x[inputs, :length] for x in base.streams], calls, seen)


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
        raise UnknownArgument(f"A layer takes an argument of shape {tuple(x.shape)} that cannot be cut to positions.")
    x = x[:, start:end]
    return x if x.shape[0] == 1 else x[rows]
