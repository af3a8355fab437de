"""An oracle for any decoder of transformers: plain hooks, full forwards, one prompt at a time, nothing of the engine.

z is read and edited by a forward pre-hook on the output projection; the residual stream by hooks on the layers; q, k,
v and the pattern by replacing the model file's own ``eager_attention_forward``, in a copy that runs eager attention.
Where these parts are is seen in one forward: which modules call the attention function, and which of their projections
runs after it and reads what it gave.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

#: Changes the activation of one prompt in place: ``[pos, ...]``, a pattern ``[dest, head, src]``.
InPlace = Callable[[Tensor], object]
#: (site, layer) → what changes its activation.
Edits = Mapping[tuple[str, int], InPlace]


class NoOracle(Exception):
    """The model has a part that this oracle cannot find; the message says which."""


class PlainDecoder:
    """A causal language model of transformers, read and edited without the workbench.

    Attributes:
        model: the model as it is, for z and the residual stream. eager: a copy with eager attention.
        layers: indices of the layers that have attention.
        n_heads, n_kv_heads, d_head: of queries, of keys and values, and of z.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model
        self.eager: Any = deepcopy(model)
        self.eager.set_attn_implementation("eager")
        self._states = [(m, _state(m)) for hf in (self.model, self.eager) for m in hf.modules() if _has_state(m)]
        calls = self._attention_calls()
        if not calls:
            raise NoOracle("no module calls an eager_attention_forward of its file")
        modules = [name for name, _, _ in calls]
        if len(set(modules)) < len(modules):
            raise NoOracle("a module calls the attention function more than once")
        self._list = self._layer_list(modules)
        self._attention = {int(name.removeprefix(f"{self._list}.").split(".")[0]): name for name in modules}
        if len(self._attention) < len(modules):
            raise NoOracle("a layer has more than one attention")
        self.layers = sorted(self._attention)
        shapes = {(z, kv) for _, z, kv in calls}
        if len(shapes) > 1:
            raise NoOracle("heads differ between layers")
        ((self.n_heads, self.d_head), self.n_kv_heads), *_ = shapes
        self.n_layers = len(self.model.get_submodule(self._list))
        self._outputs: dict[int, str] = {}
        self._z_is_pattern_times_v = False

    # --- reading and editing ------------------------------------------------------------------------------------------

    def logits(self, ids: Tensor, edits: Edits | None = None) -> Tensor:
        """The last position's logits, under edits."""
        edits = edits or {}
        inside = any(site in ("q", "k", "v", "pattern", "attention") for site, _ in edits)
        model = self.eager if inside else self.model
        with torch.no_grad(), ExitStack() as stack:
            if inside:
                stack.enter_context(self._replaced(edits))
            for (site, layer), change in edits.items():
                if site == "z":
                    stack.enter_context(self._z(model, layer, change))
                elif site in ("resid_pre", "resid_post"):
                    stack.enter_context(self._stream(model, layer, site, change))
            self._forget()
            return model(ids[None], use_cache=False).logits[0, -1]

    def all_logits(self, ids: Tensor) -> Tensor:
        """A plain forward's logits, ``[1, pos, d_vocab]``."""
        self._forget()
        with torch.no_grad():
            return self.model(ids[None], use_cache=False).logits

    def read(self, ids: Tensor, site: str, *layers: int) -> list[Tensor]:
        """The activations of some layers, positions first."""
        if site == "pattern":
            patterns = self._output_attentions(ids, layers)
            self._require_z_is_pattern_times_v(ids, layers, patterns)
            return patterns
        activations: dict[int, Tensor] = {}

        def reading(layer: int) -> InPlace:
            return lambda x: activations.update({layer: x.clone()})

        self.logits(ids, {(site, layer): reading(layer) for layer in layers})
        return [activations[layer] for layer in layers]

    def visible(self, ids: Tensor, *layers: int) -> list[Tensor]:
        """Which sources each destination sees, ``[dest, head, src]``."""
        return [pattern > 0 for pattern in self._output_attentions(ids, layers)]

    def _output_attentions(self, ids: Tensor, layers: Sequence[int]) -> list[Tensor]:
        self._forget()
        with torch.no_grad():
            patterns = self.eager(ids[None], use_cache=False, output_attentions=True).attentions
        patterns = [x for x in patterns or () if x is not None]
        if len(patterns) != len(self.layers):
            raise NoOracle("output_attentions gives no pattern of each layer")
        return [patterns[self.layers.index(layer)][0].transpose(0, 1) for layer in layers]

    def _require_z_is_pattern_times_v(self, ids: Tensor, layers: Sequence[int], patterns: Sequence[Tensor]) -> None:
        """Else what ``output_attentions`` gives is not what attention does with the values."""
        if self._z_is_pattern_times_v:
            return
        self._z_is_pattern_times_v = True
        values, outputs = self.read(ids, "v", *layers), self.read(ids, "attention", *layers)
        for A, v, attention in zip(patterns, values, outputs, strict=True):
            z = torch.einsum("dhs,shx->dhx", A, v.repeat_interleave(A.shape[1] // v.shape[1], 1))
            if (z - attention).abs().max() > 1e-4 * max(1.0, float(z.abs().max())):
                self._z_is_pattern_times_v = False
                raise NoOracle("z is not what output_attentions gives times the values")

    def output_projection(self, layer: int, model: nn.Module | None = None) -> nn.Module:
        """The module whose input is z.

        Raises:
            NoOracle: no projection reads the attention function's output.
        """
        if not self._outputs:
            self._outputs = self._output_projections()
        return (self.model if model is None else model).get_submodule(self._outputs[layer])

    def layer_name(self, index: int) -> str:
        return f"{self._list}.{index}"

    def layer(self, index: int, model: nn.Module | None = None) -> nn.Module:
        return (self.model if model is None else model).get_submodule(self.layer_name(index))

    def attention(self, layer: int, model: nn.Module | None = None) -> nn.Module:
        return (self.model if model is None else model).get_submodule(self._attention[layer])

    def _forget(self) -> None:
        """Let the next forward be a fresh model's: a dynamic rope follows the longest prompt so far."""
        for module, state in self._states:
            for name, value in state.items():
                setattr(module, name, value.clone() if isinstance(value, Tensor) else value)

    # --- the sites ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _z(self, model: nn.Module, layer: int, change: InPlace) -> Iterator[None]:
        def before(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            z = args[0].clone(memory_format=torch.contiguous_format)
            change(z.view(-1, self.n_heads, self.d_head))
            return (z, *args[1:])

        handle = self.output_projection(layer, model).register_forward_pre_hook(before)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _stream(self, model: nn.Module, layer: int, site: str, change: InPlace) -> Iterator[None]:
        def changed(x: Tensor) -> Tensor:
            if x.ndim != 3 or x.shape[0] != 1:
                raise NoOracle(f"layers carry {list(x.shape)}, more than one stream")
            x = x.clone()
            change(x[0])
            return x

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            if args:
                return (changed(args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": changed(kwargs["hidden_states"])}

        def after(_: nn.Module, __: Any, output: Any) -> Any:
            return (changed(output[0]), *output[1:]) if isinstance(output, tuple) else changed(output)

        module = self.layer(layer, model)
        if site == "resid_pre":
            handle = module.register_forward_pre_hook(before, with_kwargs=True)
        else:
            handle = module.register_forward_hook(after)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _replaced(self, edits: Edits) -> Iterator[None]:
        """The model file's eager function, with edits of q, k, v and the pattern."""
        layer_of = {self.attention(layer, self.eager): layer for layer in self.layers}

        def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
            def eager(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Any:
                layer = layer_of[module]
                q, k, v = (_edited(x, edits.get((site, layer))) for site, x in zip("qkv", (q, k, v), strict=True))
                z, pattern = original(module, q, k, v, *args, **kwargs)
                if change := edits.get(("pattern", layer)):
                    values = v.repeat_interleave(pattern.shape[1] // v.shape[1], 1)
                    if (pattern @ values - z.transpose(1, 2)).abs().max() > 1e-4 * max(1.0, float(z.abs().max())):
                        raise NoOracle("z is not the pattern times the values")
                    pattern = pattern.clone()
                    change(pattern[0].transpose(0, 1))
                    z = (pattern @ values).transpose(1, 2).contiguous()
                if change := edits.get(("attention", layer)):
                    z = z.clone()
                    change(z[0])
                return z, pattern

            return eager

        with _eager_functions(self.eager, wrap):
            yield

    # --- where the parts are ------------------------------------------------------------------------------------------

    def _attention_calls(self) -> list[tuple[str, tuple[int, int], int]]:
        """Of each call of the attention function: who calls, z's heads and their size, the number of KV heads."""
        names = {module: name for name, module in self.eager.named_modules()}
        calls: list[tuple[str, tuple[int, int], int]] = []

        def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
            def eager(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Any:
                z, pattern = original(module, q, k, v, *args, **kwargs)
                if z.shape[:2] != (1, q.shape[2]):
                    raise NoOracle(
                        f"the attention function gives {list(z.shape)} for one prompt of {q.shape[2]} tokens"
                    )
                calls.append((names[module], (z.shape[2], z.shape[3]), v.shape[1]))
                return z, pattern

            return eager

        with torch.no_grad(), _eager_functions(self.eager, wrap):
            self.eager(_IDS, use_cache=False)
        return calls

    def _layer_list(self, attentions: list[str]) -> str:
        """The list whose entries have these attention modules, the outermost one."""
        for name, module in self.eager.named_modules():
            if isinstance(module, nn.ModuleList) and all(x.startswith(f"{name}.") for x in attentions):
                return name
        raise NoOracle("the attention modules stand in no list of layers")

    def _output_projections(self) -> dict[int, str]:
        """Of each layer, the projection that reads z: inside the attention module the last one that runs after the
        attention function, else the first one behind it."""
        order: list[tuple[str, Any]] = []
        projections = {
            name: module
            for name, module in self.eager.named_modules()
            if name.startswith(f"{self._list}.") and any(x.ndim == 2 for x in module.parameters())
        }

        def width_of(args: tuple[Any, ...]) -> int:
            return args[0].shape[-1] if args and isinstance(args[0], Tensor) else 0

        handles = [
            module.register_forward_pre_hook(lambda _, args, name=name: order.append((name, width_of(args))))
            for name, module in projections.items()
        ]
        layer_of = {self.attention(layer, self.eager): layer for layer in self.layers}

        def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
            def eager(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
                order.append(("", layer_of[module]))
                return original(module, *args, **kwargs)

            return eager

        try:
            with torch.no_grad(), _eager_functions(self.eager, wrap):
                self.eager(_IDS, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        names: dict[int, str] = {}
        for layer in self.layers:
            attention, layer_name = self._attention[layer], f"{self._list}.{layer}"
            inside, around = f"{attention}.", f"{attention.rpartition('.')[0]}."
            after = order[order.index(("", layer)) + 1 :]
            until = next((i for i, (name, _) in enumerate(after) if not name), len(after))
            width = self.n_heads * self.d_head
            reading = [name for name, size in after[:until] if size == width]
            # The outermost: an adapter's parts read what the projection reads.
            reading = [name for name in reading if not any(name.startswith(f"{other}.") for other in reading)]
            own = [name for name in reading if name.startswith(inside)]
            beside = [name for name in reading if name.startswith(around) and around != f"{layer_name}."]
            if not own and not beside:
                raise NoOracle("no projection reads what attention gives")
            names[layer] = own[-1] if own else beside[0]
            self._require_it_reads_z(layer, names[layer])
        return names

    def _require_it_reads_z(self, layer: int, name: str) -> None:
        """Attention's output moves what that projection reads."""
        inputs: list[Tensor] = []
        handle = self.eager.get_submodule(name).register_forward_pre_hook(
            lambda _, args: inputs.append(args[0].clone())
        )
        try:
            self.logits(_IDS[0], {("attention", layer): lambda x: None})
            self.logits(_IDS[0], {("attention", layer): lambda x: x[:, 0].add_(1)})
        finally:
            handle.remove()
        if len(inputs) != 2 or inputs[0].shape[:-1] != _IDS.shape or torch.equal(*inputs):
            raise NoOracle("no projection reads what attention gives")


_IDS = torch.arange(7, 14)[None]


def _has_state(module: nn.Module) -> bool:
    return "rotary" in type(module).__name__.lower() and hasattr(module, "max_seq_len_cached")


def _state(module: nn.Module) -> dict[str, Any]:
    names = ("inv_freq", "original_inv_freq", "max_seq_len_cached", "attention_scaling")
    values = {name: getattr(module, name) for name in names if hasattr(module, name)}
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in values.items()}


def _edited(x: Tensor, change: InPlace | None) -> Tensor:
    """Of one prompt, ``[1, head, pos, d_head]``; changes see positions first."""
    if change is None:
        return x
    x = x.clone()
    change(x[0].transpose(0, 1))
    return x


@contextmanager
def _eager_functions(model: nn.Module, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """The eager function of every file that a module of the model comes from, wrapped."""
    files = {sys.modules[type(module).__module__] for module in model.modules()}
    before = {file: file.eager_attention_forward for file in files if hasattr(file, "eager_attention_forward")}
    try:
        for file, original in before.items():
            vars(file)["eager_attention_forward"] = wrap(original)
        yield
    finally:
        for file, original in before.items():
            vars(file)["eager_attention_forward"] = original
