"""A recording of one prompt that is stored layer by layer while the model runs, each layer shown to a caller then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from torch import Tensor

from workbench.cache import Store
from workbench.models.attention_edits import Tap
from workbench.models.beside import beside
from workbench.models.in_forward import See, each_layer
from workbench.models.pattern_formula import PatternFormula
from workbench.patching.cached_recording import CachedRecording
from workbench.patching.capture import capture_hooks

#: Bytes that are stored at once: of a long prompt about a layer's, of a short one everything.
PART = 2**25


class StreamedRecording(CachedRecording):
    """`CachedRecording` of one prompt, of which no more than a few layers are in memory at a time.

    What is stored, and under which keys, is the same.

    Args:
        see: called with each layer's q, k and v, see `workbench.models.in_forward`, in another thread while the model
            runs on; not called where the store has the recording.
        reached: called with each layer, in the caller's thread.
        taps: hook name → what is called with the activation there besides.
    """

    def __init__(
        self,
        model: Any,
        resumable: Any,
        store: Store,
        identity: bytes,
        ids: Tensor,
        hooks: Sequence[str],
        see: See,
        reached: Callable[[int], object],
        taps: Mapping[str, Tap],
    ) -> None:
        super().__init__(resumable, store, identity, [ids], hooks)
        self._model, self._see, self._reached, self._taps = model, see, reached, taps
        self._is_filling = False
        self._part: dict[str, Tensor] = {}
        self._write: Future[None] | None = None

    def fill(self, done: Callable[[int], object] = lambda _: None) -> None:
        self._is_filling = True
        try:
            super().fill(done)
        finally:
            self._is_filling, self._part, self._write = False, {}, None

    def compute(self, batch: list[int]) -> dict[str, Tensor]:
        """While it is filled, all but the last part is stored on the way, and that is returned."""
        if not self._is_filling:
            return super().compute(batch)
        patterns = {self._depth(hook): hook for hook in self.hooks if self._by_formula(hook)}
        required = dict.fromkeys(part for hook in self.hooks for part in self._source_hooks(hook))
        length = len(self.ids[0])

        with ThreadPoolExecutor(1) as pool, beside() as scored:

            def see(layer: int, q: Tensor, k: Tensor, v: Tensor, formula: PatternFormula | None) -> None:
                if layer in patterns:
                    self._formulas[length, patterns[layer]] = formula
                scored(self._see, layer, q, k, v, formula)
                self._reached(layer)

            each_layer(self._model, self.ids[0][None], see, {hook: self._tap(hook, pool) for hook in required})
            if self._write is not None:
                self._write.result()
        last, self._part = self._part, {}
        if without := [hook for hook in patterns.values() if self._formulas[length, hook] is None]:
            last |= capture_hooks(self.resumable, self.ids, batch, without)[0]
        return last

    def _tap(self, hook: str, pool: ThreadPoolExecutor) -> Tap:
        other = self._taps.get(hook)

        def tap(x: Tensor) -> None:
            if self._part and sum(row.nbytes for row in self._part.values()) >= PART:
                if self._write is not None:
                    self._write.result()
                self._write, self._part = pool.submit(self._store_part, self._part), {}
            self._part[hook] = x.contiguous()
            if other is not None:
                other(x)

        return tap

    def _store_part(self, part: dict[str, Tensor]) -> None:
        if not self.store.put("activation", {hook: ([self._key(hook, 0)], x) for hook, x in part.items()}):
            self._memory |= {(hook, 0): x[0] for hook, x in part.items()}
