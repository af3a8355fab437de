"""Recorded activations by site or hook name, input by input, read on access."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol, overload

import torch
from jaxtyping import Shaped
from torch import Tensor

from workbench.core import Edit
from workbench.errors import BadInput, UnknownName
from workbench.models.steps import at_step


class Source(Protocol):
    """Where activations are read from: memory or the store."""

    @property
    def n_inputs(self) -> int:
        """How many inputs were recorded."""
        ...

    def read(self, hooks: Sequence[str], prompt: int) -> list[Tensor]:
        """The activation of one input at each hook, ``[pos, ...]``; a pattern is ``[head, dest, src]``."""
        ...


class InMemory:
    """Activations in memory, batch by batch.

    Args:
        batches: hook → activations ``[input of the batch, ...]`` of each batch.
        places: of each input its batch, and its row there.
    """

    def __init__(self, batches: Mapping[str, Sequence[Tensor]], places: Sequence[tuple[int, int]]) -> None:
        self._batches, self._places = batches, places

    @property
    def n_inputs(self) -> int:
        return len(self._places)

    def read(self, hooks: Sequence[str], prompt: int) -> list[Tensor]:
        batch, row = self._places[prompt]
        return [self._batches[hook][batch][row] for hook in hooks]


class InputActivations(Sequence[Tensor]):
    """One tensor an input, each read on access: of one hook, or of several, stacked to leading axes of `shape`."""

    def __init__(self, source: Source, hooks: Sequence[str], shape: Sequence[int]) -> None:
        self._source, self._hooks, self._shape = source, hooks, tuple(shape)

    def __len__(self) -> int:
        return self._source.n_inputs

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not hasattr(index, "__index__"):
            raise TypeError(
                f"input {index!r}: a recording is a list with one tensor per input. Index the input first, then the "
                "tensor, or stack inputs of one length with .stack(site)."
            )
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"input {index} of {len(self)}")
        tensors = self._source.read(self._hooks, index % len(self))
        return torch.stack(tensors).unflatten(0, self._shape) if self._shape else tensors[0].clone()

    def __getattr__(self, name: str) -> NoReturn:
        hint = f". It is one tensor per input: see [0].{name} or .stack(site)" if hasattr(Tensor, name) else ""
        raise AttributeError(f"the recording of a site has no {name!r}{hint}")

    def __repr__(self) -> str:
        return f"<{len(self)} inputs of {', '.join(self._hooks[:1])}{', …' * (len(self._hooks) > 1)}>"


class RecordedRun(Mapping[str, InputActivations]):
    """Recorded activations of one run of each input.

    ``run["z"]`` is a sequence with one tensor per input, ``[layer, pos, head, d_head]`` over the recorded layers;
    ``run["blocks.9.attn.hook_z"]`` the same for one layer, ``[pos, head, d_head]``. Patterns are ``[head, dest, src]``.
    Where the model runs its layers in several sampling steps, the recorded steps are the first axis of both, and
    ``run["blocks.9.attn.hook_z@3"]`` is step 3. Each tensor is read on access, and is a copy of your own.

    Args:
        sites: site → its plain hook names, one a layer.
        steps: the recorded steps, of `n_steps`.
    """

    def __init__(
        self, source: Source, sites: Mapping[str, Sequence[str]], steps: Sequence[int] = (0,), n_steps: int = 1
    ) -> None:
        self._source, self._sites = source, sites
        of_steps = (len(steps),) if n_steps > 1 else ()
        #: Name → the stored hooks behind it, and the leading axes that they are stacked to.
        self._names: dict[str, tuple[list[str], tuple[int, ...]]] = {}
        for site, hooks in sites.items():
            stored = [at_step(hook, step, n_steps) for step in steps for hook in hooks]
            self._names[site] = stored, (*of_steps, len(hooks))
        for hook in dict.fromkeys(hook for hooks in sites.values() for hook in hooks):
            self._names[hook] = [at_step(hook, step, n_steps) for step in steps], of_steps
            self._names |= {f"{hook}@{step}": ([at_step(hook, step, n_steps)], ()) for step in steps}

    def __getitem__(self, site: str) -> InputActivations:
        if site not in self._names:
            stored = [hook for hooks, shape in self._names.values() for hook in hooks if not shape]
            raise UnknownName("recorded site", site, [*self._sites, *dict.fromkeys(stored)])
        return InputActivations(self._source, *self._names[site])

    @property
    def n_inputs(self) -> int:
        """How many inputs were recorded."""
        return self._source.n_inputs

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)

    def stack(self, site: str) -> Shaped[Tensor, "input *rest"]:
        """All inputs as one tensor.

        Raises:
            BadInput: the inputs have several lengths.
        """
        tensors = list(self[site])
        shapes = {tuple(t.shape) for t in tensors}
        if len(shapes) > 1:  # positions are the first axis along which inputs can differ
            lengths = sorted(next(set(sizes) for sizes in zip(*shapes, strict=True) if len(set(sizes)) > 1))
            raise BadInput(f"Inputs of {', '.join(map(str, lengths))} positions cannot be stacked. Use the list.")
        return torch.stack(tensors)


@dataclass(frozen=True)
class Recording:
    """Activations of a task's inputs: `clean` and, for paired inputs, `corrupt` runs, at `layers`, in `steps`, under
    `edits`.

    Examples:
        >>> recording = wb.record(wb.load("tiny"), "Then, Mary and John", ["pattern"])
        >>> recording
        Recording(pattern at 2 layers, runs of 1 inputs)
        >>> recording.clean["blocks.1.attn.hook_pattern"][0].shape  # [head, dest, src]
        torch.Size([8, 5, 5])
    """

    clean: RecordedRun
    corrupt: RecordedRun | None
    sites: tuple[str, ...]
    layers: tuple[int, ...]
    edits: tuple[Edit, ...] = ()
    steps: tuple[int, ...] = (0,)

    def __repr__(self) -> str:
        runs = "clean and corrupt runs" if self.corrupt is not None else "runs"
        under = f" under {len(self.edits)} edits" if self.edits else ""
        steps = f" in steps {', '.join(map(str, self.steps))}" if self.steps != (0,) else ""
        return (
            f"Recording({', '.join(self.sites)} at {len(self.layers)} layers{steps}, {runs} of {self.clean.n_inputs} "
            f"inputs{under})"
        )
