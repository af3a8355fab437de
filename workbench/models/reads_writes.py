"""How heads read from and write to the residual stream, through the model's own layers, one layer at a time.

A layer is called alone on rows of vectors at position 0, where a rotation is none, with zeros at further positions
where the model takes no shorter input, and q, k and v are caught on their way into attention; or z is given to it in
place of attention, and what it adds to the stream is caught. So fused and latent projections, norms of q and k, norms
behind attention and multipliers need no code of their own. *Bare* calls leave out what weights alone do not say: the
norms' denominators, and gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.errors import UnsupportedModel, UsageError, WorkbenchError
from workbench.models.anatomy import find
from workbench.models.direct_path import beside_attention, each_tensor, without_cap, without_parts
from workbench.models.norms import is_norm, numerator
from workbench.models.precision import TOLERANCE
from workbench.models.projections import bias_of
from workbench.models.resumable import StopForward
from workbench.models.resumable_layers import ResumableLayers
from workbench.models.taps import on_input, on_output

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel

#: Rows that go through a layer at once, times positions.
ROWS = 2048


@dataclass(frozen=True)
class Reads:
    """What attention reads of rows of the stream at position 0.

    Attributes:
        normed: what the attention module is called with.
        q, k, v: what attention receives.
    """

    normed: Float[Tensor, "row d_model"]
    q: Float[Tensor, "row head d_head"]
    k: Float[Tensor, "row kv_head d_head"]
    v: Float[Tensor, "row kv_head d_value"]


class ReadsWrites:
    """The layers of a language or vision model, each called alone.

    Raises:
        UsageError: a layer cannot be called alone.
    """

    def __init__(self, model: HookedModel) -> None:
        self.model, self._layers = model, ResumableLayers(model)
        self._base = self._layers.base_run(model.shortest_trial())
        if self._base.streams[0].shape != (1, self._base.length, model.d_model):
            shape, n = tuple(self._base.streams[0].shape), self._base.length
            what = "one token" if n == 1 else f"{n} positions"
            raise UsageError(f"the layers carry {shape} for {what}, which is no residual stream.")

    @torch.no_grad()
    def reads(
        self, layer: int, stream: Float[Tensor, "row d_model"], *, bare: bool = False, normed: bool = False
    ) -> Reads:
        """What a layer's attention reads of rows of the stream.

        Args:
            bare: leave out the norms' denominators and biases.
            normed: the rows are what attention itself is called with, behind the norm before it.
        """
        model, stream = self.model, stream.to(self.model.dtype)
        caught: dict[str, Tensor] = {}

        def catch(site: str, x: Tensor) -> None:
            caught[site] = x[:, 0].clone()
            if site == "v":
                raise StopForward

        def at_attention(x: Tensor) -> Tensor | None:
            new = self._at_first(stream) if normed else None
            caught["normed"] = (x if new is None else new)[:, 0].clone()
            return new

        taps = {model.hook_name(site, layer): lambda x, site=site: catch(site, x) for site in ("q", "k", "v")}
        with ExitStack() as stack:
            stack.enter_context(model.lock)
            stack.enter_context(self._numerators(without_parts(model.layer(layer))) if bare else nullcontext())
            for handle in on_input(model.attentions[layer], at_attention):
                stack.callback(handle.remove)
            with suppress(StopForward):
                self._call(layer, stream, lambda _: taps)
        if caught.keys() != {"normed", "q", "k", "v"}:
            raise UsageError(f"layer {layer} does not read the stream by itself.")
        return Reads(**caught)

    @torch.no_grad()
    def writes(
        self,
        layer: int,
        z: Float[Tensor, "row head d_value"],
        *,
        bare: bool = False,
        normed: Float[Tensor, "row d_model"] | None = None,
    ) -> Float[Tensor, "row d_model"]:
        """What a layer's attention adds to the stream for rows of z, beyond what it adds for zeros.

        Args:
            bare: leave out the norms' denominators, and gates.
            normed: what attention is called with, for gates; zeros by default.
        """
        model, anatomy, gated = self.model, self.model.anatomy, layer in self.model.additivity.gated
        attention, path = model.attentions[layer], model.additivity.path
        output = find(attention, anatomy.output) if anatomy.output else None
        if bare and gated and output is None:
            raise UsageError(f"between z and what layer {layer} adds to the stream stands a gate.")
        if path is None:
            raise UsageError(model.additivity.why_not)
        held = [module for module in beside_attention(model, layer) if module in path.held]
        z = torch.cat([z, torch.zeros_like(z[:1])]).to(model.dtype)
        normed = None if normed is None else torch.cat([normed, normed[:1]]).to(model.dtype)
        with ExitStack() as stack:
            stack.enter_context(model.lock)
            stack.enter_context(self._numerators(without_parts(model.layer(layer))) if bare else nullcontext())
            for module in held:
                handle = module.register_forward_hook(lambda _, __, x: each_tensor(x, torch.zeros_like))
                stack.callback(handle.remove)
            handles = [] if normed is None else on_input(attention, lambda _: self._at_first(normed))
            if output is not None:
                bias = _bias_of_output(output, z.new_zeros(1, model.d_model), layer)  # which a norm behind it would see
                handles += on_output(output, lambda x: x - bias)
                if bare and gated:
                    handles += on_input(output, lambda _: self._at_first(z.flatten(1)))
            for handle in handles:
                stack.callback(handle.remove)
            added = self._call(layer, z.new_zeros(len(z), model.d_model), lambda _: {}, self._at_first(z))
        return added[:-1] - added[-1:]

    def read_matrices(
        self, layer: int
    ) -> tuple[
        Float[Tensor, "d_model head d_head"],
        Float[Tensor, "d_model kv_head d_head"],
        Float[Tensor, "d_model kv_head d_value"],
    ]:
        """What a layer's q, k and v read of the stream, with the norms' gains and centring, without denominators,
        biases and positions.

        Raises:
            UsageError: they are not linear in the stream.
        """
        identity = torch.eye(self.model.d_model, device=self.model.device, dtype=self.model.dtype)
        q, k, v = self.bare_reads(layer, identity)
        probe = self.probe(3, self.model.d_model)
        for matrix, read in zip((q, k, v), self.bare_reads(layer, probe), strict=True):
            if not same(torch.einsum("rm,mhd->rhd", probe, matrix), read):
                raise UsageError(f"q, k and v of layer {layer} are not linear in the normed stream.")
        return q, k, v

    def bare_reads(self, layer: int, stream: Float[Tensor, "row d_model"]) -> list[Float[Tensor, "row some_head d"]]:
        """q, k and v of rows of the stream, see `read_matrices`."""
        zero = self.reads(layer, torch.zeros_like(stream[:1]), bare=True)
        parts = [self.reads(layer, rows, bare=True) for rows in stream.split(self._at_once)]
        return [torch.cat([getattr(x, site) for x in parts]) - getattr(zero, site) for site in ("q", "k", "v")]

    def write_matrix(self, layer: int, d_value: int) -> Float[Tensor, "head d_value d_model"]:
        """What a layer adds to the stream for z, with the gains and centring of the norms behind it and multipliers,
        without denominators, biases and gates.

        Raises:
            UsageError: it is not linear in z.
        """
        heads = (self.model.n_heads, d_value)
        identity = torch.eye(heads[0] * d_value, device=self.model.device, dtype=self.model.dtype)
        matrix, probe = self.bare_writes(layer, identity.unflatten(1, heads)), self.probe(3, *heads)
        if not same(probe.flatten(1) @ matrix, self.bare_writes(layer, probe)):
            raise UsageError(f"what layer {layer} adds to the stream is not linear in z.")
        return matrix.unflatten(0, heads)

    def bare_writes(self, layer: int, z: Float[Tensor, "row head d_value"]) -> Float[Tensor, "row d_model"]:
        """What is added to the stream for rows of z, see `write_matrix`."""
        return torch.cat([self.writes(layer, rows, bare=True) for rows in z.split(self._at_once)])

    @torch.no_grad()
    def readout_matrix(self) -> Float[Tensor, "d_model n_outputs"]:
        """What the outputs, before a soft cap, read of the stream behind the last layer, with the final norm's gain and
        centring, without its denominator and biases.

        Raises:
            UsageError: they are not linear in the normed stream.
        """
        model = self.model
        in_layers = set(model.module(model.anatomy.layers).modules())
        norms = [module for module in without_parts(model.hf) if module not in in_layers]

        def outputs(rows: Float[Tensor, "row d_model"]) -> Float[Tensor, "row n_outputs"]:
            ids = self._base.inputs.expand(len(rows), *self._base.inputs.shape[1:])
            return model.read_out(ids, self._at_first(rows), None, self._base.rest)

        with model.lock, without_cap(model), self._numerators(norms):
            zero, probe = outputs(self.probe(1, model.d_model) * 0), self.probe(3, model.d_model)
            identity = torch.eye(model.d_model, device=model.device, dtype=model.dtype)
            matrix = torch.cat([outputs(rows) for rows in identity.split(ROWS // 8)]) - zero
            if not same(probe @ matrix, outputs(probe) - zero):
                raise UsageError("the outputs are not linear in the normed stream.")
        return matrix

    def probe(self, *shape: int) -> Tensor:
        """Random rows; the same every time."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(*shape, generator=generator).to(self.model.device, self.model.dtype)

    def _call(
        self,
        layer: int,
        stream: Float[Tensor, "row d_model"],
        taps: Callable[[int], dict[str, Any]],
        frozen: Tensor | None = None,
    ) -> Float[Tensor, "row d_model"]:
        rows = torch.zeros(len(stream), dtype=torch.long)
        try:
            first = self._at_first(stream)
            (output,) = self._layers.block(self._base, layer, rows, 0, (first,), taps, frozen, all_positions=True)
            return output[:, 0]
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError, WorkbenchError) as error:
            raise UsageError(f"layer {layer} cannot be called alone ({error}).") from None

    @property
    def _at_once(self) -> int:
        return max(1, ROWS // self._base.length)

    def _at_first(self, rows: Float[Tensor, "row *n"]) -> Float[Tensor, "row pos *n"]:
        """Rows at position 0, and zeros at the others."""
        first = rows[:, None]
        if self._base.length == 1:
            return first
        return torch.cat([first, torch.zeros_like(first).expand(-1, self._base.length - 1, *first.shape[2:])], 1)

    @contextmanager
    def _numerators(self, modules: Iterable[nn.Module]) -> Iterator[None]:
        """While it lasts, the norms among some modules do not divide and add nothing."""

        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor | None:
            x = args[0] if args else None
            if not isinstance(x, Tensor) or not isinstance(output, Tensor) or output.shape != x.shape:
                return None
            return numerator(module, x).to(output.dtype) if is_norm(module, x) else None

        with ExitStack() as stack:
            for module in modules:
                stack.callback(module.register_forward_hook(hook).remove)
            yield


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two arrays are equal up to their precision."""
    if a.shape != b.shape:
        return False
    tolerance = TOLERANCE.get(b.dtype, 1e-4)
    return bool((a.to(b.dtype) - b).abs().max() <= tolerance * b.abs().max().clamp(min=1e-30))


def _bias_of_output(output: nn.Module, like: Tensor, layer: int) -> Float[Tensor, "d_model"]:
    try:
        return bias_of(output, like)
    except UnsupportedModel:
        raise UsageError(f"what layer {layer} adds to the stream is not linear in z.") from None
