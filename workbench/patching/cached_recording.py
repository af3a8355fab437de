"""Recording through the store: units of at most eight prompts are computed once, kept, and read when asked for.

A pattern is not kept: rotated q and k are, with the law by which the layer makes it of them
(`workbench.models.pattern_law`). Where a layer follows no such law, the pattern itself is kept.
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
from workbench.models.pattern_law import PatternLaw
from workbench.patching.batches import batches
from workbench.patching.capture import Changes, take
from workbench.patching.memory import need_memory

PATTERN = "attn.hook_pattern"


class Stored:
    """Activations at `hooks` of some prompts' runs, as a `workbench.patching.recording.Source`.

    Under `edits` (all of them named, see `Changes.key`) patterns are kept as they were, as q and k need not make them.
    """

    def __init__(
        self,
        tower: Any,
        store: Any,
        identity: bytes,
        ids: Sequence[Tensor],
        hooks: Iterable[str],
        edits: Changes | None = None,
    ) -> None:
        self.tower, self.store, self.identity, self.ids, self.edits = tower, store, identity, ids, edits
        self.hooks = list(dict.fromkeys(hooks))
        self.units = batches(ids)
        self._unit_of = {i: unit for unit in self.units for i in unit}
        #: (length, hook) → the layer's law, None where the pattern itself is kept.
        self._laws: dict[tuple[int, str], PatternLaw | None] = {}
        #: What could not be kept: (hook, prompt) → activation.
        self._memory: dict[tuple[str, int], Tensor] = {}

    @property
    def prompts(self) -> int:
        return len(self.ids)

    # --- filling --------------------------------------------------------------------------------------------------

    def fill(self, done: Callable[[int], object]) -> None:
        """Have every unit in the store, or in memory where it cannot be kept."""
        threads, pending = torch.get_num_threads(), threading.Semaphore(2)
        writes: list[Future[None]] = []

        def have(unit: list[int]) -> bool:
            if not self.has(unit):
                return False
            done(len(unit))
            return True

        def make(unit: list[int], release: Callable[[], None]) -> None:
            share_cores(self.store, threads)
            made = self.compute(unit)
            for write in writes:
                if write.done():
                    write.result()  # what does not fit is said now, not at the end
            pending.acquire()
            writes.append(pool.submit(keep, unit, made, release))
            done(len(unit))

        def keep(unit: list[int], made: dict[str, Tensor], release: Callable[[], None]) -> None:
            try:
                self._keep(unit, made)
            finally:
                pending.release()
                release()

        with ThreadPoolExecutor(1) as pool:
            compute_missing(self.store, self.units, self._lock, have, make)
        for write in writes:
            write.result()

    def _lock(self, unit: list[int]) -> bytes:
        return digest("unit", b"".join(self._key(hook, i) for hook in self.hooks for i in unit))

    def _key(self, hook: str, prompt: int) -> bytes:
        under = None if self.edits is None else self.edits.key(prompt)
        return activation(self.identity, self.ids[prompt], hook, under)

    def has(self, unit: list[int]) -> bool:
        """Whether everything of a unit is there."""
        length = len(self.ids[unit[0]])
        if not all(self._law_known(length, hook) for hook in self.hooks if self._by_law(hook)):
            return False
        parts = [(part, i) for i in unit for hook in self.hooks for part in self._parts(hook, i)]
        return self.store.has_all([self._key(part, i) for part, i in parts if (part, i) not in self._memory])

    def compute(self, unit: list[int]) -> dict[str, Tensor]:
        """The hooks to keep of one unit → ``[prompt, ...]``; laws are entered on the way."""
        patterns = [hook for hook in self.hooks if self._by_law(hook)]
        wanted = dict.fromkeys(part for hook in self.hooks for part in self._possible(hook))
        kept, base = take(self.tower, self.ids, unit, wanted, self.edits)
        lawless = []
        for hook in patterns:
            law = self.tower.pattern_law(base, int(hook.split(".")[1])) if hasattr(self.tower, "pattern_law") else None
            self._laws[len(self.ids[unit[0]]), hook] = law
            if law is None:
                lawless.append(hook)
        if lawless:
            kept |= take(self.tower, self.ids, unit, lawless)[0]
        return kept

    def _blocks(self, unit: list[int], made: dict[str, Tensor]) -> dict[str, tuple[list[bytes], Tensor]]:
        """What the store is given of a unit: its activations, and the laws of its patterns."""
        length = len(self.ids[unit[0]])
        tensors = {hook: ([self._key(hook, i) for i in unit], x) for hook, x in made.items()}
        for hook in filter(self._by_law, self.hooks):
            law = self._laws[length, hook]
            text = json.dumps(None if law is None else law.plain()).encode()
            tensors[f"law {hook}"] = ([self._law_key(length, hook)], torch.tensor([list(text)], dtype=torch.uint8))
        return tensors

    def _keep(self, unit: list[int], made: dict[str, Tensor]) -> None:
        if self.store.put("activation", self._blocks(unit, made)):
            return
        size = sum(x.nbytes for x in made.values()) / len(unit)
        need_memory(int(size * (len(self.ids) - len(self._memory) // max(1, len(made)))))
        self._memory |= {(hook, i): row for hook, x in made.items() for i, row in zip(unit, x, strict=True)}

    # --- reading --------------------------------------------------------------------------------------------------

    def read(self, hooks: Sequence[str], prompt: int) -> list[Tensor]:
        parts = list(dict.fromkeys(part for hook in hooks for part in self._parts(hook, prompt)))
        found = {part: self._memory[part, prompt] for part in parts if (part, prompt) in self._memory}
        keys = {self._key(part, prompt): part for part in parts if part not in found}
        found |= {keys[key]: x for key, x in self.store.read_many(list(keys)).items()}
        if len(found) < len(parts):
            found |= self._again(prompt)
        if hasattr(self.tower, "device"):
            found = {part: x.to(self.tower.device) for part, x in found.items()}
        return [self._assembled(hook, prompt, found) for hook in hooks]

    def _assembled(self, hook: str, prompt: int, found: dict[str, Tensor]) -> Tensor:
        law = self._laws.get((len(self.ids[prompt]), hook))
        if law is None:
            return found[hook]
        q, k = (found[part] for part in self._parts(hook, prompt))
        return law.pattern(q, k)

    def _again(self, prompt: int) -> dict[str, Tensor]:
        """What was evicted or damaged since is computed again, its whole unit; it is kept where there is room, and a
        recording larger than the budget is read all the same."""
        if self.tower.identity() != self.identity:
            raise UsageError(
                f"What was recorded of prompt {prompt + 1} is no longer in the cache, and the model has changed since: "
                "record it again."
            )
        unit = self._unit_of[prompt]
        made = self.compute(unit)
        self.store.put("activation", self._blocks(unit, made))
        return {part: x[unit.index(prompt)].clone() for part, x in made.items()}

    # --- patterns -------------------------------------------------------------------------------------------------

    def _by_law(self, hook: str) -> bool:
        return self.edits is None and hook.endswith(PATTERN)

    def _possible(self, hook: str) -> tuple[str, ...]:
        if not self._by_law(hook):
            return (hook,)
        if not hasattr(self.tower, "pattern_law"):
            return ()
        layer = int(hook.split(".")[1])
        return self.tower.hook_name("q", layer), self.tower.hook_name("k", layer)

    def _parts(self, hook: str, prompt: int) -> tuple[str, ...]:
        """What is kept for a hook."""
        if self._by_law(hook) and self._laws.get((len(self.ids[prompt]), hook)) is None:
            return (hook,)
        return self._possible(hook)

    def _law_key(self, length: int, hook: str) -> bytes:
        return digest(self.identity, "pattern law", length, hook)

    def _law_known(self, length: int, hook: str) -> bool:
        if (length, hook) not in self._laws:
            text = self.store.read(self._law_key(length, hook))
            if text is None:
                return False
            law = json.loads(bytes(text.tolist()))
            self._laws[length, hook] = None if law is None else PatternLaw.from_plain(law)
        return True
