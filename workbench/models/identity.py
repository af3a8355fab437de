"""What makes two models give the same numbers: weights, configuration, precision, device, kernels and versions.

The weights are hashed once (all bytes). After that they count as unchanged while no parameter's version counter moves
and a sample of every parameter, dense enough to touch every head's slice of every projection, stays the same: a head
that is zeroed through ``.data``, which moves no counter, is noticed. The modules' code and settings are hashed each
time.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from types import CodeType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench import __version__
from workbench.cache import CacheNotice
from workbench.cache.keys import context

if TYPE_CHECKING:
    from workbench.models.hooked import HookedModel

#: Configuration fields that say where a model comes from, not what it computes.
_NAME_FIELDS = ("_name_or_path", "name_or_path", "transformers_version", "architectures")


class Identity:
    """The identity of one model in memory, kept up to date."""

    def __init__(self, model: HookedModel) -> None:
        self.model = model
        self._state: tuple[Any, ...] = ()
        self._weights = b""

    def current(self) -> bytes | None:
        """The context of every key of this model, or None where nothing may be cached (one warning says why)."""
        if reason := self._why_not_cacheable():
            warnings.warn(f"Nothing is cached for this call: {reason}.", CacheNotice, stacklevel=4)
            return None
        state = self._sample()
        if state != self._state:
            self._weights, self._state = self._hash(), state
        model = self.model
        own_code, facts = _hash_own_files(model), model.identity_facts()
        return context(
            {
                **({"own code": own_code} if own_code else {}),
                **({"facts": facts} if facts else {}),
                "weights": self._weights.hex(),
                "modules": _hash_code(model.hf),
                "dtype": str(model.dtype),
                "device": model.device.type,
                "attention": model.attention_implementation,
                "matmul": torch.get_float32_matmul_precision(),
                "padding": "none",
                "versions": [torch.__version__, version("transformers"), __version__],
            }
        )

    def of_code(self) -> str:
        """A hash of what the model computes besides its weights: its configuration, its modules' classes and settings,
        and its attention function."""
        config = getattr(self.model.hf, "config", None)
        described = {} if config is None else sorted(_plain_config(config).items(), key=str)
        text = f"{_hash_code(self.model.hf)} {described!r} {self.model.attention_implementation}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _why_not_cacheable(self) -> str:
        hf: nn.Module = self.model.hf
        if hf.training:
            return "the model is in training mode (call model.eval())"
        if self.model.has_active_hooks():
            return "hooks are active on the model"
        if self.model.identity_facts() is None:
            return f"{type(self.model).__name__}.identity_facts does not say what else the numbers depend on"
        for name, module in hf.named_modules():
            hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
            if any(not _is_transformers_hook(hook) for hook in hooks) or "forward" in module.__dict__:
                return f"foreign hooks are active on {name or type(module).__name__}"
        for name, parameter in hf.named_parameters():
            if parameter.is_inference():
                return f"{name} has no version counter, so a change would go unnoticed"
        return ""

    def _tensors(self) -> list[tuple[str, Tensor]]:
        hf: nn.Module = self.model.hf
        return [*hf.named_parameters(), *hf.named_buffers()]

    def _sample(self) -> tuple[Any, ...]:
        step = max(1, min(16, self.model.d_head // 2))
        state = hashlib.blake2b(digest_size=16)
        counters = []
        for name, x in self._tensors():
            counters.append((name, id(x), 0 if x.is_inference() else x._version))
            rows = x.detach()[::step, ::step] if x.ndim > 1 else x.detach()
            state.update(_bytes(rows))
        return state.digest(), tuple(counters)

    def _hash(self) -> bytes:
        tensors = self._tensors()
        config = getattr(self.model.hf, "config", None)
        described = {} if config is None else _plain_config(config)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            sums = list(pool.map(lambda pair: hashlib.blake2b(_bytes(pair[1]), digest_size=16).hexdigest(), tensors))
        weights = [(name, str(x.dtype), tuple(x.shape), total) for (name, x), total in zip(tensors, sums, strict=True)]
        text = repr((type(self.model.hf).__name__, sorted(described.items(), key=str), weights))
        return hashlib.blake2b(text.encode(), digest_size=20).digest()


def _hash_code(model: nn.Module) -> str:
    """A hash of what modules do besides their tensors: their classes, the code of their forwards, and their plain
    attributes (an attention's scaling, a norm's epsilon, an adapter's factor)."""
    state, hashed_classes = hashlib.blake2b(digest_size=16), set()
    for name, module in model.named_modules():
        kind = type(module)
        plain = sorted((k, v) for k, v in vars(module).items() if not k.startswith("_") and _is_plain(v))
        state.update(repr((name, kind.__module__, kind.__qualname__, plain)).encode())
        if kind not in hashed_classes:  # its code once
            hashed_classes.add(kind)
            for function in (kind.forward, inspect.unwrap(kind.forward)):
                state.update(repr(_code(getattr(function, "__code__", None))).encode())
    return state.hexdigest()


#: Packages whose code is known by their version.
_LIBRARIES = ("torch", "transformers", "transformer_lens", "workbench", "peft", "diffusers", "timm")


def _hash_own_files(model: HookedModel) -> str:
    """A hash of the files (or notebook cells) in which classes of the user's own are written: those of modules, and of
    the hooked model itself. Their functions may call others there. Empty where every class is a library's."""
    classes = {type(model), *(type(module) for module in model.hf.modules())}
    own = [kind for kind in classes if kind.__module__.partition(".")[0] not in _LIBRARIES]
    texts = sorted({_source(kind) for kind in own})
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=16).hexdigest() if texts else ""


def _source(kind: type) -> str:
    try:
        with open(inspect.getfile(kind), encoding="utf-8") as file:
            return file.read()
    except (OSError, TypeError):
        return repr([(name, _code(getattr(value, "__code__", None))) for name, value in sorted(vars(kind).items())])


def _plain_config(config: Any) -> dict[str, Any]:
    settings = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return {name: value for name, value in settings.items() if name not in _NAME_FIELDS}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def _code(code: Any) -> Any:
    """What a function does, whatever file and line it stands in."""
    if not isinstance(code, CodeType):
        return code if _is_plain(code) else None
    return code.co_code, code.co_names, [_code(constant) for constant in code.co_consts]


def _is_transformers_hook(hook: Any) -> bool:
    """Transformers leaves hooks behind that record outputs and change nothing."""
    return str(getattr(hook, "__module__", "")).startswith("transformers.")


def _bytes(x: Tensor) -> memoryview:
    return x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
