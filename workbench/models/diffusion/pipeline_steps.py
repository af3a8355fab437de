"""Which step of a pipeline of diffusers is running while its transformer is called."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Num, Shaped
from torch import Tensor

from workbench.models.precision import same_tensor


class PipelineSteps:
    """Counts a pipeline's steps, each an iteration of its loop: the ``i`` that ``callback_on_step_end`` gets.

    With the pipeline's scheduler, a step ends where the pipeline calls ``scheduler.step``, and a sampling begins where
    it calls ``scheduler.set_timesteps``, however often the transformer is called in between. A scheduler that evaluates
    twice (Heun) has two iterations, and so two steps here, as in the callback.

    Without one (a transformer alone, or a loop that does not use the scheduler) timesteps decide: a smaller one is the
    next step, a larger one behind that another sampling, and the same one with the same latents is the same step. What
    these leave open is `unclear`.

    Attributes:
        step: the step that is running. sampling: how many samplings have begun.
        unclear: why the step cannot be told; empty where it can.
    """

    def __init__(self) -> None:
        self.step, self.sampling, self.unclear = 0, 0, ""
        self._forget()

    def _forget(self) -> None:
        self._time: float | None = None
        self._latents: Tensor | None = None
        #: Whether the scheduler was called at all; how many steps it ended in this sampling; whether timesteps were set
        #: since the last call of the transformer, and whether ever.
        self._used, self._ended, self._restarted, self._begun = False, 0, False, False
        self._scheduler: Any = None

    @contextmanager
    def counting(self, scheduler: Any, counts: Callable[[], bool]) -> Iterator[None]:
        """While it lasts, calls of the scheduler are noticed (None for none), if `counts()` says so.

        A copy that a pipeline makes of its scheduler counts nothing.
        """
        self.step, self.unclear, self.sampling = 0, "", self.sampling + 1
        self._forget()
        self._scheduler = scheduler
        names = [name for name in ("step", "set_timesteps") if callable(getattr(scheduler, name, None))]
        if len(names) < 2:
            yield
            return
        own = {name: vars(scheduler).get(name) for name in names}
        for name in names:
            setattr(scheduler, name, types.MethodType(self._noticed(scheduler, name, own[name], counts), scheduler))
        try:
            yield
        finally:
            for name, method in own.items():
                if method is None:
                    delattr(scheduler, name)
                else:
                    setattr(scheduler, name, method)

    def _noticed(self, scheduler: Any, name: str, own: Any, counts: Callable[[], bool]) -> Callable[..., Any]:
        """A method of the scheduler that is counted; one that is a method, so that a copy has its own."""
        method = getattr(type(scheduler), name)

        @functools.wraps(method)
        def noticed(self_: Any, *args: Any, **kwargs: Any) -> Any:
            if self_ is scheduler and counts():
                self._used = True
                if name == "step":
                    self._ended += 1
                else:
                    self._restarted = self._begun = True
            return method(self_, *args, **kwargs) if own is None else own(*args, **kwargs)

        return noticed

    def called(self, time: Num[Tensor, "*batch"] | float | None, latents: Shaped[Tensor, "batch *rest"] | None) -> None:
        """Count a call of the transformer."""
        before, times = self._time, torch.as_tensor(0.0 if time is None else time).float()
        now = float(times.max())
        if bool((times != now).any()):
            self.unclear = "the inputs of one call have different timesteps"
        first = None if latents is None else latents[:1].detach()
        if before is None:
            self.step = self._ended
            self._restarted = False
        elif self._used:
            self._count_scheduler(before, now)
        else:
            self._count_times(before, now, first)
        self._time, self._latents = now, None if first is None or self._used else first.clone()

    def _count_scheduler(self, before: float, now: float) -> None:
        if self._restarted:
            self.sampling, self.unclear, self._restarted, self._ended = self.sampling + 1, "", False, 0
        elif now > before and not self._begun:
            self.unclear = f"the timestep went from {before:g} to {now:g} without new timesteps of the scheduler"
        elif self._ended == self.step and now != before:
            self.unclear = f"the timestep went from {before:g} to {now:g} without a step of the pipeline's scheduler"
        elif self._ended >= self._n_timesteps():
            self.unclear = "there are more steps than the pipeline's scheduler has timesteps"
        self.step = self._ended

    def _n_timesteps(self) -> float:
        timesteps = getattr(self._scheduler, "timesteps", None)
        return float("inf") if timesteps is None else len(timesteps)

    def _count_times(self, before: float, now: float, first: Tensor | None) -> None:
        do = "Give wb.HookedDiffusers the pipeline, whose scheduler tells"
        if now < before:
            self.step += 1
        elif now > before and self.step:
            self.step, self.sampling, self.unclear = 0, self.sampling + 1, ""
        elif now > before:
            self.unclear = (
                f"the timestep went from {before:g} to {now:g}, in a sampling of one step or with times that rise. {do}"
            )
        elif first is not None and self._latents is not None and not same_tensor(first, self._latents):
            self.unclear = (
                f"two calls at timestep {now:g} have different latents, as with a scheduler that evaluates twice. {do}"
            )
