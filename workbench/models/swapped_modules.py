"""Attention modules with another operator: a child that holds it, and a class whose forward has it called.

The class is a subclass of the module's own under the same name, made once for each, so that copies of a model keep
their operators, and the model runs them whoever calls it: hooks, generation, plain forwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import nn

from workbench.attention.operator import BoundOperator
from workbench.models import attention_hook, sdpa_attention
from workbench.models.layer_run import run_of
from workbench.models.swapped_attention import CHILD, SwappedOperator, operator_of

#: Set on the classes made here: the module's own.
OWN_CLASS = "workbench_own_class"


def put_in(attention: nn.Module, swapped: SwappedOperator) -> None:
    """Have an attention module use an operator from now on."""
    take_out(attention)
    attention.add_module(CHILD, swapped)
    attention.__class__ = _with_operator(type(attention))


def take_out(attention: nn.Module) -> None:
    """Have an attention module compute what it did before any operator was put in."""
    if operator_of(attention) is not None:
        del attention._modules[CHILD]
        attention.__class__ = getattr(type(attention), OWN_CLASS)


def swapped_operators(attentions: Sequence[nn.Module]) -> dict[int, BoundOperator]:
    """By layer, the operators that were put in."""
    swapped = {layer: operator_of(attention) for layer, attention in enumerate(attentions)}
    return {layer: x.operator for layer, x in swapped.items() if x is not None}


def leave_out_patterns(hooks: nn.Module, operator: BoundOperator) -> None:
    """Take away the hook points of a layer that its operator does not have: scores are of softmax forms, a pattern of
    operators with one matrix a head."""
    names = ["hook_attn_scores"] if operator.operator.mask is None else []
    for name in names if operator.has_pattern else [*names, "hook_pattern"]:
        if hasattr(hooks, name):
            delattr(hooks, name)


@cache
def _with_operator(own: type[nn.Module]) -> type[nn.Module]:
    """A module class of the same name that calls its child's operator."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        swapped = operator_of(self)
        assert swapped is not None
        run = run_of(swapped)
        run.x = args[0] if args else kwargs.get("hidden_states")
        try:
            with _answered(self):
                return own.forward(self, *args, **kwargs)
        finally:
            run.x = None

    members = {"forward": forward, "__module__": own.__module__, "__qualname__": own.__qualname__, OWN_CLASS: own}
    return type(own.__name__, (own,), members)


@contextmanager
def _answered(attention: nn.Module) -> Iterator[None]:
    """While it lasts, the module's attention call is answered by us, also where the model runs without hooks."""
    config: Any = getattr(attention, "config", None)
    if hasattr(config, "_attn_implementation"):
        with attention_hook.answered({config._attn_implementation}):
            yield
    else:
        with sdpa_attention.answered_once(attention):
            yield
