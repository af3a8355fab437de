"""What was proven of a model, at which lengths: a short input proves only short ones.

Windows, chunks, rope that changes with the length, scales of queries and indexers start at a length. So a call that
resumes runs asks first (`ResumableLayers.prove`), and the proof is made at the first input beyond the proven lengths,
up to the next power of two or number in the configuration. A verdict is kept in the process, and in the cache where
there is one, so that it is paid for once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from workbench.cache import Store
from workbench.cache.keys import digest
from workbench.cache.notes import read_note, write_note
from workbench.inputs.paired import PairedInputs
from workbench.models.half_precision import warn_of_rounding
from workbench.models.resumption import Resumption, prove_resumption

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel

#: Configuration fields whose numbers are no lengths.
_NO_LENGTHS = ("_size", "_dim", "_id", "_rank", "num_", "n_head", "n_layer", "n_embd", "n_inner", "vocab", "seed")
#: Beyond this no number of a configuration is taken for a length.
_LONGEST = 2**24


class Proofs:
    """The verdicts on one model. A copy that was not checked itself (in another precision, with other weights) goes by
    those of the model that it is a copy `of`."""

    def __init__(self, model: HookedModel) -> None:
        self.model = model
        self.of: Proofs | None = None
        #: Whether it was said that half precision's rounding moves something discrete.
        self.warned_of_rounding = False
        self._known: dict[tuple[Any, ...], Resumption] = {}
        #: What the self-check found, by length.
        self.at_load: list[tuple[int, Resumption]] = []

    def know(self, length: int, verdict: Resumption) -> None:
        """Keep what the self-check at load time found at its length."""
        self.at_load.append((length, verdict))
        self._known[self._key(self.model.proof_length(length), False, self.model.identity.of_code())] = verdict

    def resumption(self, inputs: PairedInputs, store: Store | None, patterns: bool = False) -> Resumption:
        """What holds for all of these inputs.

        Args:
            store: where verdicts are kept; None for the process alone.
            patterns: of runs whose layers compute their patterns explicitly.
        """
        if self.of is not None:
            return self.of.resumption(inputs, store, patterns)
        lengths, code = {self.model.proof_length(len(x)) for x in inputs.clean}, self.model.identity.of_code()
        verdicts = [self._at(length, inputs.clean, store, patterns, code) for length in sorted(lengths)]
        reasons = [verdict.why_not for verdict in verdicts if verdict.why_not]
        return Resumption(all(verdict.causal for verdict in verdicts), reasons[0] if reasons else "")

    def known(self, inputs: PairedInputs) -> bool:
        """Whether runs of these inputs resume, as far as it was asked."""
        if self.of is not None:
            return self.of.known(inputs)
        lengths, code = {self.model.proof_length(len(x)) for x in inputs.clean}, self.model.identity.of_code()
        keys = {self._key(length, False, code) for length in lengths}
        return all(self._known[key].resumes for key in keys if key in self._known) and self.model.resumable

    def _at(self, length: int, rows: Any, store: Store | None, patterns: bool, code: str) -> Resumption:
        key = self._key(length, patterns, code)
        if key in self._known:
            return self._known[key]
        plain = self._known.get(self._key(length, False, code))
        if plain is not None and not plain.resumes:
            return plain  # nothing is resumed there anyway
        identity = None if store is None else self.model.identity.current()
        place = None if identity is None else digest(identity, "resumption", length, patterns)
        note = read_note(store, place)
        if note is not None:
            verdict = Resumption(**note)
        else:
            with self.model.one_pass():
                inputs = self.model.proof_inputs(length, rows)
                verdict = prove_resumption(self.model, inputs, patterns=patterns)
                self.warned_of_rounding = self.warned_of_rounding or warn_of_rounding(self.model, inputs)
            write_note(store, place, vars(verdict))
        self._known[key] = verdict
        if not verdict.resumes:
            warnings.warn(
                f"{type(self.model.hf).__name__}: on inputs of {length} positions, resuming from the middle "
                f"{verdict.why_not}, so sweeps run full forward passes there (exact, but slower).",
                stacklevel=6,
            )
        return verdict

    def _key(self, length: int, patterns: bool, code: str) -> tuple[Any, ...]:
        model = self.model
        return length, patterns, code, str(model.dtype), model.device.type


def next_length(length: int, config: Any, shortest: int) -> int:
    """The length at which a model is proven for inputs of a length: the next power of two from `shortest` on, or number
    in the configuration that may be a length, since something may start there."""
    steps = {2**power for power in range(shortest.bit_length() - 1, 40)} | set(_numbers(config))
    return min(step for step in steps if step >= max(length, shortest))


def _numbers(config: Any, name: str = "") -> Iterator[int]:
    """The whole numbers of a configuration that may be lengths."""
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from _numbers(value, str(key))
    elif _may_be_length(name, config):
        yield int(config)


def _may_be_length(name: str, value: Any) -> bool:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
    return whole and 0 < value < _LONGEST and not any(part in name for part in _NO_LENGTHS)
