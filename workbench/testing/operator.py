"""`check_operator`: what every attention operator must state and compute, as messages for its author."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

import torch

from workbench.attention.operator import BoundOperator, Causal, MatrixAxis, Operator, Resumes, Role, Status
from workbench.attention.operator import operator as operator_of
from workbench.errors import WorkbenchError
from workbench.registry import OPERATORS
from workbench.testing import operator_numbers, operator_properties
from workbench.testing.operator_case import SHAPE, sample
from workbench.testing.problems import raise_problems

#: What an operator may need besides q, k and v.
NEEDS = ("gates", "grid", "data", "token embeddings", "second stream")

COMPUTES = (
    operator_numbers.has_shapes,
    operator_numbers.equals_its_matrix,
    operator_numbers.ends_like_the_whole,
    operator_numbers.keeps_its_state,
    operator_numbers.records_what_it_names,
    operator_properties.rows_sum_to_one,
    operator_properties.is_causal_as_declared,
    operator_properties.heads_are_as_declared,
    operator_properties.rows_are_independent,
    operator_properties.is_linear_as_declared,
    operator_properties.reads_what_it_says,
    operator_properties.padding_contributes_nothing,
    operator_properties.honours_the_models_mask,
    operator_properties.shows_its_structure,
)


def check_operator(operator: Operator | BoundOperator | str, **settings: Any) -> None:
    """Check an attention operator, on random q, k and v, as the test suite checks those of
    ``workbench/attention/operators``.

    It says where it comes from; its efficient form is its matrix, in values and gradients; its last rows and its states
    are those of the whole; causality, heads, rows and linearity are as it declares, and what it declares not to be so
    is really not so; padding contributes nothing, and a row that sees nothing is 0.

    Args:
        operator: an operator, or the name of one.
        settings: of the operator; the others are as by default.

    Raises:
        AssertionError: everything that is wrong, each with what to write instead.
        UnknownName: no such operator or setting.

    Examples:
        >>> wb.testing.check_operator("sliding-window", window=3)
    """
    if not isinstance(operator, Operator | BoundOperator | str):
        raise AssertionError(f"check_operator takes an operator or the name of one, not {type(operator).__name__}.")
    bound = operator_of(operator, **settings)
    problems = list(_states_what_it_is(bound))
    if not problems:
        problems = [problem for check in COMPUTES for problem in _problems(check, bound)]
    raise_problems(f"The operator {str(bound)!r}", problems)


def _problems(check: Callable[[BoundOperator], Iterator[str]], bound: BoundOperator) -> Iterator[str]:
    """Of one check, a few at most: what is wrong at one length is often wrong at all."""
    try:
        for count, problem in enumerate(check(bound)):
            if count == 3:
                return
            yield problem
    except (WorkbenchError, RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
        yield f"{check.__name__.replace('_', ' ')}: raises {type(error).__name__}: {str(error).splitlines()[0]}"


def _states_what_it_is(bound: BoundOperator) -> Iterator[str]:
    operator = bound.operator
    if not isinstance(operator.version, int) or operator.version < 1:
        yield f"version={operator.version!r} is not a whole number of at least 1."
    if not operator.source:
        yield "source is empty. Name the paper or the repository, or say that it is of our own."
    for name, kind in (("status", Status), ("role", Role), ("causal", Causal), ("matrix_axis", MatrixAxis)):
        if (value := bound.declared(name)) not in get_args(kind):
            yield f"{name}={value!r} is none of {', '.join(map(repr, get_args(kind)))}."
    if operator.resumes not in get_args(Resumes):
        yield f"resumes={operator.resumes!r} is none of {', '.join(map(repr, get_args(Resumes)))}."
    if operator.status == "reconstruction" and not operator.choices:
        yield "status is 'reconstruction', and choices is empty. List what was chosen where the source says nothing."
    for name in ("row_stochastic", "linear_in_v", "heads_independent", "shift_invariant"):
        if not isinstance(bound.declared(name), bool):
            yield f"{name}={bound.declared(name)!r} is not True or False, or a function of the settings that gives it."
    yield from _functions_match(bound)
    yield from _settings_are_possible(bound)
    if _is_registered(operator) and not OPERATORS.summary(operator.name).endswith((".", ":")):
        yield "the first line of its file's docstring is not a sentence: the listing prints it."
    if not isinstance(bound.check_length, int) or bound.check_length < 1:
        yield f"check_length gives {bound.check_length!r}, which is not a whole number of at least 1."
    yield from _module_is_stated(bound)


def _is_registered(operator: Operator) -> bool:
    """Whether it is the one in the folder."""
    return operator.name in OPERATORS.names() and OPERATORS[operator.name] is operator


def _functions_match(bound: BoundOperator) -> Iterator[str]:
    operator = bound.operator
    has_matrix = operator.mask is not None or operator.matrix is not None
    if operator.mask is not None and operator.matrix is not None:
        yield "it has a mask and a matrix. Softmax forms give mask alone."
    if has_matrix and operator.matrix_axis == "none":
        yield "matrix_axis is 'none', and it has a matrix."
    if not has_matrix and operator.matrix_axis != "none":
        yield f"matrix_axis is {operator.matrix_axis!r}, and it has neither mask nor matrix."
    if not has_matrix and operator.efficient is None:
        yield "it has neither mask, matrix nor efficient: it computes nothing."
    if (operator.factors is not None) != (operator.matrix_axis == "two"):
        yield "matrix_axis is 'two' exactly where there are factors."
    if (operator.resumes == "state") != (operator.advance is not None and operator.resume is not None):
        yield "resumes is 'state' exactly where there are advance and resume."
    if (operator.record is not None) != bool(operator.records):
        yield "records names what record gives: write both or neither."
    if unknown := sorted(set(bound.declared("needs")) - set(NEEDS)):
        yield f"needs has {', '.join(unknown)}; possible are {', '.join(NEEDS)}."
    if set(operator.ignores) - {"q", "k"}:
        yield f"ignores={operator.ignores!r}: possible are 'q' and 'k'."


def _settings_are_possible(bound: BoundOperator) -> Iterator[str]:
    operator = bound.operator
    for name, setting in operator.settings.items():
        try:
            if setting.check(name, setting.default) != setting.default:
                yield f"the default {setting.default!r} of {name} is stored in another form."
        except WorkbenchError as error:
            yield f"the default of a setting is not possible: {error}"
        if not setting.what:
            yield f"the setting {name} does not say what it is."
    try:
        operator.with_settings()
    except WorkbenchError as error:
        yield f"its default settings do not go together: {error}"
    if _is_registered(operator) and operator_of(str(bound)) != bound:
        yield f"{str(bound)!r}, as a user types it, is read as other settings."


def _module_is_stated(bound: BoundOperator) -> Iterator[str]:
    """Its parameters: the same each time, and declared in `needs` and `invents`."""
    operator, make = bound.operator, bound.operator.module
    trial = operator.trial(1, 8)
    if "grid" in bound.declared("needs") and not trial.get("grid"):
        yield "needs has 'grid', and trial gives none."
    if make is None:
        return
    torch_state = torch.get_rng_state()
    first, second = (make(SHAPE, bound.settings).state_dict() for _ in range(2))
    if not torch.equal(torch.get_rng_state(), torch_state):
        torch.set_rng_state(torch_state)
        yield "making its module draws random numbers. Begin from constants, or from a generator with a seed."
    if any(not torch.equal(tensor, second[name]) for name, tensor in first.items()):
        yield "making its module twice gives other parameters."
    case = sample(bound, 8)
    if set(case.call.gates) and "gates" not in bound.declared("needs"):
        yield "its module gives gates, and needs does not name 'gates'."
    if first and not operator.invents and operator.role in ("mixer", "gate"):
        yield "its module has parameters, and invents is empty. Say what a swap into a trained layer makes up."
    for name, gate in case.call.gates.items():
        if gate.shape[:2] != case.x.shape[:2]:
            yield f"the gate {name!r} has shape {tuple(gate.shape)}; expected one entry a position, [batch, pos, ...]."
