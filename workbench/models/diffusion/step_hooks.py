"""TransformerLens's hooks on a model that runs its layers in several steps.

A hook on a plain name is called in every step, one on ``blocks.2.attn.hook_z@3`` in step 3 alone; what is cached has
the step in its name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Literal

from workbench.arguments import flag, refusal
from workbench.models.checked_hooks import CheckedHooks
from workbench.models.steps import at_step


class StepHooks(CheckedHooks):
    """Mixed into `workbench.models.diffusion.hooked.HookedDiT`, and into `HookedDiffusers`.

    Attributes:
        step: the step that is running.
        n_steps: how many there are; None where a pipeline of the user's decides it.
    """

    step: int
    n_steps: Any

    def add_hook(self, name: Any, hook: Any, dir: Literal["fwd", "bwd"] = "fwd", *args: Any, **kwargs: Any) -> None:
        """As in TransformerLens; ``"blocks.2.attn.hook_z@3"`` is step 3 alone.

        Raises:
            UnknownName: the model has no hook point of that name.
            UsageError: a step beyond the schedule, or a backward hook in one step.
        """
        name, hook = self._of_step(name, hook, dir)
        super().add_hook(name, hook, dir, *args, **kwargs)

    def _enable_hook(self, name: str | Callable[[str], bool], hook: Callable, dir: Literal["fwd", "bwd"]) -> None:
        name, hook = self._of_step(name, hook, dir)
        super()._enable_hook(name, hook, dir)

    def get_caching_hooks(
        self, names_filter: Any = None, incl_bwd: bool = False, *args: Any, **kwargs: Any
    ) -> tuple[dict, list, list]:
        """As in TransformerLens; of a model with several steps an activation is cached under its name with the step.
        ``"blocks.2.attn.hook_z@3"`` caches step 3 alone.

        Raises:
            UnknownName: `names_filter` names a hook point that the model does not have.
            UsageError: `incl_bwd` with several steps: a backward pass does not say which step it is in.
        """
        if flag("incl_bwd", incl_bwd) and self.n_steps != 1:
            raise refusal("incl_bwd", True, "False", because=f"the model runs its layers in {self.n_steps} steps")
        plain, names = _without_steps(names_filter)
        cache, forward, backward = super().get_caching_hooks(plain, incl_bwd, *args, **kwargs)
        saves = [(name, functools.partial(self._save, save)) for name, save in forward]
        return cache, [(name, save) for point, save in saves for name in names.get(point, [point])], backward

    def add_caching_hooks(
        self,
        names_filter: Any = None,
        incl_bwd: bool = False,
        device: Any = None,
        remove_batch_dim: bool = False,
        cache: dict | None = None,
    ) -> dict:
        """As in TransformerLens; with names as `get_caching_hooks` gives them.

        Raises:
            UnknownName: `names_filter` names a hook point that the model does not have.
            UsageError: `incl_bwd` with several steps.
        """
        cache, forward, backward = self.get_caching_hooks(names_filter, incl_bwd, device, remove_batch_dim, cache)
        for name, hook in forward:
            self.add_hook(name, hook, "fwd")
        for name, hook in backward:
            self.add_hook(name, hook, "bwd")
        return cache

    def _save(self, save: Callable[..., None], tensor: Any, hook: Any) -> None:
        """Have an activation saved under its name in the step that is running."""
        save(tensor, hook=SimpleNamespace(name=at_step(hook.name, self.step, self.n_steps)))

    def _of_step(self, name: Any, hook: Any, dir: str) -> tuple[Any, Any]:
        """A hook point's name without its step, and the hook as one that is called in that step alone."""
        if not isinstance(name, str) or "@" not in name:
            return name, hook
        plain, _, text = name.partition("@")
        number = int(text) if text.isdecimal() else text
        if not isinstance(number, int) or (self.n_steps is not None and number >= self.n_steps):
            last = "" if self.n_steps is None else f" to {self.n_steps - 1}"
            raise refusal("name", name, f"a step from 0{last} behind @")
        if dir == "bwd":
            raise refusal("name", name, f"{plain!r}", because="a backward pass does not say which step it is in")

        @functools.wraps(hook)
        def in_step(tensor: Any, hook: Any, own: Callable[..., Any] = hook) -> Any:
            return own(tensor, hook=hook) if self.step == number else None

        return plain, in_step


def _without_steps(names_filter: Any) -> tuple[Any, dict[str, list[str]]]:
    """A filter of plain names, and of those that were given with a step the names with it. A plain name is every step,
    whatever else is named."""
    if isinstance(names_filter, str):
        names_filter = [names_filter]
    if not isinstance(names_filter, list | tuple | set) or not all(isinstance(name, str) for name in names_filter):
        return names_filter, {}
    with_step: dict[str, list[str]] = {}
    for name in dict.fromkeys(names_filter):
        with_step.setdefault(name.partition("@")[0], []).append(name)
    return list(with_step), {point: names for point, names in with_step.items() if point not in names}
