"""Recordings of a transformer of diffusers, over the steps of its pipeline."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from workbench import arguments
from workbench.arguments import as_typed
from workbench.errors import HookError
from workbench.models.diffusion.in_place_calls import HookedCalls
from workbench.models.steps import at_step

#: No schedule has more steps.
_LONGEST = 1_000_000


class Recorded(HookedCalls):
    """Mixed into `workbench.models.diffusion.in_place.HookedDiffusers`: what is recorded has the step in its name."""

    @contextmanager
    def recording(
        self, names_filter: Any = None, *, steps: Any = None, device: Any = None
    ) -> Iterator[dict[str, Tensor]]:
        """While it lasts, activations are recorded in the dictionary that it gives, under their names with the step.
        Of several calls in a step (guidance in two calls) it has the inputs of all, one call after the other.

        Args:
            names_filter: a hook point's name, also with its step (``"blocks.2.attn.hook_z@3"``), a list of names, or a
                filter of names; None for all.
            steps: one step or several; None for all.
            device: where to keep them; where they are by default.

        Raises:
            UnknownName: `names_filter` names a hook point that the model does not have.
            UsageError: steps both in names and as `steps`.
            HookError: a second sampling begins, or calls in a step have activations of different shapes.
        """
        cache, forward, _ = self.get_caching_hooks(names_filter, device=device)
        if steps is not None:
            only = arguments.indices("steps", steps, _LONGEST, "step")
            if named := next((name for name, _ in forward if "@" in name), ""):
                raise arguments.refusal("steps", steps, "None", because=f"{named} has its step")
            forward = [(f"{name}@{step}", hook) for name, hook in forward for step in only]
        with self.hooks(forward):
            yield cache

    def run_with_cache(
        self, *args: Any, names_filter: Any = None, device: Any = None, **kwargs: Any
    ) -> tuple[Any, dict[str, Tensor]]:
        """One call of the transformer: what it gives, and the activations as `recording` has them.

        Raises:
            UnknownName: `names_filter` names a hook point that the model does not have.
        """
        with self.recording(names_filter, device=device) as cache:
            output = self(*args, **kwargs)
        return output, cache

    def get_caching_hooks(
        self,
        names_filter: Any = None,
        incl_bwd: bool = False,
        device: Any = None,
        remove_batch_dim: bool = False,
        cache: dict | None = None,
        pos_slice: Any = None,
    ) -> tuple[dict, list, list]:
        """As in TransformerLens, with the step in the names of what is cached, as `recording` has it.

        Raises:
            UnknownName: `names_filter` names a hook point that the model does not have.
            UsageError: `incl_bwd`, or `remove_batch_dim`: guidance's passes are inputs of the batch.
        """
        for argument, value in (("incl_bwd", incl_bwd), ("remove_batch_dim", remove_batch_dim)):
            if arguments.flag(argument, value):
                because = "the model is called in several steps, on several inputs"
                raise arguments.refusal(argument, True, "False", because=because)
        cache, forward, backward = super().get_caching_hooks(names_filter, False, device, False, cache, pos_slice)
        sampling: list[int] = []

        def behind(save: Callable[..., None], tensor: Tensor, hook: Any) -> None:
            """Save an activation behind those of the step's earlier calls."""
            if not sampling:
                sampling.append(self.sampling)
            if sampling != [self.sampling]:
                raise HookError("A second sampling begins: a recording holds one. Record each in a block of its own.")
            earlier = cache.pop(name := at_step(hook.name, self.step, None), None)
            save(tensor, hook=hook)
            if earlier is None:
                return
            if earlier.shape[1:] != (later := cache[name]).shape[1:]:
                shapes = f"{as_typed(earlier)} and {as_typed(later)}"
                raise HookError(f"{name}: calls in this step have activations of different shapes, {shapes}.")
            cache[name] = torch.cat([earlier, later])

        return cache, [(name, functools.partial(behind, save)) for name, save in forward], backward
