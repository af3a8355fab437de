"""What heads add to the logits, by a model's own modules: the attribution and weights part of `PlainDecoder`.

To attribute, a forward is made linear: every norm keeps the scale that it had (``x ↦ y₀ + gain (x − x₀)``, less the
mean where it centres), every branch but the edited head's keeps its output, and a soft cap on the logits is lifted.
What then moves when a head's z is taken away is what it adds, through whatever norms and factors this model has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from tests.oracle.plain_decoder import InPlace, NoOracle, PlainDecoder

Metric = Callable[[Tensor], float]


class PlainAttribution:
    """Attributions of one model, at the last position."""

    def __init__(self, plain: PlainDecoder) -> None:
        self.plain = plain
        self.model: Any = deepcopy(plain.model)
        config = self.model.config.get_text_config()
        if getattr(config, "final_logit_softcapping", None):
            config.final_logit_softcapping = 1e6
        self.norms = norms_of(self.model)

    def heads(self, ids: Tensor, metric: Metric) -> tuple[Tensor, Tensor, float]:
        """Of each head (layers with attention only) what it adds to `metric`; what it would add were its last row
        uniform over what it sees; and the sum of the first over all heads, from one forward without them."""
        recorded = self._recorded(ids)
        base = metric(self._linear(ids, recorded, {}))
        seen = [x[-1] for x in self.plain.visible(ids, *self.plain.layers)]
        values = self.plain.read(ids, "v", *self.plain.layers)
        gates = self._gates(ids)
        actual, uniform = (torch.zeros(len(self.plain.layers), self.plain.n_heads) for _ in range(2))
        for i, layer in enumerate(self.plain.layers):
            for head in range(self.plain.n_heads):
                group = self.plain.n_heads // values[i].shape[1]
                mean = values[i][seen[i][head], head // group].mean(0) * gates[i][head]
                without = metric(self._linear(ids, recorded, {layer: lambda z, h=head: z[-1, h].zero_()}))
                instead = metric(self._linear(ids, recorded, {layer: lambda z, h=head, m=mean: z[-1, h].copy_(m)}))
                actual[i, head], uniform[i, head] = base - without, instead - without
        none = metric(self._linear(ids, recorded, {layer: lambda z: z[-1].zero_() for layer in self.plain.layers}))
        return actual, uniform, float(base - none)

    def writes(self, ids: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """The last position's z of a layer, and what its heads together add to the stream at that layer's end."""
        recorded, streams = self._recorded(ids), []

        def record(_: nn.Module, __: Any, output: Any) -> None:
            streams.append((output[0] if isinstance(output, tuple) else output)[0, -1])

        handle = self.plain.layer(layer, self.model).register_forward_hook(record)
        try:
            self._linear(ids, recorded, {layer: lambda z: None})
            self._linear(ids, recorded, {layer: lambda z: z[-1].zero_()})
        finally:
            handle.remove()
        return self.plain.read(ids, "z", layer)[0][-1], streams[0] - streams[1]

    def _gates(self, ids: Tensor) -> list[Tensor]:
        """What a gate or a norm with its scale held makes of each layer's last z, as factors ``[head, d_head]``."""
        plain = self.plain
        entries = zip(plain.read(ids, "z", *plain.layers), plain.read(ids, "attention", *plain.layers), strict=True)
        return [torch.where((z[-1] - x[-1]).abs() < 1e-5, 1.0, z[-1] / x[-1]) for z, x in entries]

    def _recorded(self, ids: Tensor) -> dict[str, Any]:
        """Inputs and outputs of norms, outputs of branches, in a plain forward. A norm that runs for q and for k is
        not held: neither depends on the layer's own z."""
        recorded: dict[str, Any] = {}
        of_attention = tuple(f"{name}." for name in self.plain._attention.values())
        twice: set[str] = set()

        def record(name: str) -> Callable[..., None]:
            def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
                if name in recorded and not name.startswith(of_attention):
                    raise NoOracle("a norm or a branch runs twice")
                if name in recorded:
                    twice.add(name)
                recorded[name] = (args[0] if args else None, output)

            return hook

        with torch.no_grad(), ExitStack() as stack:
            for name in {*self.norms, *self._branches({})}:
                stack.callback(self.model.get_submodule(name).register_forward_hook(record(name)).remove)
            self.model(ids[None], use_cache=False)
        return {name: row for name, row in recorded.items() if name not in twice}

    def _linear(self, ids: Tensor, recorded: Mapping[str, Any], edits: Mapping[int, InPlace]) -> Tensor:
        """The last position's logits of the linear forward, with z edited."""

        def hold(x0: Tensor, y0: Tensor, norm: nn.Module) -> Callable[..., Tensor]:
            centred, gain = linear_form(norm, x0, y0)
            return lambda _, args, __: y0 + gain * (centred(args[0]) - centred(x0))

        def freeze(output: Any) -> Callable[..., Any]:
            return lambda *_: output

        with torch.no_grad(), ExitStack() as stack:
            for name in self.norms:
                module = self.model.get_submodule(name)
                if name in recorded:
                    x0, y0 = recorded[name]
                    stack.callback(module.register_forward_hook(hold(x0, y0, module)).remove)
            for name in self._branches(edits):
                if name in recorded:
                    module = self.model.get_submodule(name)
                    stack.callback(module.register_forward_hook(freeze(recorded[name][1])).remove)
            for layer, change in edits.items():
                stack.enter_context(self.plain._z(self.model, layer, change))
            return self.model(ids[None], use_cache=False).logits[0, -1]

    def _branches(self, edits: Mapping[int, InPlace]) -> Iterator[str]:
        """The parts of layers that have weights and are no norms, but for the attention of edited layers."""
        for layer in range(self.plain.n_layers):
            base = self.plain.layer_name(layer)
            for name, module in self.plain.layer(layer, self.model).named_children():
                if f"{base}.{name}" in self.norms or not any(True for _ in module.parameters()):
                    continue
                attention = self.plain._attention.get(layer, "")
                if layer in edits and f"{attention}.".startswith(f"{base}.{name}."):
                    continue
                yield f"{base}.{name}"


def norms_of(model: nn.Module) -> list[str]:
    """Names of the norms: modules without parts whose class says so."""
    return [
        name
        for name, module in model.named_modules()
        if "norm" in type(module).__name__.lower() and not any(True for _ in module.children())
    ]


def linear_form(norm: nn.Module, x: Tensor, y: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A norm that gave y for x, as it acts with its scale held: what it does to its input first (less the mean, or
    nothing), and what it multiplies that by. Read off its outputs."""
    probe = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    centres = torch.allclose(norm(probe + 3), norm(probe), atol=1e-4)
    bias = norm(torch.zeros_like(x)) if centres else torch.zeros_like(x)

    def centred(x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True) if centres else x

    return centred, torch.where(centred(x) == 0, torch.zeros_like(x), (y - bias) / centred(x))


class PlainWeights:
    """Each head's ``W_V`` and ``W_O`` with the norms' gains, read off the modules' outputs; and what a head writes."""

    def __init__(self, plain: PlainDecoder) -> None:
        self.plain, self.model = plain, plain.model
        self.norms = norms_of(self.model)
        self.embedding: Any = self.model.get_input_embeddings()
        self.unembedding: Any = self.model.get_output_embeddings()
        self.before, self.between, self.behind = dict[int, str](), dict[int, str](), dict[int, str]()
        self._find_norms()

    def circuits(self, layer: int) -> tuple[Tensor, Tensor]:
        """``[head, d_model, d_head]`` and ``[head, d_head, d_model]``, the norms' gains folded in.

        Raises:
            NoOracle: values are not linear in the attention module's input.
        """
        plain = self.plain
        width = self.embedding.weight.shape[1]
        basis = torch.eye(width)
        zero = self._values(layer, torch.zeros(width, width))
        values = self._values(layer, basis) - zero
        if not torch.allclose(self._values(layer, 3 * basis) - zero, 3 * values, atol=1e-4):
            raise NoOracle("values are not linear in what attention reads")
        values = values.repeat_interleave(plain.n_heads // values.shape[1], 1).transpose(0, 1)
        values = self._gain(self.before.get(layer), values, reads=True)
        project = plain.output_projection(layer)
        rows = torch.eye(plain.n_heads * plain.d_head)
        written = (project(rows) - project(torch.zeros_like(rows))).unflatten(0, (plain.n_heads, plain.d_head))
        written = self._gain(self.behind.get(layer), written, reads=False)
        if name := self.between.get(layer):
            gain = self._gain(name, torch.eye(plain.n_heads * plain.d_head), reads=False).diagonal()
            written = gain.view(plain.n_heads, plain.d_head, 1) * written
        return values, written * self._factor(layer)

    def _factor(self, layer: int) -> float:
        """What multiplies a branch before it joins the stream, read off what the layer's heads add to it.

        Raises:
            NoOracle: it is no factor.
        """
        ids, project = torch.arange(7, 14), self.plain.output_projection(layer)
        z, added = PlainAttribution(self.plain).writes(ids, layer)
        rows = z.flatten()[None, None]
        out = (project(rows) - project(torch.zeros_like(rows)))[0, 0]
        if name := self.behind.get(layer):
            norm = self.model.get_submodule(name)
            _, x0, y0 = next(row for row in self._norm_calls(ids) if row[0] == name)
            out = out * linear_form(norm, x0, y0)[1][0, -1]
        factor = float(out @ added / (out @ out))
        if not torch.allclose(out * factor, added, atol=1e-3 * float(added.abs().max())):
            raise NoOracle("what heads write reaches the stream otherwise than times a factor")
        return factor

    def _norm_calls(self, ids: Tensor) -> list[tuple[str, Tensor, Tensor]]:
        """Name, input and output of each norm in a forward."""
        calls: list[tuple[str, Tensor, Tensor]] = []

        def record(name: str) -> Callable[..., None]:
            return lambda _, args, output: calls.append((name, args[0], output)) if args else None

        with torch.no_grad(), ExitStack() as stack:
            for name in self.norms:
                stack.callback(self.model.get_submodule(name).register_forward_hook(record(name)).remove)
            self.model(ids[None], use_cache=False)
        return calls

    def unembedded(self) -> Tensor:
        """``[d_model, d_vocab]``, with the final norm's gain."""
        return self._gain(self.final, self.unembedding.weight.T, reads=True)

    def copying(self, layer: int) -> tuple[Tensor, Tensor]:
        """Of each head ``Σ Re λ / Σ |λ|`` of the full OV circuit ``[d_vocab, d_vocab]``, and the size of its OV."""
        V, O = self.circuits(layer)  # noqa: E741 - the field's name for it
        full = self.embedding.weight @ V @ O @ self.unembedded()
        eigenvalues = torch.linalg.eigvals(full.double())
        return eigenvalues.real.sum(-1) / eigenvalues.abs().sum(-1), (V @ O).flatten(1).norm(dim=1)

    def _values(self, layer: int, x: Tensor) -> Tensor:
        """``[pos, kv_head, d_head]`` of an attention module that is given x ``[pos, d_model]``."""
        plain, values = self.plain, []

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            if args:
                return (x[None], *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": x[None]}

        handle = plain.attention(layer, plain.eager).register_forward_pre_hook(before, with_kwargs=True)
        try:
            ids = torch.arange(len(x)) % 90 + 3
            plain.logits(ids, {("v", layer): lambda v: values.append(v.clone())})
        finally:
            handle.remove()
        return values[0]

    def _gain(self, name: str | None, matrix: Tensor, *, reads: bool) -> Tensor:
        """The matrix with a norm's gain, and its centring where the matrix reads what was normed."""
        if not name:
            return matrix
        norm = self.model.get_submodule(name)
        x = 100 * torch.randn(1, 1, matrix.shape[-2 if reads else -1], generator=torch.Generator().manual_seed(0))
        y = norm(x)
        centred, gain = linear_form(norm, x, y)
        gain = (gain * centred(x).pow(2).mean().sqrt())[0, 0]
        if not reads:
            return matrix * gain
        folded = gain[:, None] * matrix
        return folded - folded.mean(-2, keepdim=True) if not torch.equal(centred(x), x) else folded

    def _find_norms(self) -> None:
        """Which norm gives the attention's input, which reads its output, which gives the unembedding's input: those
        whose tensors are the same."""
        ids = torch.arange(7, 14)
        outputs = self._norm_calls(ids)
        entries = dict(zip(self.plain.layers, self.plain.read(ids, "z", *self.plain.layers), strict=True))
        inputs, branches = dict[int, Tensor](), dict[int, Tensor]()
        last: list[Tensor] = []
        plain = self.plain

        def attention(layer: int) -> Callable[..., None]:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
                inputs[layer] = args[0] if args else kwargs["hidden_states"]
                branches[layer] = output[0] if isinstance(output, tuple) else output

            return hook

        with torch.no_grad(), ExitStack() as stack:
            for layer in plain.layers:
                hook = plain.attention(layer).register_forward_hook(attention(layer), with_kwargs=True)
                stack.callback(hook.remove)
            unembedding = self.unembedding.register_forward_pre_hook(lambda _, args: last.append(args[0]))
            stack.callback(unembedding.remove)
            self.model(ids[None], use_cache=False)
        for layer in plain.layers:
            own = {n for n in self.norms if n.startswith(f"{plain.layer_name(layer)}.")}  # layer 0 may have none
            self.before[layer] = next((n for n, _, y in outputs if n in own and torch.equal(y, inputs[layer])), "")
            z = entries[layer].flatten(1)[None]
            self.between[layer] = next((n for n, _, y in outputs if y.shape == z.shape and torch.equal(y, z)), "")
            self.behind[layer] = next((n for n, x, _ in outputs if torch.equal(x, branches[layer])), "")
        self.final = next((n for n, _, y in outputs if y.shape == last[0].shape and torch.equal(y, last[0])), "")


@contextmanager
def stream_replaced(plain: PlainDecoder, stream: Tensor) -> Iterator[None]:
    """The stream behind the last layer is `stream` ``[pos, d_model]``: a logit lens, read out by the model itself."""
    with plain._stream(plain.model, plain.n_layers - 1, "resid_post", lambda x: x.copy_(stream)):
        yield
