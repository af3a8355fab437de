"""Sweeps over images and samples that were stopped go on as those over prompts do: complete batches are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from tests.oracle.plain_sampling import random_dit
from tests.small_vit import pictures, small_vit
from workbench.patching.batches import BATCH_SIZE

N = 10  # a batch, and one that is not full


def images() -> tuple[Any, Any, dict[str, Any]]:
    model = small_vit()
    return model, wb.images(pictures(N)).corrupted("occlude", seed=0).answered_by(model), {}


def samples() -> tuple[Any, Any, dict[str, Any]]:
    model = wb.HookedDiT(random_dit().float(), steps=2, guidance=2.0)
    task = wb.latents([i % 5 for i in range(N)], other=[(i + 1) % 5 for i in range(N)], seed=0)
    return model, task, {"metric": "image_distance", "by": ["step", "head"]}


@pytest.mark.parametrize("make", [images, samples])
def test_a_stopped_sweep_computes_the_batches_that_were_not_complete(make: Any, tmp_path: Path) -> None:
    model, task, arguments = make()
    whole = wb.sweep(model, task, cache=tmp_path / "whole", **arguments)

    def stop(done: int, total: int, what: str) -> None:
        if done > total * (BATCH_SIZE + 1) / N:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wb.sweep(model, task, cache=tmp_path / "stopped", progress=stop, **arguments)
    seen: list[int] = []
    resumed = wb.sweep(
        model, task, cache=tmp_path / "stopped", progress=lambda done, total, what: seen.append(done), **arguments
    )
    assert np.array_equal(resumed.values, whole.values) and np.abs(whole.delta).max() > 1e-3
    assert seen[0] >= seen[-1] * BATCH_SIZE / N  # the first batch is read at once
