"""Every public function and method refuses an odd argument by its name, with what was expected and what to do.

The names come from the stub, so that a new one is tested the moment it exists: each of its parameters gets every odd
value in turn, the others a valid one. The call has to raise one of our errors that names the argument as it is typed
(``layers=[0, 0]: …``), or the value has to be among those that the parameter takes (`TAKES`).
"""

from __future__ import annotations

import ast
import inspect
import re
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from tests.conformance.arguments import diffusion, language, results, vision
from tests.conformance.arguments.language import VALID
from tests.conformance.arguments.odd_values import ODD, ONE_TEXT, TAKES_EVERYWHERE
from workbench.errors import BadInput, HookError, WorkbenchError
from workbench.models.resumable import NotFinite
from workbench.registry import ROOT

#: The tables of all parts.
PARTS = (language, vision, diffusion, results)
TAKES = {key: labels for part in PARTS for key, labels in part.TAKES.items()}
INSTANCES = {key: make for part in PARTS for key, make in part.INSTANCES.items()}
VALID_IN = {key: arguments for part in PARTS for key, arguments in part.VALID_IN.items()}
#: Results of calls: nobody makes one by hand.
MADE_BY_CALLS = {
    *{"Attention", "AttentionBetween", "Estimate", "Generations", "HeadScores", "ImageAttention", "ImagePairs"},
    *{"Images", "Latents", "MemoryCurve", "ModelView", "Notes"},
    *{"OperatorView", "Outcome", "PositionAttention", "Recording", "Run", "Screen", "Trajectory", "WordMaps"},
}

#: Of methods with TransformerLens's or torch's names and meaning, those that are tried.
OWN_METHODS = {
    "HookedLM": {
        *{"hook_name", "forward", "to_tokens", "to_single_token", "to_str_tokens", "tokens_to_residual_directions"}
    },
    "HookedDiT": {"hook_name", "forward", "images"},
    "HookedDiffusers": {"hook_name", "has_heads", "reads_sources"},
    "Latents": set(),
    "HookedViT": {"hook_name", "forward", "pixels_to_inputs", "inputs_to_pixels", "patch_grid"},
}

#: To be subclassed: `HookedLM` is one.
BASES = {"HookedModel"}

#: What authors state in files: `wb.testing.check_operator` and the like say what is wrong with it.
STATED = {"ImageSet", "LabelledImages", "Operator"}

#: Called by findings' own machinery, not by people.
INTERNAL = {"Report.with_judgement"}


@dataclass(frozen=True)
class Call:
    """A public function, constructor or method: its name in the tables above, and how to get hold of it."""

    name: str
    get: Callable[[], Callable[..., Any]]
    parameters: tuple[inspect.Parameter, ...]


def public_names() -> list[str]:
    """The names of the stub, without its folders."""
    tree = ast.parse((ROOT / "workbench" / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
    return [alias.asname or alias.name for node in imports for alias in node.names]


def calls() -> Iterator[Call]:
    for name in public_names():
        value = getattr(wb, name)
        if not inspect.isclass(value):
            yield Call(name, lambda value=value: value, _parameters(value))
            continue
        if issubclass(value, Exception) or name in BASES | STATED:
            continue
        if name not in MADE_BY_CALLS:
            yield Call(name, lambda value=value: value, _parameters(value))
        for method, function in _methods(value).items():
            instance = (lambda value=value: value) if isinstance(function, classmethod) else INSTANCES[name]
            parameters = _parameters(getattr(value, method))[not isinstance(function, classmethod) :]
            if parameters:
                yield Call(f"{name}.{method}", lambda i=instance, m=method: getattr(i(), m), parameters)


def _methods(cls: type) -> dict[str, Any]:
    own_bases = [base for base in reversed(cls.__mro__) if base.__module__.startswith("workbench.")]
    members = {name: member for base in own_bases for name, member in vars(base).items()}
    return {
        name: member
        for name, member in members.items()
        if not name.startswith("_")
        and isinstance(member, types.FunctionType | classmethod)
        and name in OWN_METHODS.get(cls.__name__, members)
        and f"{cls.__name__}.{name}" not in INTERNAL
    }


def _parameters(function: Any) -> tuple[inspect.Parameter, ...]:
    """Those that have names, and what stands behind ``**keywords: Unpack[…]``."""
    named: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            named.append(parameter)
        elif "Unpack[" in str(parameter.annotation):
            keywords = vars(inspect.getmodule(function))[str(parameter.annotation).partition("[")[2].rstrip("]")]
            named += [inspect.Parameter(name, parameter.KEYWORD_ONLY, default=...) for name in keywords.__annotations__]
    return tuple(named)


def _valid(call: Call, varied: str) -> dict[str, Any]:
    """Arguments with which the call runs."""
    names = {p.name: p for p in call.parameters}
    arguments = {
        name: VALID[name]() for name in names if name in VALID and (names[name].default is EMPTY or name == "cache")
    }
    for key in (call.name, f"{call.name}.{varied}"):
        arguments |= VALID_IN.get(key, dict)()
    return arguments


EMPTY = inspect.Parameter.empty

CALLS = list(calls())


def _taken(call: str, parameter: str) -> set[str]:
    return TAKES.get(f"{call}.{parameter}", set()) | TAKES_EVERYWHERE.get(parameter, set())


def _names(message: str, parameter: str) -> bool:
    return re.search(rf"(?<![\w.]){parameter}(?:=|\[|: )|^pair \d+: .*\b{parameter}\b", message) is not None


def _names_the_value(error: WorkbenchError, parameter: str, label: str) -> bool:
    """A file or entry that does not exist is named itself, and so is the hook at which an edit of the user's failed."""
    if isinstance(error, BadInput) and label in ONE_TEXT:
        text = ODD[label][0] if label == "[word]" else ODD[label]
        return text in str(error) or repr(text) in str(error)
    if isinstance(error, NotFinite) and parameter == "factor":  # it is too large for the precision of a pipeline
        return "after edits at " in str(error)
    return isinstance(error, HookError) and parameter == "edit" and str(error).startswith("The edit at ")


def complaint(call: Call, parameter: str, label: str) -> str:
    """What is wrong with how an odd value is met; empty when nothing is."""
    arguments = {**_valid(call, parameter), parameter: ODD[label]}
    try:
        result = call.get()(**arguments)
        if inspect.isgenerator(result):
            next(result, None)
    except WorkbenchError as error:
        if _names(str(error), parameter) or _names_the_value(error, parameter, label):
            return ""
        return f"{call.name}({parameter}={label}) does not name {parameter}: {type(error).__name__}: {error}"
    except Exception as error:
        return f"{call.name}({parameter}={label}) raises {type(error).__name__}: {str(error)[:100]}"
    return "" if label in _taken(call.name, parameter) else f"{call.name}({parameter}={label}) runs"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", CALLS, ids=[call.name for call in CALLS])
def test_odd_arguments_are_refused_by_name(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call.get()(**_valid(call, ""))
    complaints = [complaint(call, p.name, label) for p in call.parameters for label in ODD]
    assert not (real := list(filter(None, complaints))), "\n".join(real)


def test_the_tables_name_what_exists() -> None:
    """A parameter that was renamed or left takes its entry with it."""
    known = {f"{call.name}.{p.name}" for call in CALLS for p in call.parameters}
    assert set(TAKES) <= known
    assert set(TAKES_EVERYWHERE) <= {p.name for call in CALLS for p in call.parameters}
    assert all(key in known or key in {call.name for call in CALLS} for key in VALID_IN)
