"""Code as text for a fingerprint: what a class or a function does, whatever file and line it stands in.

Code of the libraries in `LIBRARIES` is known by its version, so that only what was put in the place of their functions
is written; everything else is written with the globals, defaults and closures that it reads.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any

from torch.nn import functional as F

#: Packages whose code is known by their version.
LIBRARIES = frozenset(
    (
        "torch", "transformers", "transformer_lens", "workbench", "peft", "accelerate", "diffusers", "timm", "numpy",
        "scipy", "einops", "jaxtyping", "beartype", "bitsandbytes", "torchao", "safetensors", "tqdm", "huggingface_hub",
    )
)  # fmt: skip
#: Of these classes' and functions' code every global is looked at: a model file's own functions may be replaced.
_MODEL_FILES = ("transformers", "peft", "diffusers", "timm")
#: What a class has besides what it does in a run.
_NOT_RUN = frozenset(
    (
        "__init__", "__new__", "__init_subclass__", "__repr__", "__doc__", "__module__", "__qualname__", "__dict__",
        "__weakref__", "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__slots__",
        "__firstlineno__", "__static_attributes__", "__parameters__", "__orig_bases__", "__abstractmethods__",
        "_abc_impl", "__dataclass_fields__", "__dataclass_params__", "__match_args__", "__hash__",
    )
)  # fmt: skip
#: The end of names under which transformers remembers what it found out about a class.
_MEMORY = "_cached_value"
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


class WrittenCode:
    """Writes classes and functions, each once.

    Args:
        write: writes any value that code reads, ``write(value, path)``.
        parts: the text so far.
    """

    def __init__(self, write: Callable[[Any, str], None], parts: list[str]) -> None:
        self._write, self._parts = write, parts
        self._classes: set[type] = set()
        self._functions: set[FunctionType] = set()
        self._run: set[tuple[type, FunctionType]] = set()

    def class_(self, kind: type) -> None:
        """A class and its bases: of a library's class the numbers and names that it holds, and the functions that are
        not the library's."""
        if kind in self._classes:
            return
        for base in kind.__mro__[:-1]:
            if base in self._classes:
                continue
            self._classes.add(base)
            root = base.__module__.partition(".")[0]
            self._parts.append(f"{base.__module__}.{base.__qualname__} {_version(root)}")
            if root == "workbench" or root in sys.stdlib_module_names:
                continue
            for name, value in list(vars(base).items()):
                if (
                    name in _NOT_RUN
                    or name.endswith(_MEMORY)
                    or isinstance(value, GetSetDescriptorType | MemberDescriptorType)
                ):
                    continue
                if not is_library(root):
                    self._parts.append(name)
                    self._member(value, f"{base.__qualname__}.{name}")
                elif type(value) is FunctionType:
                    self._if_replaced(value, f"{base.__qualname__}.{name}")
                elif type(value) in _PLAIN:
                    self._parts.append(f"{name}={value!r}")

        if (forward := getattr(kind, "forward", None)) is not None:
            self._run_of(kind, forward)

    def _run_of(self, kind: type, function: Any) -> None:
        """A method that runs in a forward, the methods that it calls, and the functions of its file that they call."""
        if type(function) is not FunctionType or (kind, function) in self._run:
            return
        self._run.add((kind, function))
        root = _root(function)
        if root == "torch" and hasattr(function, "__wrapped__"):  # torch.autocast, with the precision in its closure
            self._parts.append(function.__qualname__)
            self._write(function, function.__qualname__)
        self._if_replaced(function, function.__qualname__)
        if root in _MODEL_FILES:
            for name in function.__code__.co_names:
                self._run_of(kind, getattr(kind, name, None))

    def _member(self, value: Any, path: str) -> None:
        if isinstance(value, property):
            for function in (value.fget, value.fset):
                self._write(function, path)
        else:
            self._write(value.__func__ if isinstance(value, staticmethod | classmethod) else value, path)

    def function(self, function: FunctionType, path: str) -> None:
        """A function that is held as a value: its code where it is no library's, and what it reads."""
        root = _root(function)
        if is_library(root):
            self._parts.append(f"{root} {function.__code__.co_qualname} {function.__qualname__} {_version(root)}")
            self._if_replaced(function, path)
        else:
            self._parts.append(_text(function.__code__))
            for name in _globals(function.__code__):
                if name in function.__globals__:
                    self._parts.append(name)
                    self._write(function.__globals__[name], f"{path} ({name})")
        for value in (function.__defaults__, function.__kwdefaults__):
            self._write(value, path)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            self._write(_contents(cell), f"{path} ({name})")

    def _if_replaced(self, function: FunctionType, path: str) -> None:
        """A library's function: written if it is somebody else's by now, or a decorator of the library around one."""
        if function in self._functions:
            return
        self._functions.add(function)
        root = _root(function)
        if not is_library(root):
            self._parts.append(path)
            self._write(function, path)
            return
        for inner in (getattr(function, "__wrapped__", None), *map(_contents, function.__closure__ or ())):
            if type(inner) is FunctionType:
                self._if_replaced(inner, path)
        if root in _MODEL_FILES:
            for name in _globals(function.__code__):
                value = function.__globals__.get(name)
                if type(value) is FunctionType:
                    self._if_replaced(value, f"{root} ({name})")
                elif type(value) in (int, float, bool):
                    self._parts.append(f"{name}={value!r}")

    def patches_of_torch(self) -> None:
        """Functions that stand in the place of torch's own in ``torch.nn.functional``."""
        for name, value in vars(F).items():
            if type(value) is FunctionType and not is_library(_root(value)):
                self._parts.append(name)
                self._write(value, f"torch.nn.functional.{name}")


def is_library(module: str) -> bool:
    """Whether code of that module is known by its version."""
    root = module.partition(".")[0]
    return root in LIBRARIES or root in sys.stdlib_module_names or root == "builtins"


def _root(function: FunctionType) -> str:
    """The package in which a function's code is written, whatever it says that it wraps."""
    if function.__code__.co_filename.startswith("<@beartype("):  # made for the function that it checks
        return "beartype"
    return str(function.__globals__.get("__name__", "")).partition(".")[0]


@cache
def _version(root: str) -> str:
    if root not in LIBRARIES:
        return ""
    try:
        return version("transformer-lens" if root == "transformer_lens" else root)
    except PackageNotFoundError:
        return ""


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


@cache
def _globals(code: CodeType) -> tuple[str, ...]:
    """The names of the globals that a function reads, its inner functions included."""
    names = {str(i.argval) for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(_globals(constant))
    return tuple(sorted(names))


@cache
def _text(code: CodeType) -> str:
    constants = [_constant(c) for c in code.co_consts]
    return repr((code.co_code, code.co_exceptiontable, code.co_names, code.co_freevars, constants))


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return _text(value)
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
