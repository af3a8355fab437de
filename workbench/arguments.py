"""Checks of one argument each, with one form of refusal: ``NAME=VALUE: expected WHAT[, because WHY]. DO THIS.``

A check returns the value in its plain type (a numpy integer as `int`, one layer as a tuple of it), so that a function
begins with ``layers = indices("layers", layers, n_layers, "layer")``. The name is the one that the caller typed. Bools
are not numbers here, and NaN and infinity are none. Nothing is imported for it: no torch, no numpy.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeGuard, TypeVar, cast

from workbench.errors import UnknownName, UsageError

T = TypeVar("T")
#: Longer values are cut in messages.
LONGEST = 80
_PLAIN = (str, bytes, int, float, complex, list, tuple, set, frozenset, dict, range, type(None))


def refusal(name: str, value: object, expected: str, do: str = "", *, because: str = "") -> UsageError:
    """The error that every check raises: ``memory_gb=-1: expected a number above 0. DO THIS.``"""
    why = f", because {because}" if because else ""
    return UsageError(" ".join(filter(None, [f"{name}={as_typed(value)}: expected {expected}{why}.", do])))


def as_typed(value: Any) -> str:
    """A value as it may be typed, in a few words: arrays by their shape, objects with a long text by their type."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and (shape or type(value).__module__ == "torch"):
        size = ", ".join(map(str, shape))
        return f"<{type(value).__name__} of shape ({size}{',' if len(shape) == 1 else ''})>"
    if callable(value) and hasattr(value, "__name__"):
        return f"<function {value.__name__}>" if not isinstance(value, type) else value.__name__
    if type(value).__module__ == "torch" and type(value).__name__ in ("dtype", "device"):
        return str(value)
    if isinstance(value, int) and not -(10**LONGEST) < value < 10**LONGEST:
        return "<a huge number>"
    if isinstance(value, Integral | Real) and not isinstance(value, bool):
        return str(value)
    try:
        text = repr(value) if isinstance(value, _PLAIN) else ""
    except Exception:  # of an entry: an object's own, or an integer of thousands of digits
        text = ""
    if not text or "\n" in text or " object at 0x" in text:
        return f"<{type(value).__name__}>"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


# --- words, texts and flags


def one_of(name: str, value: Any, choices: Iterable[str], *, do: str = "", optional: bool = False) -> Any:
    """One of a few words.

    Raises:
        UnknownName: a text that is none of them; the nearest are suggested.
        UsageError: something else.
    """
    names = list(choices)
    if value is None and optional:
        return None
    if not isinstance(value, str):
        raise refusal(name, value, listing(names, optional), do)
    if value not in names:
        raise UnknownName(name, value, names, do, argument=name, expected=listing(names, optional))
    return str(value)


def listing(choices: Collection[str], optional: bool = False) -> str:
    """``'a', 'b' or 'c'``."""
    words = [*map(repr, choices), *(["None"] if optional else [])]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def flag(name: str, value: Any) -> bool:
    """True or False, and nothing that Python takes for them."""
    if isinstance(value, bool):
        return value
    if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise refusal(name, value, "True or False")


def text(name: str, value: Any, what: str = "a string", *, empty: bool = False, do: str = "") -> str:
    """A text; an empty one only where `empty` allows it."""
    if not isinstance(value, str):
        raise refusal(name, value, what, do)
    if not value and not empty:
        raise refusal(name, value, f"{what} that is not empty", do)
    return value


def texts(name: str, value: Any, what: str = "texts", *, do: str = "") -> tuple[str, ...]:
    """One text, or a list of them, none empty."""
    if isinstance(value, str):
        return (text(name, value, do=do),)
    entries = sequence(name, value, f"{what}, one or a list of them", do=do)
    if not entries or not all(isinstance(entry, str) and entry for entry in entries):
        raise refusal(name, value, f"{what}, one or a list of them", do)
    return cast(tuple[str, ...], entries)


def file_path(name: str, value: Any, what: str = "a path", *, ending: str = "") -> Path:
    """A path as text or `os.PathLike`; of a file that is written, with its `ending`."""
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        raise refusal(name, value, what)
    if not (path := os.fspath(value)) or "\0" in path:
        raise refusal(name, value, f"{what} that is not empty and contains no NUL")
    if ending and Path(path).suffix.lower() != ending:
        raise refusal(name, path, f"{what} that ends in {ending}")
    return Path(path)


# --- numbers


def whole_number(
    name: str,
    value: Any,
    *,
    at_least: int | None = None,
    at_most: int | None = None,
    optional: bool = False,
    do: str = "",
) -> Any:
    """A whole number within bounds, or None where that is allowed."""
    if value is None and optional:
        return None
    if _is_whole(value) and _within(int(value), at_least, at_most):
        return int(value)
    raise refusal(name, value, f"a whole number{_bounds(at_least, at_most)}{' or None' if optional else ''}", do)


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    optional: bool = False,
    do: str = "",
) -> Any:
    """A finite number within bounds, or None where that is allowed."""
    if value is None and optional:
        return None
    if _is_finite(value):
        result = float(value)
        if (above is None or result > above) and _within(result, at_least, at_most):
            return result
    bounds = _bounds(at_least, at_most) if above is None else f" above {above:g}{_bounds(None, at_most, ' and')}"
    kind = "finite number" if isinstance(value, Real) and not _is_finite(value) else "number"
    raise refusal(name, value, f"a {kind}{bounds}{' or None' if optional else ''}", do)


def share(name: str, value: Any, *, do: str = "") -> float:
    """A share: above 0, at most 1."""
    return number(name, value, above=0, at_most=1, do=do)


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_finite(value: Any) -> TypeGuard[float]:
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except (OverflowError, ValueError):
        return False


def _within(value: float, at_least: float | None, at_most: float | None) -> bool:
    return (at_least is None or value >= at_least) and (at_most is None or value <= at_most)


def _bounds(at_least: float | None, at_most: float | None, joint: str = "") -> str:
    if at_least is not None and at_most is not None:
        return f" from {_written(at_least)} to {_written(at_most)}"
    if at_least is not None:
        return f" of at least {_written(at_least)}"
    return "" if at_most is None else f"{joint} of at most {_written(at_most)}"


def _written(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


# --- layers, heads, positions


def index(name: str, value: Any, size: int, what: str) -> int:
    """One of `size` things that count from 0: a layer, a head. Negative numbers do not count from the end."""
    if not _is_whole(value):
        raise refusal(name, value, f"the number of a {what}, from 0 to {size - 1}")
    if not 0 <= int(value) < size:
        raise refusal(name, value, f"a {what} from 0 to {size - 1}", because=_counted(size, what))
    return int(value)


def indices(name: str, value: Any, size: int, what: str, *, repeated: bool = False) -> tuple[int, ...]:
    """One of `size` things or several, in the order given; at least one, and each once unless `repeated`."""
    if _is_whole(value):
        return (index(name, value, size, what),)
    expected = f"{_plural(what)}, whole numbers from 0 to {size - 1}"
    entries = sequence(name, value, expected, do="Give one, or a list of them.")
    if not entries:
        raise refusal(name, value, f"at least one {what}", "Leave it out for all of them.")
    if not all(map(_is_whole, entries)):
        raise refusal(name, value, expected, "Give one, or a list of them.")
    result = tuple(int(cast(int, entry)) for entry in entries)
    if outside := [entry for entry in result if not 0 <= entry < size]:
        why = f"{_counted(size, what)}, and {outside[0]} is not among them"
        raise refusal(name, value, f"{_plural(what)} from 0 to {size - 1}", because=why)
    if not repeated:
        each_once(name, value, result, what)
    return result


def _plural(what: str) -> str:
    return f"{what}es" if what.endswith("s") else f"{what}s"


def _counted(size: int, what: str) -> str:
    return f"there is 1 {what}" if size == 1 else f"there are {size} {_plural(what)}"


def each_once(name: str, value: Any, entries: Sequence[object], what: str) -> None:
    """Refuses a list in which an entry is repeated: ``layers=[0, 0]: 0 is repeated. Give each layer once.``"""
    if repeated := [entry for i, entry in enumerate(entries) if entry in entries[:i]]:
        raise UsageError(f"{name}={as_typed(value)}: {repeated[0]!r} is repeated. Give each {what} once.")


def position(name: str, value: Any, *, optional: bool = False) -> Any:
    """A position by its name or its index, or None where that is allowed."""
    if value is None and optional:
        return None
    if _is_whole(value):
        return int(value)
    if not isinstance(value, str) or not value:
        raise refusal(name, value, f"a position's name or its index{', or None' if optional else ''}")
    return value


# --- objects


def sequence(name: str, value: Any, what: str, *, do: str = "") -> tuple[object, ...]:
    """The entries of a list, tuple, range, set or one-dimensional array; a text or a mapping is none."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and len(shape) == 1 and hasattr(value, "tolist"):
        return tuple(value.tolist())
    if not isinstance(value, Sequence | Set) or isinstance(value, str | bytes):
        raise refusal(name, value, what, do)
    return tuple(value)


def mapping(name: str, value: Any, what: str, *, do: str = "") -> Mapping[Any, Any]:
    """A mapping."""
    if not isinstance(value, Mapping):
        raise refusal(name, value, what, do)
    return value


def instance(name: str, value: Any, kinds: type[T] | tuple[type[T], ...], what: str, *, do: str = "") -> T:
    """An object of a class, or of one of several."""
    if not isinstance(value, kinds):
        raise refusal(name, value, what, do)
    return value


def function(name: str, value: Any, *, optional: bool = True) -> Callable[..., Any] | None:
    """Something that can be called, or None."""
    if not (callable(value) or (value is None and optional)):
        raise refusal(name, value, f"a function{' or None' if optional else ''}")
    return value


def function_of(name: str, value: Callable[..., Any], parameters: int, what: str, *, do: str = "") -> None:
    """Refuses a function that cannot be called with so many arguments; one that does not tell is accepted."""
    try:
        inspect.signature(value).bind(*range(parameters))
    except TypeError:
        raise refusal(name, value, what, do) from None
    except ValueError:  # a built-in function
        return
