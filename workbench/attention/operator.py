"""`Operator`: an attention mechanism as its matrix, where it has one, with an efficient form beside it.

A file of `workbench.attention.operators` ends in one. Shapes everywhere: q ``[batch, head, dest, d_head]``,
k ``[batch, head, src, d_head]``, v ``[batch, head, src, d_value]``, z ``[batch, head, dest, d_value]``, and
A ``[batch, head, dest, src]`` with ``z = A v``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.attention.call import Call
from workbench.attention.gpu_kernels import Kernel
from workbench.attention.layer import LayerShape, OperatorModule, Settings, State
from workbench.attention.primitives import softmax_forms
from workbench.attention.settings import Setting, complete, parse, written
from workbench.errors import UnknownName, UsageError
from workbench.registry import OPERATORS

#: A property of an operator, or a function of its settings.
Depends = Any

Status = Literal["as published", "as released", "reconstruction", "stand-in", "control"]
Role = Literal["mixer", "gate", "pair", "function"]
Causal = Literal["model", "token", "block", "mask", "no"]
MatrixAxis = Literal["head", "channel", "two", "none"]
Resumes = Literal["keys", "state", "no"]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """An attention operator.

    Attributes:
        name: that of its file.
        version: part of every cache key; raise it when the arithmetic changes.
        source: the paper or repository.
        status: ``"as published"``; ``"as released"`` (paper and code disagree: the corrected form is the default and
            the released one a setting); ``"reconstruction"`` (not all could be read: `choices` lists what was chosen);
            ``"stand-in"``; ``"control"`` (of our own).
        choices: what was chosen where the source says nothing.
        settings: by name.
        role: a *mixer* moves information between positions and replaces attention; a *gate* goes in beside the identity
            mixer; a *pair* has two streams; a *function* is none of these.
        needs: what it needs besides q, k and v: ``"gates"``, ``"grid"``, ``"data"``, ``"token embeddings"``,
            ``"second stream"``; a tuple, or a function of the settings.
        ignores: which of q and k it does not read.
        invents: what a swap into a trained layer has to make up.
        causal: ``"model"``: as the model is; ``"token"``: a position sees earlier ones alone; ``"block"``: blocks do;
            ``"mask"``: it attends as causally as the model, but later positions may change what is selected;
            ``"no"``.
        row_stochastic: whether rows of A are non-negative and sum to one. linear_in_v: whether ``z = A v`` with A
            independent of v. heads_independent: whether a head's z depends on its own q, k and v alone.
        shift_invariant: whether z depends on how far positions are apart and not on where they are counted from:
            padding then changes nothing, left or right.
        matrix_axis: one A a head; one a channel, ``[batch, head, channel, dest, src]``; ``"two"``: A is the product of
            two (`factors`); ``"none"``.
        resumes: what a run that resumes in the middle needs of the positions before.
        form: which cost formula it has (`workbench.attention.cost`).
        mask: of softmax forms: which sources each destination keeps, ``mask(q, k, call) -> Bool[batch_or_1, head_or_1,
            dest, src]``; A is then the softmax under that and the model's own mask, with its own caps and sinks.
        matrix: ``matrix(q, k, call) -> A``; softmax forms leave it out.
        efficient: ``efficient(q, k, v, call) -> z`` without A.
        kernel: of another package, which computes the same on a GPU where it is installed.
        advance: ``advance(k, v, call, state | None) -> state`` after those positions.
        resume: ``resume(q, k, v, state, call) -> z`` of the positions that follow a state, whose batch may be 1.
        finish: ``finish(z, call) -> z`` behind the mixing, position by position.
        factors: ``factors(q, k, call) -> (A₁, A₂)`` with ``A = A₂ A₁``.
        record: ``record(q, k, v, call) -> {name: tensor}``: what else it can show; `records` names them.
        module: ``module(shape, settings) -> OperatorModule`` with its parameters, made without chance.
        trial: ``trial(batch, length) -> {...}``: values of a `Call` (grid, data) with which it can be tried at about
            that length; the grid says how many positions these are.
        check_length: how many positions the load-time check needs to see the operator's structure.
        block: of ``causal="block"``: the size of a block.
        check: ``check(settings) -> None`` raises `UsageError` where settings do not go together.

    Examples:
        >>> import torch
        >>> from workbench.attention.operator import operator
        >>> window = operator("sliding-window(window=2)")
        >>> q = k = torch.zeros(1, 1, 4, 8)
        >>> window.pattern(q, k, window.call())[0, 0].tolist()[-1]  # [dest, src]
        [0.0, 0.0, 0.5, 0.5]
    """

    name: str
    version: int
    source: str
    status: Status
    choices: tuple[str, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=dict)
    role: Role = "mixer"
    needs: Depends = ()
    ignores: tuple[str, ...] = ()
    invents: str = ""
    causal: Depends = "model"
    row_stochastic: Depends = True
    linear_in_v: Depends = True
    heads_independent: Depends = True
    shift_invariant: Depends = True
    matrix_axis: MatrixAxis = "head"
    resumes: Resumes = "keys"
    form: str = "softmax"
    records: tuple[str, ...] = ()
    mask: Callable[[Tensor, Tensor, Call], Tensor] | None = None
    matrix: Callable[[Tensor, Tensor, Call], Tensor] | None = None
    efficient: Callable[[Tensor, Tensor, Tensor, Call], Tensor] | None = None
    kernel: Kernel | None = None
    advance: Callable[[Tensor, Tensor, Call, State | None], State] | None = None
    resume: Callable[[Tensor, Tensor, Tensor, State, Call], Tensor] | None = None
    finish: Callable[[Tensor, Call], Tensor] | None = None
    factors: Callable[[Tensor, Tensor, Call], tuple[Tensor, Tensor]] | None = None
    record: Callable[[Tensor, Tensor, Tensor, Call], dict[str, Tensor]] | None = None
    module: Callable[[LayerShape, Settings], OperatorModule] | None = None
    trial: Callable[[int, int], dict[str, Any]] = lambda batch, length: {}
    check_length: Callable[[Settings], int] = lambda _: 8
    block: Callable[[Settings], int] = lambda _: 1
    check: Callable[[Settings], None] = lambda _: None

    def with_settings(self, **values: Any) -> BoundOperator:
        """The operator with these settings, and the defaults of the others.

        Raises:
            UnknownName: a setting that it does not have.
            UsageError: a value that is not possible.
        """
        settings = complete(self.name, self.settings, values)
        self.check(settings)
        return BoundOperator(self, settings)


@dataclass(frozen=True, repr=False)
class BoundOperator:
    """An operator with its settings. ``str()`` is what a user types for it."""

    operator: Operator
    settings: Settings

    def __str__(self) -> str:
        return written(self.operator.name, self.settings, self.operator.settings)

    def __repr__(self) -> str:
        return str(self)

    def __hash__(self) -> int:
        return hash(self.plain)

    @property
    def plain(self) -> str:
        """Name, version and every setting, as text: what a cache key holds."""
        values = ", ".join(f"{name}={value!r}" for name, value in sorted(self.settings.items()))
        return f"{self.operator.name} {self.operator.version} ({values})"

    def declared(self, name: str) -> Any:
        """A declared property, with these settings."""
        value = getattr(self.operator, name)
        return value(self.settings) if callable(value) else value

    @property
    def causal(self) -> Causal:
        return self.declared("causal")

    @property
    def keeps_causality(self) -> bool:
        """Whether it leaves the model's causality as it is."""
        return self.causal in ("model", "token", "mask")

    @property
    def has_pattern(self) -> bool:
        """Whether each head has one matrix."""
        return self.operator.matrix_axis in ("head", "two")

    @property
    def check_length(self) -> int:
        return self.operator.check_length(self.settings)

    @property
    def block(self) -> int:
        return self.operator.block(self.settings) if self.causal == "block" else 1

    def call(self, **values: Any) -> Call:
        """A `Call` with these settings."""
        return Call(settings=self.settings, **values)

    def keep(
        self, q: Float[Tensor, "batch head dest d_head"], k: Float[Tensor, "batch head src d_head"], call: Call
    ) -> Bool[Tensor, "batch_or_1 head_or_1 dest src"]:
        """Which sources a softmax form keeps.

        Raises:
            UsageError: the operator is none, or its mask is not boolean.
        """
        if self.operator.mask is None:
            raise UsageError(f"{self} is no softmax form: it has no mask.")
        keep = self.operator.mask(q, k, call)
        if keep.dtype != torch.bool:
            raise UsageError(f"The mask of {self} is of {keep.dtype}: expected torch.bool, True for sources that stay.")
        return keep

    def pattern(
        self, q: Float[Tensor, "batch head dest d_head"], k: Float[Tensor, "batch head src d_head"], call: Call
    ) -> Float[Tensor, "batch head *channel dest src"]:
        """A, explicitly.

        Raises:
            UsageError: the operator has none.
        """
        operator = self.operator
        if operator.mask is not None:
            return softmax_forms.pattern(q, k, self.keep(q, k, call), call)
        if operator.matrix is None:
            raise UsageError(
                f"{self} has no matrix: it is not linear in v. For how much each source matters: "
                "workbench.attention.jacobian.influence."
            )
        return operator.matrix(q, k, call)

    def apply(self, pattern: Tensor, v: Tensor, call: Call) -> Float[Tensor, "batch head dest d_value"]:
        """``z = A v``, and what follows the mixing."""
        by_channel = self.operator.matrix_axis == "channel"
        z = torch.einsum("bhcij,bhjc->bhic", pattern, v) if by_channel else pattern @ v
        return z if self.operator.finish is None else self.operator.finish(z, call)

    def z(
        self,
        q: Float[Tensor, "batch head dest d_head"],
        k: Float[Tensor, "batch head src d_head"],
        v: Float[Tensor, "batch head src d_value"],
        call: Call,
        state: State | None = None,
    ) -> Float[Tensor, "batch head dest d_value"]:
        """z by the efficient form or a GPU `kernel`; from a `state` of the positions before, where there is one."""
        operator, earlier = self.operator, k.shape[2] - q.shape[2]
        kernel = self.kernel(q, k, v, call) if state is None else None
        if operator.advance is not None and operator.resume is not None and (state is not None or earlier):
            if earlier:
                state = operator.advance(k[:, :, :earlier], v[:, :, :earlier], call.positions(0, earlier), state)
                k, v, call = k[:, :, earlier:], v[:, :, earlier:], call.positions(earlier)
            assert state is not None
            z = operator.resume(q, k, v, state, call)
        elif kernel is not None:
            z = kernel.z(q, k, v, call)
        elif operator.efficient is not None:
            z = operator.efficient(q, k, v, call)
        elif operator.mask is not None:
            z = softmax_forms.masked(q, k, v, self.keep(q, k, call), call)
        else:
            return self.apply(self.pattern(q, k, call), v, call)
        return z if operator.finish is None else operator.finish(z, call)

    def kernel(self, q: Tensor, k: Tensor, v: Tensor, call: Call) -> Kernel | None:
        """The GPU kernel by which `z` computes these, None where it uses the operator's own form."""
        kernel = self.operator.kernel
        return kernel if kernel is not None and kernel.computes(q, k, v, call) else None

    def explicit(self, q: Tensor, k: Tensor, v: Tensor, call: Call) -> Float[Tensor, "batch head dest d_value"]:
        """z by the matrix."""
        return self.apply(self.pattern(q, k, call), v, call)

    def advance(self, k: Tensor, v: Tensor, call: Call, state: State | None = None) -> State:
        """The state after those positions.

        Raises:
            UsageError: the operator keeps none.
        """
        if self.operator.advance is None:
            raise UsageError(f"{self} keeps no state.")
        return self.operator.advance(k, v, call, state)

    def record(self, q: Tensor, k: Tensor, v: Tensor, call: Call) -> dict[str, Tensor]:
        """What else it can show, by the names in `Operator.records`."""
        return {} if self.operator.record is None else self.operator.record(q, k, v, call)


def operator(name: str | BoundOperator | Operator, **settings: Any) -> BoundOperator:
    """The operator of a name, with settings: ``operator("sliding-window(window=32)")``, or
    ``operator("sliding-window", window=32)``.

    Raises:
        UnknownName: no such operator or setting; the nearest are suggested.
        UsageError: a setting that is not possible.
    """
    if isinstance(name, BoundOperator):
        return name
    if isinstance(name, Operator):
        return name.with_settings(**settings)
    name, values = parse(name)
    if name not in OPERATORS.names():
        what, do = "the name of an operator", "See workbench operators."
        raise UnknownName("operator", name, OPERATORS.names(), do, argument="operator", expected=what)
    return OPERATORS[name].with_settings(**{**values, **settings})
