"""Sampling steps in hook names, and which of a model's steps an argument selects.

A plain hook name means every step; ``blocks.2.attn.hook_z@3`` is step 3, and ``@0`` the first. What is recorded of a
model with one step has plain names, of a model with several always those with ``@``.
"""

from __future__ import annotations

from typing import Any

from workbench.arguments import indices, refusal
from workbench.errors import UsageError
from workbench.models.resumable import ResumableModel


def split_step(hook: str) -> tuple[str, int | None]:
    """``blocks.2.attn.hook_z@3`` → ``("blocks.2.attn.hook_z", 3)``; a plain name has None, every step."""
    name, at, step = hook.partition("@")
    return name, int(step) if at else None


def at_step(hook: str, step: int, n_steps: int | None) -> str:
    """The name under which a plain hook's activation in one step is stored; `n_steps` is None where it is not known."""
    return hook if n_steps == 1 else f"{hook}@{step}"


def hook_at_depth(resumable: ResumableModel, site: str, depth: int) -> str:
    """The name under which a site's activation at a depth (step · n_layers + layer) is stored."""
    step, layer = divmod(depth, resumable.n_layers)
    return at_step(resumable.hook_name(site, layer), step, resumable.n_steps)


def resolve_steps(name: str, steps: Any, n_steps: int) -> tuple[int, ...]:
    """One step or several, as indices; all of them for None.

    Raises:
        UsageError: something that is no step of the model.
    """
    if steps is None:
        return tuple(range(n_steps))
    try:
        return indices(name, steps, n_steps, "step")
    except UsageError:
        if n_steps > 1:
            raise
    raise refusal(name, steps, "0 or None", "Leave it out.", because="this model runs its layers once")


def steps_info(resumable: ResumableModel, steps: Any) -> dict[str, Any]:
    """What a result reports of its steps; nothing where the model has one."""
    n_steps = resumable.n_steps
    return {"steps": list(resolve_steps("steps", steps, n_steps)), "n_steps": n_steps} if n_steps > 1 else {}
