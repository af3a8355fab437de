"""How hooks reach diffusers' modules in place: while it lasts, their forwards go through the hook points that have
hooks, in the thread that placed them."""

from __future__ import annotations

import functools
import inspect
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import HookError, UnsupportedModel
from workbench.models.attention_edits import AttentionEdits, Tap
from workbench.models.diffusion.diffusers_families import Attends
from workbench.models.diffusion.pipeline_steps import PipelineSteps
from workbench.models.diffusion.step_hooks import StepHooks
from workbench.models.replaced_forwards import replaced_forwards
from workbench.models.resumable import NotFinite
from workbench.models.sdpa_attention import called_once
from workbench.models.taps import checked


@dataclass(frozen=True)
class HookedAttention:
    """An attention module that is hooked: what it attends to, and the hook point of each site."""

    module: nn.Module
    attends: Attends
    sites: dict[str, str]


class HookedCalls(StepHooks):
    """Mixed into `workbench.models.diffusion.in_place.HookedDiffusers`: calls of a transformer and of its parts.

    Args:
        hf: the transformer. pipeline: the pipeline that it is of, None where it is not known.
    """

    hf: Any

    def __init__(self, hf: Any, pipeline: Any = None) -> None:
        super().__init__()
        object.__setattr__(self, "hf", hf)  # outside the tree of hook points
        self.pipeline = pipeline
        self.lock = threading.RLock()
        self._steps = PipelineSteps()
        self._attentions: list[HookedAttention] = []
        self._blocks: dict[str, nn.Module] = {}
        #: Part → how many positions it had in the last call.
        self._lengths: dict[str, int] = {}
        #: How many blocks that place hooks are open.
        self._depth = 0
        self._thread: int | None = None
        #: How often each hook point was reached, by step.
        self._calls: Counter[tuple[str, int]] = Counter()
        #: Where an activation was changed in this sampling, and in which step first.
        self._edited: dict[str, int] = {}
        #: What calls of the transformer go through: gets the call, its arguments and its step.
        self._answer: Callable[[Callable[[], Any], Mapping[str, Any], int], Any] | None = None

    @property
    def step(self) -> int:
        """The step that is running.

        Raises:
            HookError: it cannot be told.
        """
        if self._steps.unclear:
            raise HookError(f"Which step is running cannot be told: {self._steps.unclear}.")
        return self._steps.step

    @property
    def sampling(self) -> int:
        """How many samplings have begun."""
        return self._steps.sampling

    @contextmanager
    def answered_by(self, answer: Callable[[Callable[[], Any], Mapping[str, Any], int], Any]) -> Iterator[None]:
        """While it lasts, the transformer's calls are what ``answer(call, arguments, step)`` gives."""
        with self._installed():
            before, self._answer = self._answer, answer
            try:
                yield
            finally:
                self._answer = before

    @contextmanager
    def _installed(self) -> Iterator[None]:
        """While it lasts, calls of the transformer go through the hook points that have hooks."""
        with self.lock, ExitStack() as stack:
            self._depth += 1
            try:
                if self._depth == 1:
                    self._thread, self._edited = threading.get_ident(), {}
                    scheduler = getattr(self.pipeline, "scheduler", None)
                    stack.enter_context(self._steps.counting(scheduler, self._in_own_thread))
                    forwards: dict[nn.Module, Callable[..., Any]] = {
                        a.module: self._attention(a) for a in self._attentions
                    }
                    forwards |= {block: self._block(name, block) for name, block in self._blocks.items()}
                    stack.enter_context(replaced_forwards({**forwards, self.hf: self._whole(self.hf.forward)}))
                yield
            finally:
                self._depth -= 1

    def _in_own_thread(self) -> bool:
        """Whether this is the thread that placed the hooks."""
        return threading.get_ident() == self._thread

    def _whole(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The transformer's forward, which counts steps."""
        signature = inspect.signature(type(self.hf).forward)

        @functools.wraps(forward)
        def counted(*args: Any, **kwargs: Any) -> Any:
            if not self._in_own_thread():
                return forward(*args, **kwargs)
            if torch.is_grad_enabled() and getattr(self.hf, "gradient_checkpointing", False):
                do = "Call disable_gradient_checkpointing()."
                raise UnsupportedModel(
                    f"{type(self.hf).__name__} computes layers again in the backward pass, without hooks. {do}"
                )
            named = signature.bind(self.hf, *args, **kwargs).arguments
            sampling, latents = self.sampling, named.get("hidden_states")
            self._steps.called(named.get("timestep"), latents)
            if self.sampling != sampling:
                self._edited = {}
            self._require_finite(latents)
            call = functools.partial(forward, *args, **kwargs)
            output = call() if self._answer is None else self._answer(call, named, self._steps.step)
            self._require_finite(output[0] if isinstance(output, tuple) else getattr(output, "sample", None))
            return output

        return counted

    def _require_finite(self, x: Any) -> None:
        """Stop a sampling whose numbers are lost.

        Raises:
            NotFinite: one is NaN or infinite.
        """
        if not isinstance(x, Tensor) or (finite := torch.isfinite(x)).all():
            return
        edits = ", ".join(f"{name} (first in step {step})" for name, step in self._edited.items())
        row = int((~finite.flatten(1).all(1)).nonzero()[0])
        raise NotFinite(self._steps.step, row, f"edits at {edits}" if edits else "no edit")

    def _attention(self, attention: HookedAttention) -> Callable[..., Any]:
        """An attention module's forward with the taps that there are when it is called."""
        module, name = attention.module, attention.sites["z"].rpartition(".")[0]
        forward = module.forward

        @functools.wraps(forward)
        def hooked(*args: Any, **kwargs: Any) -> Any:
            taps = {site: self._tap(point) for site, point in attention.sites.items() if self._is_hooked(point)}
            if not taps:
                return forward(*args, **kwargs)
            return called_once(module, AttentionEdits(taps=taps), forward, name)(*args, **kwargs)

        return hooked

    def _block(self, name: str, block: nn.Module) -> Callable[..., Any]:
        """A layer's forward with the taps on its residual streams."""
        forward, signature = block.forward, inspect.signature(type(block).forward)
        streams = {"hidden_states": "resid", "encoder_hidden_states": "text_resid"}

        @functools.wraps(forward)
        def hooked(*args: Any, **kwargs: Any) -> Any:
            if not self._in_own_thread():
                return forward(*args, **kwargs)
            bound = signature.bind(block, *args, **kwargs)
            for argument, stream in streams.items():
                x = bound.arguments.get(argument)
                if x is None:
                    continue
                self._lengths["text" if stream == "text_resid" else "image"] = x.shape[1]
                bound.arguments[argument] = self._through(f"{name}.hook_{stream}_pre", x)
            output = forward(*bound.args[1:], **bound.kwargs)
            if not isinstance(output, tuple):
                return self._through(f"{name}.hook_resid_post", output)
            text, image = output
            return self._through(f"{name}.hook_text_resid_post", text), self._through(f"{name}.hook_resid_post", image)

        return hooked

    def _is_hooked(self, name: str) -> bool:
        """Whether a hook point exists and has hooks that this thread's calls go through."""
        return self._in_own_thread() and name in self.hook_dict and self.hook_dict[name].has_hooks()

    def _through(self, name: str, x: Any) -> Any:
        """An activation after its hooks."""
        if not self._is_hooked(name):
            return x
        new = self._tap(name)(x)
        return x if new is None else new

    def _tap(self, name: str) -> Tap:
        """A hook point as a tap."""

        def call(x: Tensor) -> Tensor | None:
            step, version = self._steps.step, None if x.is_inference() else x._version
            self._calls[name, step] += 1
            new = self.hook_dict[name](x)
            if new is not x or (version is not None and x._version != version):
                self._edited.setdefault(name, step)
            return new

        tap: Any = checked(name, call, set())
        return tap
