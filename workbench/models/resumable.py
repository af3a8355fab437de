"""What patching needs of a model: a stack of layers that can be entered at any depth and position.

The engine's terms are inputs, layers, positions and sampling steps. A language model has one step; a diffusion model
runs its layers once a step, and *depth* counts them all: ``depth = step · n_layers + layer``. An edit at a depth
and a position can change only later depths and, where attention is causal and there is one step, later positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import HookError

Tap = Callable[[Tensor], Tensor | None]
#: Hook name → function, for activations of the positions from the first argument on, and before the second if there is
#: one.
TapsFrom = Callable[..., Mapping[str, Tap]]
#: A row's state between depths: the residual stream first (``[row, pos, d_model]``), then whatever else
#: the model needs (a diffusion model's latent).
Stream = tuple[Tensor, ...]


class StopForward(Exception):
    """Raised inside a forward to leave it, once the rest of it is not needed."""


class NotFinite(HookError):
    """A number became NaN or infinite while a model sampled.

    Attributes:
        step: in which step. row: of which row of the batch, the first one.
    """

    def __init__(self, step: int, row: int, edits: str = "") -> None:
        self.step, self.row = step, row
        super().__init__(f"Sampling gave NaN or infinity in step {step}{f', after {edits}' if edits else ''}.")

    def after(self, edits: str) -> NotFinite:
        """The same, with the edits that were made before."""
        return NotFinite(self.step, self.row, edits)


@runtime_checkable
class BaseRun(Protocol):
    """One unedited run of a batch of inputs, with all that is needed to resume it."""

    @property
    def size(self) -> int:
        """Number of inputs."""
        ...

    @property
    def length(self) -> int:
        """Number of positions."""
        ...


@runtime_checkable
class ResumableModel(Protocol):
    """A model that can be resumed from any depth and position.

    Attributes:
        n_layers, n_heads, n_kv_heads, n_steps: sizes.
        causal: whether a position attends only to itself and earlier ones (false whenever ``n_steps > 1``).
        resumes: whether resuming is exact; otherwise the engine calls `full_forward`.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    n_steps: int
    causal: bool
    resumes: bool

    def hook_name(self, site: str, layer: int) -> str:
        """The full hook name of a site in a layer; raises `UnknownName`."""
        ...

    def base_run(self, inputs: Any, taps: Mapping[int, Mapping[str, Tap]] | None = None) -> Any:
        """Run inputs unedited, with `taps` (step → hook name → function) reading activations on the way."""
        ...

    def truncate(self, base: Any, length: int) -> Any:
        """The first `length` positions of a base run, as a base run (causal models only)."""
        ...

    def embed(self, inputs: Any) -> Stream:
        """The stream with which inputs enter depth 0."""
        ...

    def stream_at(self, base: Any, depth: int, rows: Int[Tensor, "row"], start: int) -> Stream:
        """The base stream entering `depth`, positions `start` on, for rows that resume inputs `rows`."""
        ...

    def block(
        self,
        base: Any,
        depth: int,
        rows: Int[Tensor, "row"],
        start: int,
        stream: Stream,
        taps: TapsFrom,
        frozen: Tensor | None = None,
        expand: frozenset[str] = frozenset(),
        all_positions: bool = False,
    ) -> Stream:
        """Pass the rows' stream through one depth, with earlier positions from the base run.

        Args:
            all_positions: compute every position of the last depth too, not only those that are read out.
            frozen: z to use instead of computing attention.
            expand: ``k`` and/or ``v`` to give every query head its own copy of, so that an edit reaches one head.
        """
        ...

    def readout(
        self, base: Any, rows: Int[Tensor, "row"], stream: Stream, tokens: Int[Tensor, "n"] | None = None
    ) -> Float[Tensor, "row n"]:
        """What the metric is computed from: for a language model the last position's logits of `tokens`, or of all."""
        ...

    def full_forward(
        self,
        inputs: Any,
        taps: Mapping[int, Mapping[str, Tap]],
        tokens: Int[Tensor, "n"] | None = None,
        expand: Mapping[int, frozenset[str]] | None = None,
    ) -> Float[Tensor, "row n"]:
        """The readout of complete forwards of `inputs` (one a row) with taps in place (step → hook name → tap)."""
        ...

    def weights_frozen(self) -> AbstractContextManager[None]:
        """While it lasts, `block` and `readout` called with gradients enabled build a graph without any weight."""
        ...
