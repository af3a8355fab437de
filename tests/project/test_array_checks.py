"""The checks of array annotations are really on."""

from typing import Any

import jaxtyping
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from tests import array_checks


def test_a_wrong_shape_is_found():
    from workbench.patching.metric import Example
    from workbench.registry import METRICS

    example = Example(0, answer=(1,), wrong=(2,), options=())
    assert METRICS["accuracy"](torch.zeros(2, 5), example).shape == (2,)
    with pytest.raises(jaxtyping.TypeCheckError):
        METRICS["accuracy"](torch.zeros(5), example)


def test_other_annotations_are_left_to_pyright():
    from workbench.arguments import listing

    numbers: Any = (9, 6)  # the annotation says texts
    assert listing(numbers) == "9 or 6"


def test_a_function_inside_another_is_checked_and_one_without_arrays_is_left_as_it_is():
    def halved(values: Float[Tensor, "batch pos"]) -> Float[Tensor, "batch pos"]:
        return values / 2

    def named(text: str) -> str:
        return text

    for _ in range(2):  # the second time from memory
        with pytest.raises(jaxtyping.TypeCheckError):
            array_checks.checked(halved)(torch.zeros(5))
        assert array_checks.checked(named) is named
