"""What a module computes besides its tensors, as one hash: its class, its settings, its children and their order.

A forward depends on the attributes of modules, private ones and containers among them (an adapter's
``_disable_adapters``, ``scaling``, ``merged_adapters``), on configurations, and on code. All of it is written down as
text in an order that is the same in every process (no addresses, no order of a set) and hashed; tensors are collected
on the way, wherever they are held. What cannot be written down raises `NoFingerprint`, so that nothing is cached on a
guess.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from types import (
    BuiltinFunctionType,
    FunctionType,
    GenericAlias,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
    UnionType,
)
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from workbench.models.code_text import WrittenCode
from workbench.models.interference import has_other_forward

#: How many values are written down at most; a model has some 50 a layer.
LIMIT = 500_000
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, type(...), slice, range})
_TORCH_PLAIN = (torch.dtype, torch.device, torch.layout, torch.memory_format)
_HEAP_TYPE = 1 << 9
_NO_CONTENT = (logging.Logger, type(threading.Lock()), type(threading.RLock()))
#: What torch itself keeps in every module: children and tensors are walked, hooks are refused before.
_MACHINERY = frozenset(vars(nn.Module()))
#: What transformers and peft keep for loading, saving, generating and placing models: no forward reads it.
_BOOKKEEPING = frozenset(
    (
        "_is_hf_initialized", "name_or_path", "_name_or_path", "base_model_name_or_path", "_commit_hash",
        "transformers_version", "architectures", "revision", "warnings_issued", "generation_config",
        "all_tied_weights_keys", "hf_device_map", "hf_quantizer", "_no_split_modules", "_skip_keys_device_placement",
        "_keep_in_fp32_modules", "_keep_in_fp32_modules_strict", "_keys_to_ignore_on_load_missing",
        "_keys_to_ignore_on_load_unexpected", "_keys_to_ignore_on_save", "_weight_conversions", "_tp_plan", "_pp_plan",
        "_ep_plan", "_fsdp_plan", "_tp_size", "_device_mesh", "_use_kernels", "model_type",
        "_is_buffer", "persistent",
    )
)  # fmt: skip
_SKIPPED = _MACHINERY | _BOOKKEEPING


class NoFingerprint(Exception):
    """Why there is none, as the end of a sentence: what cannot be written down, and where it is held."""


class Fingerprint:
    """The hash of a module, and every tensor that it holds.

    Args:
        root: the module.
        also: functions and classes that it is run with, besides those that it holds.
        why_not: of each module, by name, why its numbers are not its own; empty where they are.
        weights: whether tensors must have numbers; of the others the shape is written all the same.

    Attributes:
        digest: 16 bytes in hexadecimal.
        tensors: by dotted name, each once.
        classes: those of its modules.

    Raises:
        NoFingerprint: it holds something whose content cannot be written down, or `why_not` gives a reason.
    """

    def __init__(
        self,
        root: nn.Module,
        also: tuple[Any, ...] = (),
        why_not: Callable[[str, nn.Module], str] | None = None,
        *,
        weights: bool = True,
    ) -> None:
        self._why_not, self._weights = why_not, weights
        self.tensors: list[tuple[str, Tensor]] = []
        self.classes: set[type] = set()
        self._parts: list[str] = []
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # an id means nothing once its object is gone
        self._code = WrittenCode(self._value, self._parts)
        self._module(root, "")
        for value in also:
            self._value(value, "the attention function")
        self._code.patches_of_torch()
        self.digest = hashlib.blake2b("\0".join(self._parts).encode(), digest_size=16).hexdigest()

    def _is_first(self, value: Any) -> bool:
        """Number a value when it is met first; later it is written as that number."""
        number = self._numbers.get(id(value))
        if number is None:
            self._numbers[id(value)] = len(self._alive)
            self._alive.append(value)
            return True
        self._parts.append(f"@{number}")
        return False

    def _module(self, module: nn.Module, path: str) -> None:
        if not self._is_first(module):
            return
        if self._why_not is not None and (reason := self._why_not(path, module)):
            raise NoFingerprint(reason)
        self.classes.add(type(module))
        own, parts, prefix = module.__dict__, self._parts, f"{path}." if path else ""
        parts.append(_name(type(module)))
        self._code.class_(type(module))
        for name in sorted(own.keys() - _SKIPPED):
            value = own[name]
            if name != "forward" or has_other_forward(module):
                if type(value) in _PLAIN:
                    parts.append(f"{name}={value!r}")
                else:
                    parts.append(name)
                    self._value(value, prefix + name)
        for kind in ("_parameters", "_buffers"):
            for name, x in own[kind].items():
                parts.append(name)
                self._none_or(x, self._tensor, prefix + name)
        for name, child in own["_modules"].items():
            parts.append(name)
            self._none_or(child, self._module, prefix + name)
        parts.append("/")

    def _none_or(self, value: Any, write: Callable[[Any, str], None], path: str) -> None:
        if value is None:
            self._parts.append("None")
        else:
            write(value, path)

    def _tensor(self, x: Tensor, path: str) -> None:
        if not self._is_first(x):
            return
        if not self._weights:
            self._parts.append(f"{_name(type(x))} {x.dtype} {tuple(x.shape)}")
            return
        if x.device.type == "meta":
            raise NoFingerprint(f"{path} has no data here (it is on the meta device, offloaded or never loaded)")
        if x.layout != torch.strided or x.is_quantized:
            raise NoFingerprint(f"{path} is a tensor of {x.layout} and {x.dtype}, which has no hash")
        if x.ndim > 1 and x.is_inference():
            raise NoFingerprint(f"{path} has no version counter, so a change would go unnoticed")
        self._parts.append(f"{_name(type(x))} {x.dtype} {tuple(x.shape)}")
        if (flatten := getattr(x, "__tensor_flatten__", None)) is not None:  # made of others, as quantised ones are
            inner, settings = flatten()
            self._value(settings, path)
            for name in inner:
                self._tensor(getattr(x, name), f"{path}.{name}")
            return
        self.tensors.append((path, x))
        self._attributes(x.__dict__, path)
        self._parts.append("/")

    def _attributes(self, attributes: Mapping[str, Any], path: str) -> None:
        for name in sorted(attributes.keys() - _BOOKKEEPING):
            value = attributes[name]
            if name == "dtype":
                value = str(value).removeprefix("torch.")  # a configuration has it in both ways
            self._parts.append(name)
            self._value(value, f"{path}.{name}")

    def _value(self, value: Any, path: str) -> None:
        kind, parts = type(value), self._parts
        if len(parts) > LIMIT:
            raise NoFingerprint(f"{path} holds more than can be hashed at every call")
        if kind in _PLAIN or kind in _TORCH_PLAIN:
            parts.append(repr(value))
        elif id(value) in self._numbers:
            self._is_first(value)
        elif isinstance(value, _NO_CONTENT):
            parts.append(kind.__name__)
        elif isinstance(value, Enum):
            parts.append(f"{_name(kind)}.{value.name}")
        elif isinstance(value, nn.Module):
            self._module(value, path)
        elif isinstance(value, Tensor):
            self._tensor(value, path)
        elif isinstance(value, np.generic):
            parts.append(f"{kind.__name__} {value!r}")
        elif isinstance(value, np.ndarray) and value.dtype.kind not in "OV":
            parts.append(f"{value.dtype} {value.shape} {hashlib.blake2b(value.tobytes(), digest_size=16).hexdigest()}")
        elif isinstance(value, ModuleType | UnionType | GenericAlias | TypeVar):
            parts.append(repr(getattr(value, "__name__", value)))
        elif isinstance(value, weakref.ref):
            self._value(value(), path)
        elif isinstance(value, tuple | frozenset) or self._is_first(value):  # equal constants may be one object or two
            self._held(value, path)

    def _held(self, value: Any, path: str) -> None:
        """Containers, functions, classes and objects, which may hold themselves and are written once."""
        kind, parts = type(value), self._parts
        parts.append(_name(kind))
        if isinstance(value, FunctionType):
            self._code.function(value, path)
        elif isinstance(value, type):
            parts.append(_name(value))
            self._code.class_(value)
        elif isinstance(value, MethodType):
            self._value(value.__func__, path)
            self._value(value.__self__, path)
        elif isinstance(value, BuiltinFunctionType):
            parts.append(f"{value.__module__}.{value.__qualname__}")
            if not isinstance(value.__self__, ModuleType | type | None):
                self._value(value.__self__, path)
        elif isinstance(value, functools.partial):
            for part in (value.func, value.args, value.keywords):
                self._value(part, path)
        elif hasattr(value, "cache_info") and hasattr(value, "__wrapped__"):  # functools.lru_cache
            self._value(value.__wrapped__, path)
        else:
            self._items(value, path)
            self._code.class_(kind)
            self._attributes(getattr(value, "__dict__", {}), path)
            for name in _slots(kind):
                self._value(getattr(value, name, None), f"{path}.{name}")
        parts.append("/")

    def _items(self, value: Any, path: str) -> None:
        """What a container holds, in its order."""
        if isinstance(value, list | tuple | deque):
            for i, item in enumerate(value):
                self._value(item, f"{path}[{i}]")
        elif isinstance(value, dict | MappingProxyType):
            for key, item in value.items():
                self._value(key, path)
                self._value(item, f"{path}[{key!r:.40}]")
        elif isinstance(value, set | frozenset):
            if not all(type(item) in _PLAIN for item in value):
                raise NoFingerprint(f"{path} is a set of objects, which has no order and so no hash")
            for item in sorted(value, key=repr):
                self._value(item, path)
        elif not isinstance(value, SimpleNamespace) and not _is_python_object(type(value)):
            raise NoFingerprint(f"{path} is a {_name(type(value))}, which has no hash")


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _slots(kind: type) -> list[str]:
    return [name for base in kind.__mro__ for name, x in vars(base).items() if type(x) is MemberDescriptorType]


def _is_python_object(kind: type) -> bool:
    """Whether all that an object holds is in its attributes: no base but `object` is written in C (the rule by which
    `copyreg` decides it)."""
    for base in kind.__mro__:
        new: Any = base.__new__
        if not base.__flags__ & _HEAP_TYPE or (isinstance(new, BuiltinFunctionType) and new.__self__ is base):
            return base is object
    return True
