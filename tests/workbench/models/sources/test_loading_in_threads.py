"""Models that several threads load at once: transformers changes its own class, and torch's, while it builds one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel

import workbench as wb
from workbench.models import sources

THREADS = 3


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each thread that builds a model waits there for the others, for a moment."""
    build, tie = LlamaForCausalLM.__init__, PreTrainedModel.tie_weights
    barrier = threading.Barrier(THREADS)

    def waiting(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            barrier.wait(0.2)
        except threading.BrokenBarrierError:
            barrier.reset()
        build(self, *args, **kwargs)

    monkeypatch.setattr(LlamaForCausalLM, "__init__", waiting)
    yield
    left_alone = PreTrainedModel.tie_weights is tie
    PreTrainedModel.tie_weights = tie
    torch.set_default_dtype(torch.float32)
    assert left_alone


@pytest.mark.usefixtures("together")
def test_models_that_are_loaded_at_once_are_whole(directory: Path) -> None:
    def load(i: int) -> Any:
        return sources.resolve(directory, dtype=["float32", "bfloat16"][i % 2]).hf_model

    with ThreadPoolExecutor(THREADS) as pool:
        models = list(pool.map(load, range(2 * THREADS)))
    for i, model in enumerate(models):
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert model.dtype == [torch.float32, torch.bfloat16][i % 2]
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.usefixtures("together")
def test_a_small_model_of_random_weights_is_not_disturbed_by_one_that_is_loaded(directory: Path) -> None:
    expected = wb.tiny("lm", width=32).hf.model.embed_tokens.weight

    def make(i: int) -> Any:
        return wb.tiny("lm", width=32).hf if i % 2 else sources.resolve(directory, dtype="bfloat16").hf_model

    with ThreadPoolExecutor(THREADS) as pool:
        models = list(pool.map(make, range(2 * THREADS)))
    for i, model in enumerate(models):
        if i % 2:
            assert torch.equal(model.model.embed_tokens.weight, expected)
        else:
            assert model.lm_head.weight is model.model.embed_tokens.weight
