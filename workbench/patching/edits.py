"""Any set of edits at once: their values, what they write in the run of each input, and the hash that names them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from torch import Tensor

from workbench import arguments
from workbench.cache.keys import digest, hash_inputs
from workbench.core import Edit
from workbench.inputs.paired import PairedInputs
from workbench.models.steps import resolve_steps
from workbench.patching.cone import EditedRun, Write
from workbench.patching.recorder import Recorder
from workbench.patching.resolve import NO_OTHER_RUN, how_to_pair, resolve_mean_over
from workbench.patching.sites import check_vector, has_heads, has_kv_heads
from workbench.patching.values import AttentionWeights, Values, ValuesByDepth, indices_of, values_of


@dataclass(frozen=True)
class Edits:
    """`edits` of the clean runs of `inputs`; ``patch`` takes its values from their corrupt runs.

    Args:
        mean_over: inputs that ``mean`` edits average over, ``"positions"``, or None for the inputs themselves.
        seed: of ``resample`` edits.
    """

    recorder: Recorder
    inputs: PairedInputs
    edits: tuple[Edit, ...]
    mean_over: PairedInputs | str | None = None
    seed: int = 0

    @classmethod
    def of(
        cls, recorder: Recorder, inputs: PairedInputs, edits: Sequence[Edit], mean_over: Any, seed: int, model: Any
    ) -> Edits:
        """Checked edits.

        Raises:
            UnknownName: no such site.
            UsageError: a head, layer or step that does not exist, a patch without a pair, or a vector of another shape.
        """
        edits, seed = edit_list("edits", edits), arguments.whole_number("seed", seed, at_least=0)
        for i, edit in enumerate(edits):
            _check(recorder, edit, f"edits[{i}]")
        if inputs.corrupt is inputs.clean and any(edit.kind == "patch" for edit in edits):
            why = "kind='patch' takes its values from the other run of a pair, and " + NO_OTHER_RUN
            do = how_to_pair(model)
            raise arguments.refusal("edits", list(edits), "edits of another kind", do, because=why)
        return cls(recorder, inputs, edits, resolve_mean_over(mean_over, model), seed)

    def edited_run(self, i: int) -> EditedRun:
        """What the edits write in the run of one input."""
        return EditedRun(i, tuple(write for writes in self.writes(i) for write in writes))

    def writes(self, i: int) -> list[tuple[Write, ...]]:
        """What each edit writes in the run of one input: one write a step and position."""
        values = {key: source.of(i) for key, source in self._sources.items()}
        return [
            tuple(
                self._write(edit, depth, position, values[_source_key(edit)])
                for depth in self._depths(edit)
                for position in self._positions(i, edit)
            )
            for edit in self.edits
        ]

    def key(self, i: int) -> bytes | None:
        """A hash of the edits of one input and of all that their values come from; None where one is the user's own
        function."""
        if not all(isinstance(edit.kind, str) for edit in self.edits):
            return None
        if i not in self._keys:
            self._keys[i] = digest("edits", *(part for edit in self.edits for part in self._key_parts(i, edit)))
        return self._keys[i]

    def _key_parts(self, i: int, edit: Edit) -> list[Any]:
        """Everything that can change what one edit writes in the run of one input."""
        resumable, positions = self.recorder.resumable, self._positions(i, edit)
        target = [
            resumable.hook_name(edit.site, edit.layer),
            steps_key(edit, resumable.n_steps),
            edit.head,
            positions[0] if len(positions) == 1 else list(positions),
        ]
        source: tuple[Any, ...] = ()
        if edit.kind == "patch":
            source = (self.inputs.corrupt[i],)
        elif edit.kind == "mean":
            source = (self.mean_over == "positions", self._reference_hash)
        elif edit.kind == "resample":
            source = (self.seed, i, self._inputs_hash)
        elif edit.attend_to is not None:
            source = (AttentionWeights(self.inputs, edit.attend_to).weights(i),)
        else:
            source = argument_key(edit)
        return [[*target, edit.kind], *source]

    @cached_property
    def _keys(self) -> dict[int, bytes]:
        return {}

    @cached_property
    def _inputs_hash(self) -> bytes:
        return hash_inputs(self.inputs)

    @cached_property
    def _reference_hash(self) -> bytes:
        """A hash of the inputs that ``mean`` edits average over."""
        return hash_inputs(self.mean_over) if isinstance(self.mean_over, PairedInputs) else self._inputs_hash

    @cached_property
    def _sources(self) -> dict[Hashable, Values]:
        """Where the values come from; edits of one kind at one site share a source, recorded at all depths together."""
        depths: dict[Hashable, set[int]] = {}
        for edit in self.edits:
            depths.setdefault(_source_key(edit), set()).update(self._depths(edit))
        return {
            key: values_of(
                edit.kind,
                self.recorder,
                self.inputs,
                edit.site,
                sorted(depths[key]),
                source=self.inputs.corrupt,
                attend_to=edit.attend_to,
                factor=edit.factor,
                vector=edit.vector,
                u=edit.u,
                mean_over=self.mean_over,
                seed=self.seed,
            )
            for key, edit in {_source_key(edit): edit for edit in self.edits}.items()
        }

    def _depths(self, edit: Edit) -> tuple[int, ...]:
        resumable = self.recorder.resumable
        steps = resolve_steps("step", edit.step, resumable.n_steps)
        return tuple(step * resumable.n_layers + edit.layer for step in steps)

    def _positions(self, i: int, edit: Edit) -> tuple[int | None, ...]:
        return (None,) if edit.position is None else indices_of(self.inputs, i, [edit.position], "position")

    def _write(
        self, edit: Edit, depth: int, position: int | None, values: ValuesByDepth | Callable[[Tensor], Tensor]
    ) -> Write:
        value = values if callable(values) else values[depth]
        if not callable(value):
            value = value if edit.head is None else value[:, edit.head]
            value = value if position is None else value[position]
        return Write(depth, self.recorder.resumable.hook_name(edit.site, edit.layer), value, edit.head, position)


def edit_list(name: str, edits: Any) -> tuple[Edit, ...]:
    """One edit or several.

    Raises:
        UsageError: something else.
    """
    if isinstance(edits, Edit):
        return (edits,)
    what, do = "a list of wb.Edit", "A head is wb.Edit('z', layer, head, kind='zero')."
    entries = arguments.sequence(name, edits, what, do=do)
    for i, entry in enumerate(entries):
        arguments.instance(f"{name}[{i}]", entry, Edit, "a wb.Edit", do=do)
    return cast(tuple[Edit, ...], entries)


def steps_key(edit: Edit, n_steps: int) -> int | tuple[int, ...]:
    """An edit's steps in cache keys: of a model with one step 0, whether it was written or not."""
    steps = resolve_steps("step", edit.step, n_steps)
    return steps[0] if len(steps) == 1 else steps


def argument_key(edit: Edit) -> tuple[Any, ...]:
    """The number or vector that belongs to an edit's kind in cache keys; empty where it has none."""
    return tuple(value for value in (edit.factor, edit.vector_hash or None, edit.u) if value is not None)


def _source_key(edit: Edit) -> Hashable:
    weights = tuple(edit.attend_to.items()) if isinstance(edit.attend_to, Mapping) else edit.attend_to
    return edit.site, edit.kind, weights, argument_key(edit)


def _check(recorder: Recorder, edit: Edit, name: str) -> None:
    resumable = recorder.resumable
    resumable.hook_name(edit.site, arguments.index(f"{name}.layer", edit.layer, resumable.n_layers, "layer"))
    resolve_steps(f"{name}.step", edit.step, resumable.n_steps)
    if edit.vector is not None:
        check_vector(f"{name}.vector", edit.vector, edit.site, edit.head is not None)
    if edit.head is None:
        return
    if not has_heads(edit.site):
        raise arguments.refusal(f"{name}.head", edit.head, "None", because=f"the site {edit.site!r} has no heads")
    kv = has_kv_heads(edit.site)
    n_heads, what = (resumable.n_kv_heads, "KV head") if kv else (resumable.n_heads, "head")
    arguments.index(f"{name}.head", edit.head, n_heads, what)
