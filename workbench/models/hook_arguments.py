"""Checks of what TransformerLens's functions are called with: hooks, filters of names, and gradients."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from torch import Tensor
from transformer_lens.hook_points import HookPoint

from workbench.arguments import one_of, refusal
from workbench.errors import UnknownName, UsageError


def check_hook(name: Any, hook: Any, dir: Any, hook_dict: Collection[str]) -> None:
    """Refuse a hook that TransformerLens cannot install or call.

    Raises:
        UnknownName: a hook point that the model does not have.
        UsageError: a filter that matches none, or something that is no function of the activation and the hook point.
    """
    check_name(name, hook_dict)
    one_of("dir", dir, ("fwd", "bwd"))
    expected = "a function f(activation, hook)"
    if not callable(hook):
        raise refusal("hook", hook, expected)
    try:
        inspect.signature(hook).bind(None, hook=None)
    except TypeError:
        raise refusal("hook", hook, expected, because="it is called with the hook point as hook=") from None
    except ValueError:  # a built-in function
        return


def check_name(name: Any, hook_dict: Collection[str]) -> None:
    """Refuse what is neither a hook point's name nor a filter that matches some."""
    if isinstance(name, str):
        if name not in hook_dict:
            raise UnknownName("site", name, hook_dict)
    elif not callable(name):
        raise refusal("name", name, "the name of a hook point, or a filter of names")
    elif not any(name(hook_name) for hook_name in hook_dict):
        raise UsageError(f"The filter {name!r} matches none of the model's {len(hook_dict)} hook points.")


def check_names_filter(names_filter: Any, hook_dict: Collection[str]) -> None:
    """Refuse a ``names_filter`` that names what does not exist, or nothing."""
    if names_filter is None:
        return
    names = [names_filter] if isinstance(names_filter, str) or callable(names_filter) else names_filter
    if not isinstance(names, list | tuple | set) or not names:
        raise refusal("names_filter", names_filter, "a hook point's name, a list of names, a filter of names, or None")
    for name in names:
        check_name(name, hook_dict)


def pairs_of(name: str, hooks: Any) -> list[tuple[Any, Any]]:
    """``[(hook point, function), …]``.

    Raises:
        UsageError: something else.
    """
    entries = list(hooks) if isinstance(hooks, Iterable) and not isinstance(hooks, str | Mapping) else None
    if entries is None or not all(isinstance(entry, tuple | list) and len(entry) == 2 for entry in entries):
        raise refusal(name, hooks, "a list of pairs, [(hook point, function), …]")
    return [(point, hook) for point, hook in entries]


def check_gradients(points: Mapping[str, Callable[..., Any]], output: Any) -> None:
    """Refuse backward hooks on a run without gradients, in which they would never be called.

    Raises:
        UsageError: nothing in the run required gradients.
    """
    backward = [name for name, point in points.items() if isinstance(point, HookPoint) and point.bwd_hooks]
    outputs = output if isinstance(output, tuple) else (output,)
    if backward and not any(x.requires_grad for x in outputs if isinstance(x, Tensor)):
        raise UsageError(
            f"Backward hooks are on {backward[0]}{f' and {len(backward) - 1} more' if len(backward) > 1 else ''}, and "
            "nothing in this run requires gradients, so they are never called. Call model.requires_grad_(True), and "
            "run outside torch.no_grad()."
        )
