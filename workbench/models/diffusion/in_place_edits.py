"""`wb.Edit` as hooks on a transformer of diffusers, whose values may come from a recording of another run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from workbench import arguments
from workbench.arguments import as_typed
from workbench.core import Edit
from workbench.errors import HookError, UnknownName, UsageError
from workbench.models.steps import at_step, split_step

if TYPE_CHECKING:
    from workbench.models.diffusion.in_place import HookedDiffusers

#: Kinds of edits that need other inputs, or positions that have names.
_ELSEWHERE = ("mean", "resample", "pattern")


class EditHook:
    """One edit as a hook on its hook point, in every step or in one.

    Args:
        name: the plain name of the hook point. source: recorded activations under their names with the step.
    """

    def __init__(self, model: HookedDiffusers, edit: Edit, name: str, source: Mapping[str, Tensor] | None) -> None:
        self.model, self.edit, self.name, self.source = model, edit, name, source
        #: Of the step that is running: its sampling and number, its name, and how many rows were patched.
        self._now, self._stored, self._rows = (-1, -1), "", 0

    def __call__(self, x: Shaped[Tensor, "batch *rest"], hook: Any) -> Shaped[Tensor, "batch *rest"]:
        edit, new = self.edit, x.clone()
        part = self._part(new)
        if edit.kind == "patch":
            part.copy_(self._part(self._from_source(x)))
        elif edit.kind == "zero":
            part.zero_()
        elif edit.kind == "scale" and edit.factor is not None:
            part.mul_(edit.factor)
        elif edit.kind == "add":
            part.add_(self._vector(part))
        elif edit.kind == "identity":
            part.copy_(self._toward_identity(x, part))
        else:
            part.copy_(self._by_function(part))
        return new

    def finish(self, every: Collection[int] | None = None) -> None:
        """At the end of a step: every row of the source was used; and, with the steps of the whole run, every step.

        Raises:
            HookError: some were not, so that rows or steps of the two runs are not the same ones.
        """
        if self._stored and self.source is not None and self._rows != (n := len(self.source[self._stored])):
            raise HookError(
                f"{self._stored}: the source has {n} rows, and this run {self._rows}. Record it with the same guidance "
                "and number of images."
            )
        self._stored = ""
        if every is None or self.edit.kind != "patch" or self.edit.step is not None:
            return
        for name, step in map(split_step, self.source or ()):
            if name == self.name and step is not None and step not in every:
                raise HookError(
                    f"The source has {at_step(name, step, None)}, and this run had no step {step}. Record it with the "
                    "same schedule."
                )

    def _part(self, x: Tensor) -> Tensor:
        """The edit's heads and positions of an activation, a view."""
        edit, on_heads = self.edit, self.model.has_heads(self.name)
        if edit.position is not None:
            pattern = self.name.endswith(("hook_pattern", "hook_attn_scores"))
            if isinstance(edit.position, str):
                x = self._named_part(x, edit.position)
            else:
                axis = 2 if pattern else 1
                n = x.shape[axis]
                if not -n <= edit.position < n:
                    why = f"{self.name} has {n} positions"
                    raise arguments.refusal("position", edit.position, f"a position from {-n} to {n - 1}", because=why)
                x = x.narrow(axis, edit.position % n, 1)
        if edit.head is not None and on_heads:
            x = x.select(1 if self.name.endswith(("hook_pattern", "hook_attn_scores")) else 2, edit.head)
        return x

    def _named_part(self, x: Tensor, position: str) -> Tensor:
        """The image's or the text's positions; a refusal names the argument of the edit."""
        axis = "src" if self.model.reads_sources(self.name) else "dest"
        try:
            return self.model.part(self.name, x, **{axis: position})
        except UnknownName as error:
            if error.kind == axis:
                arguments.one_of("position", position, error.choices)
            raise

    def _from_source(self, x: Tensor) -> Tensor:
        """The rows of the source that belong to this call: those behind the step's earlier calls."""
        now = self.model.sampling, self.model.step
        if now != self._now:
            self.finish()
            self._now, self._rows, self._stored = now, 0, at_step(self.name, now[1], None)
        source = {} if self.source is None else self.source
        if self._stored not in source:
            raise HookError(f"The source has no {self._stored}: record it in that step too.")
        rows = source[self._stored][self._rows : self._rows + len(x)]
        if rows.shape != x.shape:
            raise HookError(
                f"{self._stored}: the source has {as_typed(source[self._stored])}, and this run {as_typed(x)} behind "
                f"{self._rows} rows. Both need the same size of image, length of text, guidance and number of images."
            )
        self._rows += len(x)
        return rows.to(x)

    def _vector(self, part: Tensor) -> Tensor:
        vector = self.edit.vector
        if vector.shape != part.shape[2:]:
            expected = f"a tensor of shape {tuple(part.shape[2:])}"
            raise arguments.refusal("vector", vector, expected, because="that is the shape of one position here")
        return vector.to(part)

    def _toward_identity(self, x: Tensor, part: Tensor) -> Tensor:
        if x.shape[-1] != x.shape[-2]:
            why = f"{self.name} attends from {x.shape[-2]} positions to {x.shape[-1]} others"
            raise arguments.refusal("u", self.edit.u, "rows in which position i is source i", because=why)
        eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device).expand_as(x)
        u = float(self.edit.u or 0)
        return (1 - u) * part + u * self._part(eye)

    def _by_function(self, part: Tensor) -> Tensor:
        new: Any = self.edit.kind(part.clone()) if callable(self.edit.kind) else None
        if not isinstance(new, Tensor) or new.shape != part.shape:
            raise HookError(
                f"The edit at {self.name} gave {as_typed(new)} where {tuple(part.shape)} came in. An edit must keep "
                "the shape."
            )
        return new


def edit_hooks(
    model: HookedDiffusers, edits: Sequence[Edit], source: Mapping[str, Tensor] | None
) -> tuple[list[tuple[str, EditHook]], list[EditHook]]:
    """Edits as pairs ``(name with the step, hook)``, and the hooks.

    Raises:
        UnknownName: the model has no such site.
        UsageError: a layer or head that does not exist, a kind that cannot be made here, or a patch without a source.
    """
    if source is not None and not any(edit.kind == "patch" for edit in edits):
        raise arguments.refusal("source", source, "None", "Leave it out.", because="no edit is a patch")
    pairs, hooks = [], []
    for i, edit in enumerate(edits):
        name, argument = model.hook_name(edit.site, edit.layer), f"edits[{i}]"
        if edit.kind in _ELSEWHERE:
            do = "Give a function of the activation."
            why = "a pipeline has no other inputs to average over, and no names of positions"
            raise arguments.refusal(f"{argument}.kind", edit.kind, "another kind here", do, because=why)
        if edit.head is not None:
            if not model.has_heads(name):
                raise arguments.refusal(f"{argument}.head", edit.head, "None", because=f"{name} has no heads")
            arguments.index(f"{argument}.head", edit.head, model.n_heads, "head")
        steps = (None,) if edit.step is None else edit.step if isinstance(edit.step, tuple) else (edit.step,)
        if edit.kind == "patch":
            _check_source(name, steps, source, f"{argument}.step")
        for step in steps:
            hook = EditHook(model, edit, name, source)
            hooks.append(hook)
            pairs.append((name if step is None else at_step(name, step, None), hook))
    return pairs, hooks


def _check_source(name: str, steps: Sequence[int | None], source: Any, argument: str) -> None:
    do = "Record the other run: with model.recording(...) as source: pipe(...)."
    if not isinstance(source, Mapping):
        why = "a patch takes its values from another run"
        raise arguments.refusal("source", source, "recorded activations", do, because=why)
    own = sorted(step for plain, step in map(split_step, source) if plain == name and step is not None)
    for step in steps:
        if step is None or step in own:
            continue
        if own:
            first, last = own[0], own[-1]
            expected = f"one of steps {', '.join(map(str, own))}"
            if own == list(range(first, last + 1)):
                expected = f"a step from {first} to {last}"
            raise arguments.refusal(argument, step, expected, do, because=f"source has {name} in no other")
        raise UsageError(f"source: expected {at_step(name, step, None)} in it. {do}")
    for step in steps:
        if step is None and not any(stored.partition("@")[0] == name for stored in source):
            raise UsageError(f"source: expected {name} in it, with a step each. {do}")
