"""Run-time checks of array annotations (``Float[Tensor, "batch pos"]``) in every function of ours, while tests run.

Only annotations that speak of arrays are checked. The rest is pyright's work, and tests must be able to pass a wrong
name or number and see our own error. Constructors are left out for the same reason: a dataclass that holds arrays
refuses wrong shapes itself, in its own words.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from typing import Any
from unittest.mock import patch

import jaxtyping
from beartype import beartype
from jaxtyping import _import_hook


def arrays_only(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with its array annotations checked by beartype."""
    hints = {name: hint for name, hint in function.__annotations__.items() if _speaks_of_arrays(hint)}
    if not hints or function.__name__ == "__init__":
        return function
    function.__annotations__ = hints
    return beartype(function)


def install(packages: Iterable[str]) -> None:
    """Check the functions of these packages, none of which may have been imported yet."""

    class Loader(_import_hook._JaxtypingLoader):
        """Jaxtyping's loader redirects Python's compiled files during the whole import, so that whatever is imported on
        the way (all of transformers) is compiled again. Only our own file needs it."""

        def get_code(self, fullname: str) -> Any:
            with _own_compiled_file(self._typechecker.get_hash()):
                return super().get_code(fullname)

        def exec_module(self, module: Any) -> None:
            SourceFileLoader.exec_module(self, module)

    _import_hook._JaxtypingLoader = Loader
    jaxtyping.install_import_hook(list(packages), f"{__name__}.arrays_only")


@contextmanager
def _own_compiled_file(tag: str) -> Iterator[None]:
    def place(path: str, debug_override: bool | None = None) -> str:
        return _import_hook._optimized_cache_from_source(tag, path, debug_override)

    with patch("importlib._bootstrap_external.cache_from_source", place):
        yield


def _speaks_of_arrays(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(_speaks_of_arrays(part) for part in typing.get_args(hint))
