"""Two threads share one model: each gets its own numbers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import workbench as wb
from tests.families import hooked, paired


@pytest.mark.parametrize("operator", ["", "linear"])
def test_sweeps_and_paths_of_two_threads_are_those_of_one(operator: str) -> None:
    model = hooked("llama")
    if operator:
        model = wb.swap(model, {"all": operator}, cache=False)
    inputs = [paired(3, seed=seed) for seed in range(4)]

    def values(i: int) -> np.ndarray:
        call = wb.sweep if i % 2 else wb.path_patch
        return np.nan_to_num(call(model, inputs[i % 4], cache=False).values)

    expected = [values(i) for i in range(4)]
    with ThreadPoolExecutor(3) as pool:
        for i, result in enumerate(pool.map(values, range(24))):
            assert np.allclose(result, expected[i % 4], atol=1e-5)
