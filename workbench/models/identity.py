"""What makes two models give the same numbers: weights, code, settings, precision, device, kernels and versions.

The weights are hashed once (all bytes); those of a model that is loaded from files, once for these files. After that
they count as unchanged while no tensor's version counter moves and a sample of every tensor, dense enough to touch
every head's slice of every projection, stays the same: a head that is zeroed through ``.data``, which moves no counter,
is noticed. What modules do besides their tensors (`workbench.models.fingerprint`) is hashed each time, so that an
adapter that is switched off, a changed configuration and a replaced function are noticed.
"""

from __future__ import annotations

import hashlib
import inspect
import warnings
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from workbench import __version__
from workbench.cache import CacheNotice, Store
from workbench.cache.keys import context, digest
from workbench.cache.notes import read_note, write_note
from workbench.models.attention_hook import implementations
from workbench.models.code_text import is_library
from workbench.models.fingerprint import Fingerprint, NoFingerprint
from workbench.models.interference import changed_by_others, intercepted
from workbench.models.numeric_settings import numeric_settings
from workbench.models.swapped_attention import CHILD
from workbench.models.tensor_hash import hash_tensors, sample

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel


class Identity:
    """The identity of one model in memory, kept up to date."""

    def __init__(self, model: HookedModel) -> None:
        self.model = model
        self._state: tuple[Any, ...] = ()
        self._weights = b""
        self._note: tuple[Store, bytes] | None = None

    def current(self) -> bytes | None:
        """The context of every key of this model, or None where nothing may be cached (one warning says why)."""
        model = self.model
        try:
            if reason := self._why_not_cacheable():
                raise NoFingerprint(reason)
            fingerprint = Fingerprint(model.hf, self._run_with(), changed_by_others)
        except NoFingerprint as reason:
            warnings.warn(f"Nothing is cached for this call: {reason}.", CacheNotice, stacklevel=4)
            return None
        of_operators = [(name, x) for name, x in fingerprint.tensors if f".{CHILD}." in f".{name}"]
        weights = [(name, x) for name, x in fingerprint.tensors if f".{CHILD}." not in f".{name}"]
        state = self._sample(weights)
        if state != self._state:
            self._weights, self._state, self._note = hash_tensors(weights), state, None
        elif not self._weights:
            self._weights = hash_tensors(weights)
            if self._note is not None:
                write_note(*self._note, self._weights.hex())
        own_code, facts = _hash_own_files({type(model), *fingerprint.classes}), model.identity_facts()
        return context(
            {
                **({"own code": own_code} if own_code else {}),
                **({"facts": facts} if facts else {}),
                **({"operators": hash_tensors(of_operators).hex()} if of_operators else {}),
                "weights": self._weights.hex(),
                "modules": fingerprint.digest,
                "dtype": str(model.dtype),
                "device": model.device.type,
                "attention": model.attention_implementation,
                "torch": numeric_settings(model.device),
                "padding": "none",
                "versions": [torch.__version__, version("transformers"), __version__],
            }
        )

    def loaded(self, store: Store, key: bytes) -> None:
        """Take the weights' hash from an earlier load of the same files, or note it for the next one as soon as it is
        known. What is not read from the files (buffers) is hashed each time.

        Args:
            key: of the files and of whatever else the weights in memory depend on.
        """
        try:
            tensors = Fingerprint(self.model.hf).tensors
        except NoFingerprint:
            return
        parameters = {id(x) for x in self.model.hf.parameters()}
        key = digest(key, "weights", hash_tensors([(name, x) for name, x in tensors if id(x) not in parameters]))
        self._state, self._note = self._sample(tensors), (store, key)
        self._weights = bytes.fromhex(read_note(store, key) or "")

    def _sample(self, tensors: list[tuple[str, torch.Tensor]]) -> tuple[Any, ...]:
        return sample(tensors, max(1, min(16, self.model.d_head // 2)))

    def take_over(self, other: Identity) -> None:
        """Use the hash of another model's weights for as long as these are the same tensors."""
        self._state, self._weights = other._state, other._weights

    def of_code(self) -> str:
        """A hash of what the model computes besides its weights: its configuration, its modules' classes and settings,
        its attention function, and torch's settings. What has no hash is left out."""
        try:
            code = Fingerprint(self.model.hf, self._run_with(), weights=False).digest
        except NoFingerprint as reason:
            code = str(reason)
        return self._with_settings(code)

    def of_strict_code(self) -> str | None:
        """The same; None where something has no hash, or another library intervenes."""
        try:
            if intercepted():
                return None
            return self._with_settings(
                Fingerprint(self.model.hf, self._run_with(), changed_by_others, weights=False).digest
            )
        except NoFingerprint:
            return None

    def _with_settings(self, code: str) -> str:
        return f"{code} {self.model.attention_implementation} {numeric_settings(self.model.device)}"

    def _run_with(self) -> tuple[Any, ...]:
        """What the model runs besides its modules: its own class, and the attention functions that it looks up."""
        names = {config._attn_implementation for config in self.model._configs}
        return type(self.model), self._added(), *implementations(self.model.attentions, names)

    def _added(self) -> dict[str, Any]:
        """What was put on the hooked model since it was made: a number that its class reads, another `outputs`."""
        model, kind = self.model, type(self.model)
        return {
            name: value
            for name, value in vars(model).items()
            if name not in model.first_attributes and not isinstance(getattr(kind, name, None), cached_property)
        }

    def _why_not_cacheable(self) -> str:
        """What is wrong before any module is looked at."""
        if self.model.hf.training:
            return "the model is in training mode (call model.eval())"
        if self.model.has_active_hooks():
            return "hooks are active on the model"
        if self.model.identity_facts() is None:
            return f"{type(self.model).__name__}.identity_facts does not say what else the numbers depend on"
        return intercepted()


def _hash_own_files(classes: set[type]) -> str:
    """A hash of the files (or notebook cells) in which classes of the user's own are written: those of modules, and of
    the hooked model itself. Empty where every class is a library's."""
    texts = sorted({_source(kind) for kind in classes if not is_library(kind.__module__)})
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=16).hexdigest() if texts else ""


def _source(kind: type) -> str:
    try:
        with open(inspect.getfile(kind), encoding="utf-8") as file:
            return file.read()
    except (OSError, TypeError):  # typed in: its code is in the fingerprint
        return ""
