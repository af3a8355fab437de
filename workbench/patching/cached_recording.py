"""Recording through the store: batches of at most eight inputs are computed once, stored, and read on access.

A pattern is not stored: rotated q and k are, with the formula by which the layer computes it from them
(`workbench.models.pattern_formula`). Where a layer follows no such formula, the pattern itself is stored.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from workbench.cache.keys import activation, digest
from workbench.cache.work_queue import compute_missing, share_cores
from workbench.errors import UsageError
from workbench.models.pattern_formula import PatternFormula
from workbench.models.steps import hook_at_depth, split_step
from workbench.models.taps import split
from workbench.patching.batches import batches
from workbench.patching.capture import RunEdits, capture_hooks
from workbench.patching.head_selection import of_heads
from workbench.patching.memory import need_memory

PATTERN = "attn.hook_pattern"


class CachedRecording:
    """Activations at `hooks` of some inputs' runs, as a `workbench.patching.recording.Source`.

    Under `edits` (all of them named, see `RunEdits.key`) patterns themselves are stored: they need not follow from q
    and k. All heads are stored; of `heads` the patterns are computed, and the rest is read.
    """

    def __init__(
        self,
        resumable: Any,
        store: Any,
        identity: bytes,
        ids: Sequence[Tensor],
        hooks: Iterable[str],
        edits: RunEdits | None = None,
        heads: Sequence[int] | None = None,
    ) -> None:
        self.heads = heads
        self.resumable, self.store, self.identity, self.ids, self.edits = resumable, store, identity, ids, edits
        self.hooks = list(dict.fromkeys(hooks))
        self.batches = batches(ids)
        self._batch_of = {i: batch for batch in self.batches for i in batch}
        #: (length, hook) → the layer's formula, None where the pattern itself is stored.
        self._formulas: dict[tuple[int, str], PatternFormula | None] = {}
        #: What the store had no room for: (hook, input) → activation.
        self._memory: dict[tuple[str, int], Tensor] = {}

    @property
    def n_inputs(self) -> int:
        return len(self.ids)

    # --- filling --------------------------------------------------------------------------------------------------

    def fill(self, done: Callable[[int], object]) -> None:
        """Have every batch in the store, or in memory where the store has no room."""
        threads, pending = torch.get_num_threads(), threading.Semaphore(2)
        writes: list[Future[None]] = []

        def is_cached(batch: list[int]) -> bool:
            if not self.has(batch):
                return False
            done(len(batch))
            return True

        def compute(batch: list[int], release: Callable[[], None]) -> None:
            share_cores(self.store, threads)
            activations = self.compute(batch)
            for write in writes:
                if write.done():
                    write.result()  # a batch that does not fit is reported now, not at the end
            pending.acquire()
            writes.append(pool.submit(write_batch, batch, activations, release))
            done(len(batch))

        def write_batch(batch: list[int], activations: dict[str, Tensor], release: Callable[[], None]) -> None:
            try:
                self._store_batch(batch, activations)
            finally:
                pending.release()
                release()

        with ThreadPoolExecutor(1) as pool:
            compute_missing(self.store, self.batches, self._lock, is_cached, compute)
        for write in writes:
            write.result()

    def _lock(self, batch: list[int]) -> bytes:
        return digest("batch", b"".join(self._key(hook, i) for hook in self.hooks for i in batch))

    def _key(self, hook: str, prompt: int) -> bytes:
        under = None if self.edits is None else self.edits.key(prompt)
        return activation(self.identity, self.ids[prompt], hook, under)

    def has(self, batch: list[int]) -> bool:
        """Whether everything of a batch is in the store or in memory."""
        length = len(self.ids[batch[0]])
        if not all(self._load_formula(length, hook) for hook in self.hooks if self._by_formula(hook)):
            return False
        parts = [(part, i) for i in batch for hook in self.hooks for part in self._stored_hooks(hook, i)]
        return self.store.has_all([self._key(part, i) for part, i in parts if (part, i) not in self._memory])

    def compute(self, batch: list[int]) -> dict[str, Tensor]:
        """The hooks to store of one batch → ``[input, ...]``; its patterns' formulas are noted on the way."""
        patterns = [hook for hook in self.hooks if self._by_formula(hook)]
        required = dict.fromkeys(part for hook in self.hooks for part in self._source_hooks(hook))
        keep = bool(patterns)
        activations, base = capture_hooks(self.resumable, self.ids, batch, required, self.edits, keep_run=keep)
        without_formula = []
        for hook in patterns:
            formula = self.resumable.pattern_formula(base, self._depth(hook))
            self._formulas[len(self.ids[batch[0]]), hook] = formula
            if formula is None:
                without_formula.append(hook)
        if without_formula:
            activations |= capture_hooks(self.resumable, self.ids, batch, without_formula, keep_run=False)[0]
        return activations

    def _blocks(self, batch: list[int], activations: dict[str, Tensor]) -> dict[str, tuple[list[bytes], Tensor]]:
        """What the store gets of a batch: its activations, and the formulas of its patterns."""
        length = len(self.ids[batch[0]])
        tensors = {hook: ([self._key(hook, i) for i in batch], x) for hook, x in activations.items()}
        for hook in filter(self._by_formula, self.hooks):
            formula = self._formulas[length, hook]
            text = json.dumps(None if formula is None else formula.plain()).encode()
            tensors[f"formula {hook}"] = (
                [self._formula_key(length, hook)],
                torch.tensor([list(text)], dtype=torch.uint8),
            )
        return tensors

    def _store_batch(self, batch: list[int], activations: dict[str, Tensor]) -> None:
        if self.store.put("activation", self._blocks(batch, activations)):
            return
        size = sum(x.nbytes for x in activations.values()) / len(batch)
        need_memory(int(size * (len(self.ids) - len(self._memory) // max(1, len(activations)))))
        self._memory |= {(hook, i): row for hook, x in activations.items() for i, row in zip(batch, x, strict=True)}

    # --- reading --------------------------------------------------------------------------------------------------

    def read(self, hooks: Sequence[str], prompt: int) -> list[Tensor]:
        activations = self._read_stored(hooks, prompt)
        return [self._assembled(hook, prompt, activations) for hook in hooks]

    def formula(self, hook: str, prompt: int) -> PatternFormula | None:
        """How a pattern follows from q and k, without these; None where the pattern itself is stored."""
        return self._formulas.get((len(self.ids[prompt]), hook))

    def read_formula(self, hook: str, prompt: int) -> tuple[PatternFormula, Tensor, Tensor] | None:
        """How a pattern follows from q and k, and these, of all heads; None where the pattern itself is stored."""
        formula = self.formula(hook, prompt)
        if formula is None:
            return None
        activations = self._read_stored([hook], prompt)
        q, k = (activations[part] for part in self._stored_hooks(hook, prompt))
        return formula, q, k

    def _read_stored(self, hooks: Sequence[str], prompt: int) -> dict[str, Tensor]:
        """What is stored for some hooks."""
        parts = list(dict.fromkeys(part for hook in hooks for part in self._stored_hooks(hook, prompt)))
        activations = {part: self._memory[part, prompt] for part in parts if (part, prompt) in self._memory}
        keys = {self._key(part, prompt): part for part in parts if part not in activations}
        activations |= {keys[key]: x for key, x in self.store.read_many(list(keys)).items()}
        if len(activations) < len(parts):
            activations |= self._recompute(prompt)
        if hasattr(self.resumable, "device"):
            activations = {part: x.to(self.resumable.device) for part, x in activations.items()}
        return activations

    def _assembled(self, hook: str, prompt: int, activations: dict[str, Tensor]) -> Tensor:
        formula = self._formulas.get((len(self.ids[prompt]), hook))
        if formula is None:
            x = activations[hook]
            return x if self.heads is None else of_heads(hook, x, self.heads, self.resumable.n_heads)
        q, k = (activations[part] for part in self._stored_hooks(hook, prompt))
        return formula.pattern(q, k, self.heads)

    def _recompute(self, prompt: int) -> dict[str, Tensor]:
        """Compute what was evicted or damaged since, with the rest of its batch; it is stored where there is room, and
        a recording larger than the budget is read all the same."""
        if self.resumable.identity() != self.identity:
            raise UsageError(
                f"The recording of input {prompt + 1} is no longer in the cache, and the model has changed since "
                "then. Record it again."
            )
        batch = self._batch_of[prompt]
        activations = self.compute(batch)
        self.store.put("activation", self._blocks(batch, activations))
        return {part: x[batch.index(prompt)].clone() for part, x in activations.items()}

    # --- patterns -------------------------------------------------------------------------------------------------

    def _by_formula(self, hook: str) -> bool:
        """Whether it is a pattern for which the model may give a formula."""
        if self.edits is not None or not hasattr(self.resumable, "pattern_formula"):
            return False
        return split_step(hook)[0].endswith(PATTERN)

    def _depth(self, hook: str) -> int:
        name, step = split_step(hook)
        return (step or 0) * self.resumable.n_layers + split(name)[0]

    def _source_hooks(self, hook: str) -> tuple[str, ...]:
        if not self._by_formula(hook):
            return (hook,)
        query, key = (hook_at_depth(self.resumable, site, self._depth(hook)) for site in ("q", "k"))
        return query, key

    def _stored_hooks(self, hook: str, prompt: int) -> tuple[str, ...]:
        """The hooks whose activations are stored for `hook`: q and k for a pattern with a formula."""
        if self._by_formula(hook) and self._formulas.get((len(self.ids[prompt]), hook)) is None:
            return (hook,)
        return self._source_hooks(hook)

    def _formula_key(self, length: int, hook: str) -> bytes:
        return digest(self.identity, "pattern formula", length, hook)

    def _load_formula(self, length: int, hook: str) -> bool:
        if (length, hook) not in self._formulas:
            text = self.store.read(self._formula_key(length, hook))
            if text is None:
                return False
            formula = json.loads(bytes(text.tolist()))
            self._formulas[length, hook] = None if formula is None else PatternFormula.from_plain(formula)
        return True
