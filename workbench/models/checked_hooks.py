"""TransformerLens's hooks, with names that are checked, positions that are positions, and one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor
from transformer_lens import ActivationCache, HookedRootModule
from transformer_lens.hook_points import HookPoint
from transformer_lens.utilities.slice import Slice

from workbench.errors import UnknownName, UsageError
from workbench.models.attention_hook import Tap


class CheckedHooks(HookedRootModule):
    """The hooks of `workbench.models.hooked.HookedModel`: a hook point that does not exist is an error, not a hook that
    does nothing."""

    lock: threading.RLock

    def run_with_cache(
        self, *args: Any, return_cache_object: bool = True, remove_batch_dim: bool = False, **kwargs: Any
    ) -> tuple[Any, Any]:
        """As in TransformerLens: the output and an `ActivationCache` of every hook point that fired, or its dictionary;
        `pos_slice` selects positions as in `get_caching_hooks`.

        Raises:
            UnknownName: `names_filter` names a hook point that the model does not have.
            UsageError: `names_filter` matches none of them.
        """
        output, cache = super().run_with_cache(*args, **kwargs)
        activations = ActivationCache(cache, self)
        if remove_batch_dim:
            activations.remove_batch_dim()
        return output, activations if return_cache_object else activations.cache_dict

    def get_caching_hooks(
        self,
        names_filter: Any = None,
        incl_bwd: bool = False,
        device: Any = None,
        remove_batch_dim: bool = False,
        cache: dict | None = None,
        pos_slice: Any = None,
    ) -> tuple[dict, list, list]:
        """As in TransformerLens, but for `pos_slice`: it selects positions at every hook point, and destinations of
        patterns and scores. (TransformerLens 4 knows an axis of heads by five names, and takes heads elsewhere:
        ``hook_rot_q``, ``hook_q_normed``.)

        Raises:
            UnknownName: `names_filter` names a hook point that the model does not have.
            UsageError: `names_filter` matches none of them.
        """
        self._require_filter(names_filter)
        cache, *all_hooks = super().get_caching_hooks(names_filter, incl_bwd, device, remove_batch_dim, cache)
        positions = Slice.unwrap(pos_slice)  # None selects all
        forward, backward = ([(name, _at_positions(positions, name, save)) for name, save in h] for h in all_hooks)
        return cache, forward, backward

    def add_caching_hooks(self, names_filter: Any = None, *args: Any, **kwargs: Any) -> dict:
        """As in TransformerLens.

        Raises:
            UnknownName: `names_filter` names a hook point that the model does not have.
            UsageError: `names_filter` matches none of them.
        """
        self._require_filter(names_filter)
        return super().add_caching_hooks(names_filter, *args, **kwargs)

    def add_hook(self, name: str | Callable[[str], bool], *args: Any, **kwargs: Any) -> None:
        """As in TransformerLens.

        Raises:
            UnknownName: the model has no hook point of that name.
            UsageError: the filter matches none of them.
        """
        self._require(name)
        super().add_hook(name, *args, **kwargs)

    @contextmanager
    def hooks(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """As in TransformerLens; another thread's calls wait until these hooks are gone."""
        with self.lock, super().hooks(*args, **kwargs):
            yield self

    def has_active_hooks(self) -> bool:
        """Whether any hook point has a hook."""
        return bool(self._active_hooks())

    def _active_hooks(self) -> dict[str, Tap]:
        return {name: point for name, point in self.hook_dict.items() if point.has_hooks()}

    def _enable_hook(self, name: str | Callable[[str], bool], hook: Callable, dir: Literal["fwd", "bwd"]) -> None:
        self._require(name)
        super()._enable_hook(name, hook, dir)

    def _require_filter(self, names_filter: Any) -> None:
        """Every name of a filter has to be a hook point's."""
        for name in names_filter if isinstance(names_filter, list) else [names_filter]:
            if name is not None:
                self._require(name)

    def _require(self, name: str | Callable[[str], bool]) -> None:
        if isinstance(name, str) and name not in self.hook_dict:
            raise UnknownName("site", name, self.hook_dict)
        if callable(name) and not any(name(hook_name) for hook_name in self.hook_dict):
            raise UsageError(f"The filter {name!r} matches none of the model's {len(self.hook_dict)} hook points.")


def _at_positions(positions: Slice, name: str, save: Callable[..., None]) -> Callable[..., None]:
    """A caching hook that saves some positions of the activation at a hook point: the axis behind the batch, and of
    patterns and scores, ``[batch, head, dest, src]``, the destinations."""
    axis = 2 if name.endswith(("hook_pattern", "hook_attn_scores")) else 1

    def save_positions(tensor: Tensor, hook: HookPoint) -> None:
        save(positions.apply(tensor, dim=axis), hook=hook)

    return save_positions
