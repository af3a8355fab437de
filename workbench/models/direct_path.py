"""How heads write into the residual stream and from there into the outputs, through the model's own modules.

Between a head's z and the logits stand a gate, a norm, the output projection, a norm after attention, a multiplier, the
final norm, the unembedding and its scale, each in some families only. None of them is computed again here: the model
runs once, and everything on the way that is not linear in z is held at its value in that run, norms at their scale,
gates and the other branches at their outputs. What is left is linear in z, and its gradient says what each head adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from workbench.errors import UsageError
from workbench.models.norms import held_factor, is_norm, norm_bias, numerator
from workbench.models.resumable import Tap

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel

#: The outputs that are attributed, of the outputs of every input: one number an input.
Score = Callable[[Float[Tensor, "batch n_outputs"]], Float[Tensor, "batch"]]


class DirectPath:
    """What of a model lies on the way from z to its outputs, found on two random inputs.

    Attributes:
        norms: the norms on the way, and possibly others.
        held: the modules beside attention that read the stream: MLPs and the like, whose outputs are held.
        gated: layers in which what attention gives for z depends on the stream too: something like a gate stands
            between z and the output projection.
    """

    def __init__(self, model: HookedModel) -> None:
        self.model = model
        self.norms: set[nn.Module] = set()
        self.held: set[nn.Module] = set()
        self.gated: set[int] = set()
        with _one_run(model), torch.enable_grad(), model.weights_frozen():
            self._classify(model.trial())

    def read_directions(
        self,
        inputs: Shaped[Tensor, "batch pos *rest"],
        score: Score,
        taps: Mapping[str, Tap] | None = None,
    ) -> tuple[Float[Tensor, "batch layer pos head d_head"], Float[Tensor, "batch layer pos head d_head"]]:
        """z of a run, and what of it the score reads along direct paths: ``(z · direction).sum(-1)`` is what a head at
        a position adds to the score.

        Args:
            inputs: as for `model.outputs`.
            score: of the outputs before any soft cap; linear in them.
            taps: edits of the run (hook name → function).

        Raises:
            UsageError: z of a layer reaches no output.
        """
        model, leaves = self.model, {}
        edits = dict(taps or {})

        def leaf(layer: int, edit: Tap | None) -> Tap:
            def tap(z: Tensor) -> Tensor:
                new = None if edit is None else edit(z)
                leaves[layer] = (z if new is None else new).detach().requires_grad_()
                return leaves[layer]

            return tap

        for layer in range(model.n_layers):
            name = model.hook_name("z", layer)
            edits[name] = leaf(layer, edits.get(name))
        with _one_run(model), torch.enable_grad(), model.weights_frozen(), self._holding(), model.running(edits):
            with without_cap(model):
                total = score(model.outputs(inputs.to(model.device))).sum()
            if not total.requires_grad:
                raise UsageError("no head reaches the outputs directly.")
            gradients = torch.autograd.grad(total, [leaves[i] for i in range(model.n_layers)], allow_unused=True)
        for layer, gradient in enumerate(gradients):
            if gradient is None or not bool(gradient.any()):
                raise UsageError(f"the heads of layer {layer} do not reach the outputs directly.")
        z = torch.stack([leaves[i].detach() for i in range(model.n_layers)], 1)
        return z, torch.stack([x for x in gradients if x is not None], 1)

    @torch.no_grad()
    def head_effects(
        self, inputs: Shaped[Tensor, "batch pos *rest"], layer: int, head: int
    ) -> Float[Tensor, "batch n_outputs"]:
        """What a head's z at the last position adds to every output directly, before a soft cap: the outputs with it,
        less those without it and all else held."""
        model, values = self.model, _Values()
        name = model.hook_name("z", layer)

        def without_head(z: Float[Tensor, "batch pos head d_head"]) -> Float[Tensor, "batch pos head d_head"]:
            z = z.clone()
            z[:, -1, head] = 0
            return z

        with _one_run(model), self._holding(values), without_cap(model):
            with model.running({name: lambda z: None}):
                outputs = model.outputs(inputs)
            values.rewind()
            # Attention's input is held too, so that only this z changes.
            with model.running({name: without_head}):
                return outputs - model.outputs(inputs)

    # --- proof --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def difference(self, inputs: Shaped[Tensor, "batch pos *rest"], score: Score) -> tuple[float, float]:
        """The largest error of attributions in this model, and the largest score it is an error of.

        Everything that is not linear is held at its value, and z of every head multiplied by a number of its own: the
        score has to change by as much as the heads' attributions say. Without any change it has to be the model's.
        """
        model, values = self.model, _Values()
        z, directions = self.read_directions(inputs, score)
        parts = (z * directions).sum((2, -1))  # [batch, layer, head]
        taps: dict[str, Tap] = {}
        with _one_run(model), self._holding(values), without_cap(model):
            base = score(model.outputs(inputs))
        generator = torch.Generator().manual_seed(0)
        factors = torch.rand(model.n_layers, model.n_heads, generator=generator).to(z) * 2 - 1
        errors, sizes = [], [parts.abs().sum((1, 2)), base.abs()]
        for factor in (factors, torch.zeros_like(factors)):
            for layer in range(model.n_layers):
                taps[model.hook_name("z", layer)] = lambda x, f=factor[layer], i=layer: z[:, i] * f[:, None]
            values.rewind()
            with _one_run(model), self._holding(values), model.running(taps), without_cap(model):
                changed = score(model.outputs(inputs))
            errors.append(changed - base - (parts * (factor - 1)).sum((1, 2)))
        with _one_run(model), without_cap(model):
            errors.append(score(model.outputs(inputs)) - base)
        return float(torch.stack(errors).abs().max()), float(torch.stack(sizes).abs().max())

    # --- which module is what -----------------------------------------------------------------------------------------

    def _classify(self, inputs: Tensor) -> None:
        """One run in which every layer's input is a leaf, attention's output a constant: what then depends on the leaf
        reads the stream, and attention whose output depends on its input, z being constant, is gated."""
        model = self.model
        outer = {module: i for i in range(model.n_layers) for module in beside_attention(model, i)}

        def stream_leaf(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            x = args[0] if args else kwargs["hidden_states"]
            x = x.detach().requires_grad_()
            return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": x})

        def attention_done(layer: int) -> Callable[..., Any]:
            def hook(_: nn.Module, args: Any, output: Any) -> Any:
                if _requires_grad(output[0] if isinstance(output, tuple) else output):
                    self.gated.add(layer)
                return detached(output)

            return hook

        def done(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            x, y = _input_of(args, kwargs), output
            if not isinstance(x, Tensor):
                return None
            if isinstance(y, Tensor) and y.shape == x.shape:
                if is_norm(module, x):
                    self.norms.add(module)
                    return None
                if torch.equal(x, y):
                    return None
            if module in outer and (_requires_grad(args) or _requires_grad(kwargs)):
                self.held.add(module)
                return detached(output)
            return None

        with ExitStack() as stack:
            for layer, attention in enumerate(model.attentions):
                stack.callback(attention.register_forward_pre_hook(stream_leaf, with_kwargs=True).remove)
                stack.callback(attention.register_forward_hook(attention_done(layer)).remove)
                handle = model.layer(layer).register_forward_pre_hook(stream_leaf, with_kwargs=True)
                stack.callback(handle.remove)
            for module in {*outer, *without_parts(model.hf)}:
                stack.callback(module.register_forward_hook(done, with_kwargs=True).remove)
            taps = {model.hook_name("z", i): lambda z: z.detach() for i in range(model.n_layers)}
            stack.enter_context(model.running(taps))
            model.outputs(inputs)

    # --- holding ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _holding(self, values: _Values | None = None) -> Iterator[None]:
        """While it lasts, all but z is constant, and norms on the way have the scale of the run: of this run, or of the
        one in which `values` was filled."""

        def enter_attention(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            arguments = args, kwargs
            return detached(arguments) if values is None else values.of(module, lambda: arguments)

        def leave_held(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            return detached(output) if values is None else values.of(module, lambda: output)

        def leave_norm(norm: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            x = args[0]
            if values is None and not x.requires_grad:
                return None
            bias, own = norm_bias(norm, x), numerator(norm, x)
            if values is None:
                with torch.no_grad():
                    factor = held_factor(own, output, bias)
                linear = own * factor
                return (output.detach() + (linear - linear.detach())).to(output.dtype)
            factor = values.of(norm, lambda: held_factor(own, output, bias))
            return (own * factor + bias).to(output.dtype)

        with ExitStack() as stack:
            for attention in self.model.attentions:
                stack.callback(attention.register_forward_pre_hook(enter_attention, with_kwargs=True).remove)
            for hook, modules in ((leave_held, self.held), (leave_norm, self.norms)):
                for module in modules:
                    stack.callback(module.register_forward_hook(hook).remove)
            yield


class _Values:
    """Values of a run by the module that they are of, in the order of its calls: taken once, then given back."""

    def __init__(self) -> None:
        self._of: dict[nn.Module, list[Any]] = {}
        self._next: dict[nn.Module, int] | None = None

    def of(self, module: nn.Module, value: Callable[[], Any]) -> Any:
        """The value of this call in the run that was recorded; in that run itself, the one it has."""
        if self._next is None:
            self._of.setdefault(module, []).append(new := value())
            return new
        index = self._next.get(module, 0)
        self._next[module] = index + 1
        return self._of[module][index]

    def rewind(self) -> None:
        """From now on give back what was taken, from the first call on."""
        self._next = {}


def beside_attention(model: HookedModel, layer: int) -> list[nn.Module]:
    """The outermost modules of a layer that are not attention, are not in it and do not hold it."""
    attention = model.attentions[layer]

    def inside(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if child is attention:
                continue
            if isinstance(child, nn.ModuleList | nn.ModuleDict) or any(part is attention for part in child.modules()):
                yield from inside(child)
            else:
                yield child

    return list(inside(model.layer(layer)))


@contextmanager
def without_cap(model: HookedModel) -> Iterator[None]:
    """While it lasts, a language model's logits are those before its soft cap, which is not linear."""
    config = model.config
    cap = getattr(config, "final_logit_softcapping", None)
    if cap is None:
        yield
        return
    fields = vars(config)  # some configurations do not take None for it
    try:
        fields["final_logit_softcapping"] = None
        yield
    finally:
        fields["final_logit_softcapping"] = cap


def detached(value: Any) -> Any:
    """The value with every tensor in it a constant."""
    return each_tensor(value, Tensor.detach)


def each_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A module's arguments or output with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)(each_tensor(item, change) for item in value)
    if type(value) is dict:
        return {name: each_tensor(item, change) for name, item in value.items()}
    return value


def _requires_grad(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.requires_grad
    if isinstance(value, Mapping):
        return any(map(_requires_grad, value.values()))
    return isinstance(value, Sequence) and not isinstance(value, str) and any(map(_requires_grad, value))


def _input_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return args[0] if args else kwargs.get("hidden_states")


def without_parts(model: nn.Module) -> list[nn.Module]:
    """The modules inside a module that have no parts of their own."""
    return [module for module in model.modules() if not any(True for _ in module.children())]


@contextmanager
def _one_run(model: HookedModel) -> Iterator[None]:
    """Hold the model, and leave it as it was found."""
    with model.lock, model.state_put_back():
        yield
