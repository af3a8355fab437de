"""One layer's attention by another operator (`workbench.attention.operator`), with the same taps, edits and prefixes.

Softmax forms keep what the family does besides: its mask, its caps and its sinks. The others keep rotation and padding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from workbench.attention.call import Call
from workbench.attention.layer import LayerShape, OperatorModule, State
from workbench.attention.operator import BoundOperator
from workbench.errors import HookError, UnsupportedModel
from workbench.models.anatomy import Anatomy
from workbench.models.attention_edits import AttentionEdits, AttentionInputs, expanded, tapped_heads, tapped_site
from workbench.models.explicit_attention import ExplicitAttention, is_causal, with_gradient_of
from workbench.models.kernel_notes import note_kernel
from workbench.models.layer_run import run_of
from workbench.models.reference_attention import HIDDEN, visible
from workbench.models.resumable import StopForward

#: The name of the child of an attention module that holds its operator.
CHILD = "workbench_operator"


@dataclass(frozen=True)
class Context:
    """What an operator is swapped in with besides its settings: `grid`, `before` and `data` of
    `workbench.attention.call.Call`, and the ids of a fixed text."""

    grid: tuple[int, ...] = ()
    before: int = 0
    data: Mapping[str, Tensor] = field(default_factory=dict)
    text: Int[Tensor, "pos"] | None = None


class SwappedOperator(nn.Module):
    """An operator in one attention layer, a child of the attention module: copies of the model keep it, and its
    parameters are the model's.

    Args:
        operator: which, with its settings.
        shape: the layer's.
        anatomy: where the layer has its projections.
        context: what else the operator was swapped in with.
        own: what the operator has of its own there.
    """

    def __init__(
        self,
        operator: BoundOperator,
        shape: LayerShape,
        anatomy: Anatomy,
        context: Context,
        own: OperatorModule | None = None,
    ) -> None:
        super().__init__()
        self.operator, self.shape, self.anatomy = operator, shape, anatomy
        self.context, self.own = context, own

    def gates(self, module: nn.Module) -> dict[str, Tensor]:
        """What the operator has at each position of this run."""
        x = run_of(self).x
        return (
            {} if self.own is None or x is None else self.own.gates(x, lambda name, x: self.projected(module, name, x))
        )

    def data(self) -> dict[str, Tensor]:
        """What does not depend on the input."""
        return dict(self.context.data) | ({} if self.own is None else self.own.data())

    def projected(
        self, module: nn.Module, name: str, x: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos head d_head"]:
        """The layer's own queries, keys or values of x, before any norm or rotation, a copy for each query head.

        Raises:
            UnsupportedModel: the layer has no such projection.
        """
        anatomy, heads = self.anatomy, self.shape.n_heads if name == "query" else self.shape.n_kv_heads
        if anatomy.fused:
            x, which = module.get_submodule(anatomy.fused)(x), ("query", "key", "value").index(name)
            if anatomy.fused_layout == "blocks":
                x = x.chunk(3, -1)[which].unflatten(-1, (heads, -1))
            else:
                x = x.unflatten(-1, (heads, 3, -1))[..., which, :]
        elif part := getattr(anatomy, name):
            x = module.get_submodule(part)(x).unflatten(-1, (heads, -1))
        if x.ndim != 4 or x.shape[-1] != (self.shape.d_value if name == "value" else self.shape.d_head):
            raise UnsupportedModel(
                f"{type(module).__name__} has no {name} projection of its own, which {self.operator} needs."
            )
        return x.repeat_interleave(self.shape.n_heads // heads, 2)

    def call(self, **values: Any) -> Call:
        """A `Call` of this layer's operator."""
        shape = self.shape
        return self.operator.call(
            layer=shape.layer,
            n_layers=shape.n_layers,
            n_kv_heads=shape.n_kv_heads,
            grid=self.context.grid,
            before=self.context.before,
            data=self.data(),
            **values,
        )


def operator_of(module: nn.Module) -> SwappedOperator | None:
    """The operator that was swapped into an attention module, None where it has its own."""
    child = module._modules.get(CHILD)
    return child if isinstance(child, SwappedOperator) else None


def swapped_attention(
    swapped: SwappedOperator,
    module: nn.Module,
    edits: AttentionEdits,
    query: Float[Tensor, "batch head dest d_head"],
    key: Float[Tensor, "batch kv_head own d_head"],
    value: Float[Tensor, "batch kv_head own d_value"],
    mask: Tensor | None,
    arguments: dict[str, Any],
) -> tuple[Float[Tensor, "batch dest head d_value"], None]:
    """What `workbench.models.attention_hook.hooked_attention` does in a layer with another operator."""
    n_heads, prefix = query.shape[1], edits.prefix
    if (reading := run_of(swapped).reading) is not None:
        reading(query, expanded(key, n_heads))
        raise StopForward
    query = tapped_heads(edits, "q", query)
    key = tapped_heads(edits, "k", expanded(key, n_heads, "k" in edits.expand))
    value = tapped_heads(edits, "v", expanded(value, n_heads, "v" in edits.expand))
    gates = swapped.gates(module)
    if edits.on_inputs is not None:
        edits.on_inputs(AttentionInputs(key, value, mask, arguments, gates))
    if prefix is not None and prefix.own_keys is not None and prefix.own_values is not None:
        key, value = torch.cat([prefix.own_keys, key], 2), torch.cat([prefix.own_values, value], 2)
        gates = {name: torch.cat([prefix.own_gates[name], gate], 1) for name, gate in gates.items()}
    if edits.frozen is not None:
        note_kernel(module, "none", "z is frozen")
        return tapped_site(edits, "z", edits.frozen), None
    run = _Run(swapped, module, edits, query, key, value, mask, arguments, gates)
    z = run.softmax_form() if swapped.operator.operator.mask is not None else run.other_form()
    return tapped_site(edits, "z", z), None


class _Run:
    """One call: the layer's own keys and values, and those of the prefix where it resumes."""

    def __init__(
        self,
        swapped: SwappedOperator,
        module: nn.Module,
        edits: AttentionEdits,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        arguments: dict[str, Any],
        gates: dict[str, Tensor],
    ) -> None:
        self.operator, self.edits, self.module = swapped.operator, edits, module
        self.query, self.key, self.value, self.gates = query, key, value, gates
        self.prefix = edits.prefix if edits.prefix is not None and edits.prefix.start else None
        self.explicit = ExplicitAttention(module, edits, query, key, value, mask, arguments)
        self.has_window = arguments.get("sliding_window") is not None
        self._require_positions(swapped.context)
        for name, gate in gates.items():
            if gate.shape[1] != key.shape[2]:
                raise HookError(
                    f"{self.operator} has {name} for {gate.shape[1]} positions and keys for {key.shape[2]}. "
                    "Run without a cache of keys and values (use_cache=False)."
                )
        self.call = swapped.call(
            scale=self.explicit.scale,
            causal=is_causal(module, arguments) and self.operator.keeps_causality,
            padding=self._padding(),
        )

    def _require_positions(self, context: Context) -> None:
        """Refuse inputs that do not lie on the grid, and cached keys where earlier rows depend on later positions."""
        src, positions = self.explicit.src, math.prod(context.grid) + context.before
        if context.grid and src != positions and self.edits.prefix is None:
            raise HookError(
                f"{self.operator} has the grid {context.grid} with {context.before} positions before it, {positions} "
                f"in all, and there are {src}. Give inputs of {positions} positions, or swap it in with another grid."
            )
        steps = self.edits.prefix is None and self.query.shape[2] < src
        if steps and not (self.operator.causal in ("model", "token") and self.operator.operator.resumes != "no"):
            raise HookError(
                f"{self.operator} lets positions see later ones of their block, or selects by all of them, so cached "
                "keys and values do not hold. Run without a cache of them (use_cache=False)."
            )

    def softmax_form(self) -> Float[Tensor, "batch dest head d_value"]:
        """Softmax over what the operator keeps of what the layer lets a position see."""
        explicit, operator = self.explicit, self.operator
        key, value, gates = self._whole()
        is_special = explicit.softcap is not None or explicit.sinks is not None or explicit.has_bias
        visible = None if self._is_causality() or explicit.mask is None else _is_seen(explicit.mask)
        call = replace(self.call, gates=gates, visible=visible if operator.keeps_causality else None)
        if self.edits.on_pattern or is_special:
            explicit.restrict(operator.keep(self.query, key, call), not operator.keeps_causality)

        def kernel() -> Tensor:
            if is_special:
                self._note("the layer's caps, sinks or biases are kept")
                return explicit.z()
            return self._z(key, value, call)

        if not self.edits.on_pattern:
            return kernel()
        z = explicit.edited(kernel)
        if explicit.changed:
            self._note(f"the pattern of {explicit.changed} is edited")
        return z

    def other_form(self) -> Float[Tensor, "batch dest head d_value"]:
        """Any other operator, by its matrix where that is edited."""
        operator, edits = self.operator, self.edits
        if "pattern" not in edits.taps:
            return self._kernel()
        key, value, gates = self._whole()
        call = replace(self.call, gates=gates)
        pattern = operator.pattern(self.query, key, call)
        new = edits.taps["pattern"](pattern)
        if new is None:
            z = self._kernel()
            if torch.is_grad_enabled() and pattern.requires_grad:  # the gradient reaches the pattern
                z = with_gradient_of(z, _positions_first(operator.apply(pattern, value, call)))
            return z
        self._note("the pattern is edited")
        return _positions_first(operator.apply(new, value, call))

    def _kernel(self) -> Float[Tensor, "batch dest head d_value"]:
        """z by the efficient form: from the state of the positions before where there is one."""
        prefix, n_heads, operator = self.prefix, self.query.shape[1], self.operator
        if prefix is None or operator.operator.advance is None or self.call.padding is not None:
            key, value, gates = self._whole()
            return self._z(key, value, replace(self.call, gates=gates))
        self._note("")
        earlier = replace(self.call, gates=prefix.gates)
        state = operator.advance(expanded(prefix.keys, n_heads), expanded(prefix.values, n_heads), earlier)
        key, value = expanded(self.key, n_heads), expanded(self.value, n_heads)
        parts = []
        for example, first, last in prefix.spans(self.query.shape[0]):
            rows = slice(first, last)
            own = {name: gate[rows] for name, gate in self.gates.items()}
            call = replace(self.call, first=prefix.start, gates=own)
            of_example: State = tuple(x[example : example + 1] for x in state)
            parts.append(operator.z(self.query[rows], key[rows], value[rows], call, of_example))
        return _positions_first(torch.cat(parts))

    def _z(self, key: Tensor, value: Tensor, call: Call) -> Float[Tensor, "batch dest head d_value"]:
        """z of all keys by the efficient form."""
        kernel = self.operator.kernel(self.query, key, value, call)
        self._note("", "" if kernel is None else kernel.package)
        return _positions_first(self.operator.z(self.query, key, value, call))

    def _note(self, why_explicit: str, package: str = "") -> None:
        if why_explicit:
            note_kernel(self.module, f"{self.operator}, explicit", why_explicit)
        else:
            why = "the run resumes" if self.prefix is not None else "no pattern is edited"
            note_kernel(self.module, f"{self.operator}, {package}" if package else f"{self.operator}", why)

    def _whole(self) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Keys, values and gates of all positions, one copy a query head."""
        n_heads, prefix = self.query.shape[1], self.prefix
        key, value = expanded(self.key, n_heads), expanded(self.value, n_heads)
        if prefix is None:
            return key, value, self.gates

        def after(earlier: Tensor, own: Tensor, axis: int) -> Tensor:
            earlier = prefix.of_rows(earlier)
            return torch.cat([earlier.expand(own.shape[0], *earlier.shape[1:]), own], axis)

        gates = {name: after(prefix.gates[name], gate, 1) for name, gate in self.gates.items()}
        return after(expanded(prefix.keys, n_heads), key, 2), after(expanded(prefix.values, n_heads), value, 2), gates

    def _is_causality(self) -> bool:
        """Whether the layer's mask hides later positions and nothing else."""
        mask = None if self.explicit.is_plain else self.explicit.mask
        if mask is None:
            return True
        dest, src = mask.shape[-2:]
        seen = visible(dest, src, self.call.causal, None, mask.device)
        return bool(_is_seen(mask).all()) if seen is None else bool((_is_seen(mask) == seen).all())

    def _padding(self) -> Bool[Tensor, "batch src"] | None:
        """A key is padding where no destination at all sees it: a window hides keys from the last ones, too. Some rows
        alone tell only where there is no window."""
        mask, prefix = None if self.explicit.is_plain else self.explicit.mask, self.prefix
        if mask is None:
            return None
        if prefix is not None and prefix.mask is not None:
            mask = prefix.of_rows(prefix.mask)
        elif mask.shape[2] < mask.shape[3] and self.has_window:
            return None
        seen = _is_seen(mask).any(1).any(1)
        if bool(seen.all()):
            return None
        if not self.operator.declared("shift_invariant") and not bool(seen[:, 0].all()):
            raise HookError(
                f"{self.operator} counts positions from the first. Pad on the right, or run without padding."
            )
        return seen.expand(self.query.shape[0], -1)


def _is_seen(mask: Tensor) -> Bool[Tensor, "batch_or_1 head_or_1 dest src"]:
    return mask if mask.dtype == torch.bool else mask > HIDDEN


def _positions_first(z: Float[Tensor, "batch head dest d_value"]) -> Float[Tensor, "batch dest head d_value"]:
    return z.transpose(1, 2).contiguous()
