"""The checks of array annotations are really on."""

from typing import Any

import jaxtyping
import pytest
import torch


def test_a_wrong_shape_is_found():
    from workbench.patching.metrics import METRICS, Example

    example = Example(0, answer=(1,), wrong=(2,), options=())
    assert METRICS["accuracy"](torch.zeros(2, 5), example).shape == (2,)
    with pytest.raises(jaxtyping.TypeCheckError):
        METRICS["accuracy"](torch.zeros(5), example)


def test_other_annotations_are_left_to_pyright():
    from workbench.vocabulary import Head

    texts: Any = ("9", "6")
    assert str(Head(*texts)) == "9.6"
