"""TransformerLens's hooks, with names that are checked, positions that are positions, and one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint
from transformer_lens.utilities.slice import Slice

from workbench.arguments import flag, refusal
from workbench.models.activation_cache import Activations
from workbench.models.attention_edits import Tap
from workbench.models.hook_arguments import check_hook, check_names_filter, pairs_of


class CheckedHooks(HookedRootModule):
    """The hooks of `workbench.models.hooked.HookedModel`: a hook point that does not exist is an error, not a hook that
    does nothing."""

    lock: threading.RLock

    def run_with_cache(
        self, *args: Any, return_cache_object: bool = True, remove_batch_dim: bool = False, **kwargs: Any
    ) -> tuple[Any, Any]:
        """As in TransformerLens: the output and the `Activations` of every hook point that fired, or its dictionary;
        `pos_slice` selects positions as in `get_caching_hooks`.

        Raises:
            UnknownName: `names_filter` names a hook point that the model does not have.
            UsageError: `names_filter` matches none of them, `remove_batch_dim` for several inputs, or `incl_bwd` where
                nothing requires gradients or the output is no single number.
        """
        incl_bwd = flag("incl_bwd", kwargs.get("incl_bwd", False))
        try:
            output, cache = super().run_with_cache(*args, **kwargs)
        except RuntimeError as error:
            if incl_bwd and "scalar outputs" in str(error):
                why = "gradients are those of one number"
                do = "Give return_type='loss'."
                raise refusal("incl_bwd", True, "a run that returns one number", do, because=why) from None
            raise
        activations = Activations(cache, self)
        if flag("remove_batch_dim", remove_batch_dim):
            if (size := len(next(iter(cache.values())))) != 1:
                raise refusal("remove_batch_dim", True, "False", because=f"the batch has {size} inputs")
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
        check_names_filter(names_filter, self.hook_dict)
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
        check_names_filter(names_filter, self.hook_dict)
        return super().add_caching_hooks(names_filter, *args, **kwargs)

    def add_hook(self, name: Any, hook: Any, dir: Literal["fwd", "bwd"] = "fwd", *args: Any, **kwargs: Any) -> None:
        """As in TransformerLens.

        Raises:
            UnknownName: the model has no hook point of that name.
            UsageError: the filter matches none of them, or a hook that cannot be called.
        """
        check_hook(name, hook, dir, self.hook_dict)
        super().add_hook(name, hook, dir, *args, **kwargs)

    @contextmanager
    def hooks(self, fwd_hooks: Any = (), bwd_hooks: Any = (), *args: Any, **kwargs: Any) -> Iterator[Any]:
        """As in TransformerLens; another thread's calls wait until these hooks are gone."""
        forward, backward = pairs_of("fwd_hooks", fwd_hooks), pairs_of("bwd_hooks", bwd_hooks)
        with self.lock, super().hooks(forward, backward, *args, **kwargs):
            yield self

    def has_active_hooks(self) -> bool:
        """Whether any hook point has a hook."""
        return bool(self._active_hooks())

    def _active_hooks(self) -> dict[str, Tap]:
        return {name: point for name, point in self.hook_dict.items() if point.has_hooks()}

    def _enable_hook(self, name: str | Callable[[str], bool], hook: Callable, dir: Literal["fwd", "bwd"]) -> None:
        check_hook(name, hook, dir, self.hook_dict)
        super()._enable_hook(name, hook, dir)


def _at_positions(positions: Slice, name: str, save: Callable[..., None]) -> Callable[..., None]:
    """A caching hook that saves some positions of the activation at a hook point: the axis behind the batch, and of
    patterns and scores, ``[batch, head, dest, src]``, the destinations."""
    axis = 2 if name.endswith(("hook_pattern", "hook_attn_scores")) else 1

    def save_positions(tensor: Tensor, hook: HookPoint) -> None:
        save(positions.apply(tensor, dim=axis), hook=hook)

    return save_positions
