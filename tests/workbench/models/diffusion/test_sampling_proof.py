"""Runs are resumed where that is exact in the steps, passes and precision in use, and nowhere else."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from tests.oracle.plain_sampling import random_dit


class Remembers(nn.Module):
    """A gate that adds some of what it gave in the step before, of another time. One pass does not show it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.gate: Tensor | None = None
        self.last: Tensor | None = None

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        new, before, last = self.inner(x, gate), self.gate, self.last
        self.gate, self.last = gate, new
        if before is None or last is None or before.shape != gate.shape or torch.equal(before, gate):
            return new
        return new + 0.5 * last


class CountsRows(nn.Module):
    """An MLP with another weight under guidance: batches of an even number of rows are scaled."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * (1.5 if len(x) % 2 == 0 and len(x) > 4 else 1.0)


def total(outputs: Tensor, example: Any) -> Tensor:
    return outputs.square().sum(-1)


def swept(model: wb.HookedDiT, **options: Any) -> wb.Sweep:
    pairs = wb.latents([1, 2], other=3, seed=0)
    return wb.sweep(model, pairs, metric=total, by=["step", "head"], heads=[0], cache=False, **options)


def with_mlp(wrap: Callable[[nn.Module], nn.Module]) -> Any:
    dit: Any = random_dit()
    dit.blocks[1].mlp = wrap(dit.blocks[1].mlp)
    return dit


@pytest.mark.parametrize("guidance", [None, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sampling_as_it_is_resumes(guidance: float | None, dtype: torch.dtype) -> None:
    dit: Any = random_dit()
    model = wb.HookedDiT(dit.to(dtype), steps=4, guidance=guidance)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert swept(model).info["exact"] == "resumed"
    assert list(model.sampled_as.values()) == [""]


def test_what_a_layer_keeps_between_steps_is_found() -> None:
    dit: Any = random_dit()
    dit.blocks[1].gate1 = Remembers(dit.blocks[1].gate1)
    model = wb.HookedDiT(dit, steps=4)
    assert model.resumable  # one pass shows nothing
    with pytest.warns(UserWarning, match=r"sampled in these steps, resuming differs by .*, so sweeps run full forward"):
        sweep = swept(model)
    assert sweep.info["exact"] == "full forwards"


def test_what_depends_on_the_number_of_passes_is_found() -> None:
    """Without guidance it never happens in batches of three and four rows."""
    model = wb.HookedDiT(with_mlp(CountsRows), steps=3)
    assert swept(model, layers=[0]).info["exact"] == "resumed"
    guided = model.resampled(guidance=2.0)
    with pytest.warns(UserWarning, match="sampled in these steps, resuming differs"):
        sweep = swept(guided, layers=[0])
    assert sweep.info["exact"] == "full forwards"


def test_each_way_of_sampling_is_proven_by_itself() -> None:
    model = wb.HookedDiT(random_dit(), steps=3)
    first = swept(model)
    again = model.resampled(steps=5, guidance=3.0)
    assert not again.sampled_as
    swept(again)
    assert len(model.sampled_as) == len(again.sampled_as) == 1
    assert np.isfinite(first.values).all()
