"""Taps of every sampling step, put in place once for all steps where that is possible.

Putting taps in place and removing them between two passes is a noticeable part of a small model's step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor

from workbench.errors import HookError
from workbench.models.attention_edits import AttentionEdits, PartialTap
from workbench.models.resumable import Tap
from workbench.models.steps import at_step

if TYPE_CHECKING:
    from workbench.models.diffusion.hooked import HookedDiT

#: Step → hook name → tap.
StepTaps = Mapping[int, Mapping[str, Tap]]


def same_in_all_steps(taps: StepTaps, n_steps: int) -> bool:
    """Whether every step has taps at the same hooks, all of them on whole activations."""
    first = taps.get(0, {}).keys()
    of_steps = [taps.get(step, {}) for step in range(n_steps)]
    return all(
        of_step.keys() == first and not any(isinstance(tap, PartialTap) for tap in of_step.values())
        for of_step in of_steps
    )


@contextmanager
def running_all_steps(model: HookedDiT, taps: StepTaps, edits: Mapping[int, AttentionEdits]) -> Iterator[None]:
    """Hold the model for all steps of a run with taps that are `same_in_all_steps`.

    Raises:
        HookError: a tap was not called in its step.
    """
    silent = {(hook, step) for step in range(model.n_steps) for hook in taps.get(step, {})}

    def of_hook(hook: str) -> Tap:
        def tap(x: Tensor) -> Tensor | None:
            silent.discard((hook, model.step))
            return taps[model.step][hook](x)

        return tap

    with model.running({hook: of_hook(hook) for hook in taps.get(0, {})}, edits, must_fire=False):
        yield
    if silent:
        names = sorted(at_step(hook, step, model.n_steps) for hook, step in silent)
        raise HookError(f"Nothing happened at {', '.join(names)}: the site was never reached in this run.")
