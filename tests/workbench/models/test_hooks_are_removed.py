"""Nothing of ours stays on a model: not after a run, not after an error, not after the model is gone."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.families import hugging_face, paired
from workbench.core import Edit, Head
from workbench.errors import HookError, UsageError
from workbench.models.language import HookedLM
from workbench.patching.path import path_patch
from workbench.patching.record import record
from workbench.patching.run import run
from workbench.patching.sweep import sweep

INPUTS = paired(3)


@pytest.fixture
def model() -> Iterator[HookedLM]:
    """A model that is checked for any trace of ours afterwards."""
    hooked = HookedLM(hugging_face("gemma3"))
    ids = INPUTS.clean[0][None]
    before, logits = hooked.hf.config._attn_implementation, hooked(ids)
    yield hooked
    assert hooked.hf.config._attn_implementation == before
    for name, part in hooked.hf.named_modules():
        assert not part._forward_hooks, name
        assert not part._forward_pre_hooks, name
        assert not part._backward_hooks, name
    assert not any(point.has_hooks() for point in hooked.hook_dict.values())
    assert torch.equal(hooked(ids), logits)
    assert torch.equal(hooked.hf(ids, use_cache=False).logits, logits)


class Stop(Exception):
    """Raised by a user's function in the middle of a run."""


def stop(*_: object) -> Any:
    raise Stop


def twice(x: Tensor) -> Tensor:
    return torch.cat([x, x])


EXPERIMENTS: dict[str, Callable[[HookedLM], object]] = {
    "sweep": lambda model: sweep(model, INPUTS),
    "sweep of patterns": lambda model: sweep(model, INPUTS, site="pattern", edit="zero"),
    "path to the logits": lambda model: path_patch(model, INPUTS),
    "path to keys": lambda model: path_patch(model, INPUTS, [Head(2, 1)], into="k", position="S"),
    "record": lambda model: record(model, INPUTS, ["z", "pattern", "resid_mid"]),
    "run": lambda model: run(model, INPUTS, [Edit("resid_mid", 1), Edit("v", 0, head=1)]),
    "cache": lambda model: model.run_with_cache(INPUTS.clean[0][None]),
}
FAILING: dict[str, tuple[type[BaseException], Callable[[HookedLM], object]]] = {
    "metric of a sweep": (Stop, lambda model: sweep(model, INPUTS, metric=stop)),
    "edit of a sweep": (Stop, lambda model: sweep(model, INPUTS, edit=stop)),
    "shape of a sweep's edit": (HookError, lambda model: sweep(model, INPUTS, edit=twice)),
    "progress of a sweep": (Stop, lambda model: sweep(model, INPUTS, progress=stop)),
    "progress of a path": (Stop, lambda model: path_patch(model, INPUTS, progress=stop)),
    "metric of a path": (Stop, lambda model: path_patch(model, INPUTS, metric=stop)),
    "progress of a recording": (Stop, lambda model: record(model, INPUTS, progress=stop)),
    "edit of a run": (Stop, lambda model: run(model, INPUTS, [Edit("k", 1, head=0, kind=stop)])),
    "shape of a run's edit": (HookError, lambda model: run(model, INPUTS, [Edit("z", 1, head=0, kind=twice)])),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_after_a_run(name: str, model: HookedLM) -> None:
    EXPERIMENTS[name](model)


@pytest.mark.parametrize("name", FAILING)
def test_after_an_error(name: str, model: HookedLM) -> None:
    error, experiment = FAILING[name]
    with pytest.raises(error):
        experiment(model)


def test_after_an_interrupt(model: HookedLM) -> None:
    def interrupt(x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(model, INPUTS, edit=interrupt)


def _logging(calls: list[str]) -> Any:
    return lambda x, hook: calls.append("z")


def test_hooks_of_others_stay() -> None:
    model = HookedLM(hugging_face("llama"))
    calls: list[str] = []
    handle = model.layer(1).register_forward_hook(lambda *_: calls.append("layer"))

    sweep(model, INPUTS, layers=[1])
    run(model, INPUTS, [Edit("z", 0)])
    model.add_perma_hook("blocks.1.attn.hook_z", _logging(calls))
    for call in (lambda: sweep(model, INPUTS, layers=[1]), lambda: run(model, INPUTS, [Edit("z", 0)])):
        with pytest.raises(UsageError, match="Hooks are active"):
            call()
    calls.clear()
    model(INPUTS.clean[0][None])
    assert calls == ["z", "layer"]
    handle.remove()
    model.reset_hooks(including_permanent=True)
    model(INPUTS.clean[0][None])
    assert calls == ["z", "layer"]


def test_a_model_that_goes_out_of_scope_is_freed() -> None:
    model = HookedLM(hugging_face("llama"))
    sweep(model, INPUTS)
    record(model, INPUTS, ["z"])
    weights = weakref.ref(model.layer(0))
    del model
    gc.collect()
    assert weights() is None
