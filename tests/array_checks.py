"""Run-time checks of array annotations (``Float[Tensor, "batch pos"]``) in every function of ours, while tests run.

Only annotations that speak of arrays are checked. The rest is pyright's work, and tests must be able to pass a wrong
name or number and see our own error. Constructors are left out for the same reason: a dataclass that holds arrays
refuses wrong shapes itself, in its own words.
"""

from __future__ import annotations

import ast
import typing
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from types import CodeType
from typing import Any
from unittest.mock import patch

import jaxtyping
from beartype import beartype
from jaxtyping import _decorator, _import_hook

#: Which functions have array annotations, by their code: inner functions are created again at each call.
_ANNOTATES_ARRAYS: dict[CodeType, bool] = {}


def checked(thing: Any) -> Any:
    """The decorator of every function and class of ours. A function with array annotations is checked; all others are
    left as they are, since jaxtyping's wrapper costs time at each call even where it has nothing to check."""
    if isinstance(thing, type):
        return thing
    if (has_array_hints := _ANNOTATES_ARRAYS.get(thing.__code__)) is None:
        hints = [_decorator._destring_annotation(hint, thing.__globals__) for hint in thing.__annotations__.values()]
        has_array_hints = _ANNOTATES_ARRAYS[thing.__code__] = any(map(_is_array_hint, hints))
    return jaxtyping.jaxtyped(thing, typechecker=arrays_only) if has_array_hints else thing


def arrays_only(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with its array annotations checked by beartype."""
    hints = {name: hint for name, hint in function.__annotations__.items() if _is_array_hint(hint)}
    if not hints or function.__name__ == "__init__":
        return function
    function.__annotations__ = hints
    return beartype(function)


def install(packages: Iterable[str]) -> None:
    """Check the functions of these packages, none of which may have been imported yet."""

    class Typechecker(_import_hook.Typechecker):
        """Puts `checked` itself above functions and classes."""

        def get_ast(self) -> ast.expr:
            return ast.parse(f"jaxtyping._import_hook.Typechecker.lookup['{self.hash}']", mode="eval").body

    class Loader(_import_hook._JaxtypingLoader):
        """Jaxtyping's loader redirects Python's compiled files during the whole import, so that whatever is imported on
        the way (all of transformers) is compiled again. Only our own file needs it."""

        def get_code(self, fullname: str) -> Any:
            with _own_compiled_file(self._typechecker.get_hash()):
                return super().get_code(fullname)

        def exec_module(self, module: Any) -> None:
            SourceFileLoader.exec_module(self, module)

    _import_hook._JaxtypingLoader, _import_hook.Typechecker = Loader, Typechecker
    jaxtyping.install_import_hook(list(packages), f"{__name__}.checked")


@contextmanager
def _own_compiled_file(tag: str) -> Iterator[None]:
    def cache_path(path: str, debug_override: bool | None = None) -> str:
        return _import_hook._optimized_cache_from_source(tag, path, debug_override)

    with patch("importlib._bootstrap_external.cache_from_source", cache_path):
        yield


def _is_array_hint(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(_is_array_hint(part) for part in typing.get_args(hint))
