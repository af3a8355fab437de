"""`Case`: one random call of an operator, as the checks of `check_operator` need it."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, TypedDict

import torch
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.layer import LayerShape, OperatorModule
from workbench.attention.operator import BoundOperator
from workbench.errors import UsageError

#: Sizes that differ from each other, so that a mistaken axis fails.
BATCH, HEADS, D_HEAD, D_VALUE, D_MODEL = 3, 4, 8, 6, 12
SHAPE = LayerShape(
    layer=1, n_layers=3, n_heads=HEADS, n_kv_heads=HEADS, d_head=D_HEAD, d_value=D_VALUE, d_model=D_MODEL
)
#: What scores are multiplied by: none of the usual values.
SCALE = 0.45
#: Two chunks of the usual 64 and a rest, whatever the operator says about its structure. Where that shows in more
#: positions alone, fewer are tried all the same, and nothing must differ from a simpler operator.
LONG = 131


class Kind(TypedDict):
    """What a call says about causality, and whether its positions lie on the grid of the operator's trial."""

    causal: bool
    on_grid: bool


@dataclass(frozen=True)
class Case:
    """A call: q, k and v of every position, the layer's input x, and the operator's module with random parameters."""

    bound: BoundOperator
    q: Tensor
    k: Tensor
    v: Tensor
    x: Tensor
    plain: Call
    module: OperatorModule | None

    @property
    def length(self) -> int:
        return self.k.shape[2]

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"q": self.q, "k": self.k, "v": self.v, "x": self.x}

    @cached_property
    def call(self) -> Call:
        """With the gates of x, and the parameters. What token embeddings give is a projection of x as well."""
        gates, data = {}, {}
        if "token embeddings" in self.bound.declared("needs"):
            gates = {name[0]: _project(name, self.x) for name in ("query", "key")}
        if self.module is not None:
            gates, data = {**gates, **self.module.gates(self.x, _project)}, self.module.data()
        return replace(self.plain, gates={**self.plain.gates, **gates}, data={**self.plain.data, **data})

    def z(self, dest: int | None = None) -> Tensor:
        """By the efficient form, of the last `dest` positions."""
        return self.bound.z(self._queries(dest), self.k, self.v, self.call)

    def explicit(self, dest: int | None = None) -> Tensor:
        return self.bound.explicit(self._queries(dest), self.k, self.v, self.call)

    def pattern(self, dest: int | None = None) -> Tensor:
        return self.bound.pattern(self._queries(dest), self.k, self.call)

    def _queries(self, dest: int | None) -> Tensor:
        return self.q if dest is None else self.q[:, :, self.length - dest :]

    def with_call(self, **values: Any) -> Case:
        return replace(self, plain=replace(self.plain, **values))

    def new(self, seed: int, start: int = 0, stop: int | None = None, names: str = "qkvx", heads: Any = ...) -> Case:
        """Other random numbers from position `start` to `stop`, in some of the tensors and heads."""
        tensors = {}
        for name, other in _random(self.bound, self.q.shape[0], self.length, seed, self.q.dtype).items():
            if name in names:
                tensor = tensors[name] = getattr(self, name).clone()
                at = (slice(None), slice(start, stop)) if name == "x" else (slice(None), heads, slice(start, stop))
                if heads is ... and name != "x":
                    at = (slice(None), slice(None), slice(start, stop))
                tensor[at] = other[at]
        return replace(self, **tensors)

    def rows(self, rows: list[int]) -> Case:
        """Those of the batch; data with an entry for each row goes along."""
        data = {name: value[rows] if name in self._by_row else value for name, value in self.plain.data.items()}
        padding = None if self.plain.padding is None else self.plain.padding[rows]
        tensors = {name: tensor[rows] for name, tensor in self.tensors.items()}
        return replace(self, **tensors, plain=replace(self.plain, data=data, padding=padding))

    @property
    def _by_row(self) -> set[str]:
        many, one = (self.bound.operator.trial(n, self.length).get("data", {}) for n in (BATCH, 1))
        return {name for name in many if many[name].ndim and many[name].shape[0] != one[name].shape[0]}

    def gradients(self, explicit: bool = False) -> dict[str, Tensor]:
        """z, and the gradients of a random sum of it with respect to q, k, v, x and the parameters."""
        leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in self.tensors.items()}
        module = None if self.module is None else deepcopy(self.module).requires_grad_()
        case = replace(self, **leaves, module=module)
        parameters = {} if module is None else dict(module.named_parameters())
        z = case.explicit() if explicit else case.z()
        weights = torch.randn(z.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(z.dtype)
        inputs = {**leaves, **parameters}
        slopes = torch.autograd.grad((z * weights).sum(), list(inputs.values()), allow_unused=True)
        zeros = (torch.zeros_like(tensor) for tensor in inputs.values())
        filled = (zero if slope is None else slope for slope, zero in zip(slopes, zeros, strict=True))
        return {"z": z.detach(), **dict(zip(inputs, filled, strict=True))}


def sample(
    bound: BoundOperator,
    length: int,
    *,
    causal: bool = False,
    on_grid: bool = True,
    dtype: torch.dtype = torch.float64,
    batch: int = BATCH,
    seed: int = 0,
    **call: Any,
) -> Case:
    """A random case of about that length: a grid says how long it is, unless positions are to be a sequence."""
    trial = dict(bound.operator.trial(batch, length))
    if not on_grid:
        trial = {name: value for name, value in trial.items() if name not in ("grid", "before")}
    if grid := trial.get("grid", ()):
        length = int(torch.tensor(grid).prod()) + trial.get("before", 0)
    trial["data"] = {name: _cast(value, dtype) for name, value in trial.get("data", {}).items()}
    values = {"scale": SCALE, "causal": causal, "layer": SHAPE.layer, "n_layers": SHAPE.n_layers}
    plain = bound.call(**{**values, "n_kv_heads": HEADS, **trial, **call})
    return Case(bound, **_random(bound, batch, length, seed, dtype), plain=plain, module=_module(bound, dtype))


def shows_in_few(bound: BoundOperator) -> bool:
    """Whether what an operator does shows in as many positions as are tried."""
    return bound.check_length <= LONG


def lengths(bound: BoundOperator) -> list[int]:
    """One position, a few, an odd number, and such as show a second chunk or block and do not end with one."""
    seen = min(bound.check_length, LONG)
    more = 2 * seen + 3 if seen <= LONG // 2 else seen + 3
    return sorted({_accepted(bound, length) for length in (1, 2, 7, seen, more)})


def longest(bound: BoundOperator) -> int:
    return lengths(bound)[-1]


def long(bound: BoundOperator) -> int:
    return max(longest(bound), _accepted(bound, LONG))


def _accepted(bound: BoundOperator, length: int) -> int:
    """By default settings an operator takes any length; with others it may refuse some."""
    if is_default(bound):
        return length
    return next((n for n in range(length, length + 8) if accepts(bound, n)), length)


@lru_cache(maxsize=256)
def accepts(bound: BoundOperator, length: int, on_grid: bool = True) -> bool:
    """Whether it runs on so many positions."""
    try:
        sample(bound, length, on_grid=on_grid, batch=1).z()
    except UsageError:
        return False
    return True


def kinds(bound: BoundOperator) -> Iterator[Kind]:
    """How it may be called. An operator that replaces causality is not called with the model's; one that does not need
    the grid of its trial also takes a sequence."""
    optional = bound.operator.trial(1, 8).get("grid") and "grid" not in bound.declared("needs")
    if optional and not is_default(bound):
        optional = accepts(bound, 8, on_grid=False)
    for causal in (True, False) if bound.keeps_causality else (False,):
        for on_grid in (True, False) if optional else (True,):
            yield {"causal": causal, "on_grid": on_grid}


def cases(bound: BoundOperator, **values: Any) -> Iterator[Case]:
    """Every length, of the first kind; an odd one and the longest, of the others."""
    for count, kind in enumerate(kinds(bound)):
        for length in lengths(bound) if not count else lengths(bound)[2::2]:
            yield sample(bound, length, **kind, **values)


def is_default(bound: BoundOperator) -> bool:
    return bound == bound.operator.with_settings()


def is_exact(bound: BoundOperator, name: str) -> bool:
    """Whether a declared property is about these settings: by default, or where it is a function of them. A window of
    one position does less than its operator declares, and so does one that is longer than what is tried."""
    claimed = callable(getattr(bound.operator, name)) or is_default(bound)
    return claimed and shows_in_few(bound)


def distance(first: Tensor, second: Tensor) -> float:
    """The largest difference over the largest entry, or over 1; infinite where one is not finite."""
    if first.shape != second.shape or not (first.isfinite().all() and second.isfinite().all()):
        return float("inf")
    if not first.numel():
        return 0.0
    return float((first.double() - second.double()).abs().max() / second.double().abs().max().clamp(min=1))


def _random(bound: BoundOperator, batch: int, length: int, seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Laid out as a model's projections give them: heads behind positions."""
    generator = torch.Generator().manual_seed(1000 * seed + length)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    heads = {name: draw(batch, length, HEADS, d) for name, d in (("q", D_HEAD), ("k", D_HEAD), ("v", D_VALUE))}
    return {**{name: tensor.transpose(1, 2) for name, tensor in heads.items()}, "x": draw(batch, length, D_MODEL)}


def _module(bound: BoundOperator, dtype: torch.dtype) -> OperatorModule | None:
    """Its module, with parameters moved away from where they begin, so that every gate depends on x."""
    if bound.operator.module is None:
        return None
    module = bound.operator.module(SHAPE, bound.settings).double()
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module.to(dtype).requires_grad_(False)


def _project(name: str, x: Tensor) -> Tensor:
    """A layer's projections: ``[batch, pos, head, d]``."""
    width = D_VALUE if name == "value" else D_HEAD
    generator = torch.Generator().manual_seed(["query", "key", "value"].index(name))
    weight = torch.randn(D_MODEL, HEADS * width, generator=generator, dtype=torch.float64).to(x) / D_MODEL**0.5
    return (x @ weight).unflatten(-1, (HEADS, width))


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value
