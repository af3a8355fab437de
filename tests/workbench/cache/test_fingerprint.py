"""Everything that a forward depends on is in its fingerprint, or nothing is cached and a notice says why."""

from __future__ import annotations

import functools
import os
import random
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrizations import weight_norm
from transformers.models.llama import modeling_llama

import workbench as wb
from tests.families import nudged, paired
from workbench.cache import CacheNotice
from workbench.errors import UsageError
from workbench.models.fingerprint import Fingerprint, NoFingerprint
from workbench.models.language import HookedLM

FACTOR = 2.0


class Choice(Enum):
    ONE = 1
    TWO = 2


@dataclass
class Settings:
    factor: float = 1.0


class Slotted:
    __slots__ = ("factor",)

    def __init__(self, factor: float) -> None:
        self.factor = factor


def scaled(x: Tensor, factor: float = 1.0) -> Tensor:
    return x * factor


def scaled_by_global(x: Tensor) -> Tensor:
    return x * FACTOR


def scaled_by(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x * factor


def _adder(a: float) -> Callable[..., Any]:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return x + a

    return forward


#: Values of an attribute: two that differ, each made anew by a call.
VALUES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "number": (lambda: 1.0, lambda: 2.0),
    "truth": (lambda: True, lambda: 1),
    "nothing": (lambda: None, lambda: 0),
    "list": (lambda: ["a", "b"], lambda: ["b", "a"]),
    "nested": (lambda: {"default": [1.0]}, lambda: {"default": [2.0]}),
    "order of a dict": (lambda: OrderedDict(a=1, b=2), lambda: OrderedDict(b=2, a=1)),
    "set": (lambda: {"a", "b", "c"}, lambda: {"a", "b", "d"}),
    "list and tuple": (lambda: [1], lambda: (1,)),
    "tensor": (lambda: torch.arange(4.0), lambda: torch.arange(4.0) + 1),
    "tensor in a dict": (lambda: {"x": torch.ones(3, 3)}, lambda: {"x": torch.zeros(3, 3)}),
    "array": (lambda: np.arange(3), lambda: np.arange(3.0)),
    "numpy number": (lambda: np.float32(1), lambda: np.float32(2)),
    "dtype": (lambda: torch.float32, lambda: torch.bfloat16),
    "device": (lambda: torch.device("cpu"), lambda: torch.device("meta")),
    "enum": (lambda: Choice.ONE, lambda: Choice.TWO),
    "dataclass": (lambda: Settings(1.0), lambda: Settings(2.0)),
    "slots": (lambda: Slotted(1.0), lambda: Slotted(2.0)),
    "namespace": (lambda: SimpleNamespace(a=[1]), lambda: SimpleNamespace(a=[2])),
    "partial": (lambda: functools.partial(scaled, factor=1.0), lambda: functools.partial(scaled, factor=2.0)),
    "closure": (lambda: scaled_by(1.0), lambda: scaled_by(2.0)),
    "function": (lambda: scaled, lambda: scaled_by_global),
    "builtin": (lambda: F.gelu, lambda: torch.nn.functional.mish),
    "code": (lambda: lambda x: x + 1, lambda: lambda x: x + 2),
    "bound method": (lambda: MethodType(scaled, 1.0), lambda: MethodType(scaled, 2.0)),
    "module that is no child": (lambda: [nn.Linear(1, 1, bias=False, dtype=torch.float64)], lambda: [nn.Identity()]),
    "class": (lambda: nn.ReLU, lambda: nn.GELU),
}


def _holding(value: Any, name: str = "_private") -> str:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU()).eval()
    module[1].__dict__[name] = value
    fingerprint = Fingerprint(module)
    tensors = [(name, x.tolist()) for name, x in fingerprint.tensors]
    return fingerprint.digest + repr(tensors)


@pytest.mark.parametrize("kind", VALUES)
def test_attributes_of_every_kind_are_in_the_fingerprint(kind: str) -> None:
    one, other = VALUES[kind]
    torch.manual_seed(0)
    first = _holding(one())
    torch.manual_seed(0)
    assert _holding(one()) == first
    assert _holding(other()) != first != _holding(one(), "_another_name")


def test_tensors_are_found_wherever_they_are_held() -> None:
    module: Any = nn.Module().eval()
    module.register_buffer("mask", torch.ones(1), persistent=False)
    module._table = {"a": [torch.ones(2)]}
    module._other = [nn.Linear(1, 1)]
    names = [name for name, _ in Fingerprint(module).tensors]
    assert sorted(names) == ["_other[0].bias", "_other[0].weight", "_table['a'][0]", "mask"]


def test_which_children_are_shared_is_in_the_fingerprint() -> None:
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    assert Fingerprint(nn.Sequential(a, b, a)).digest != Fingerprint(nn.Sequential(a, b, b)).digest
    b.weight = a.weight
    assert Fingerprint(nn.Sequential(a, b)).digest != Fingerprint(nn.Sequential(a, nn.Linear(2, 2))).digest


def test_an_object_that_holds_itself_has_a_fingerprint() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert _holding(loop) != _holding([1, [1]])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (random.Random(0), "Random, which has no hash"),
        (torch.Generator(), "Generator, which has no hash"),
        (iter([1]), "iterator, which has no hash"),
        ({Settings, Slotted}, "a set of objects"),
        (torch.ones(2, 2).to_sparse(), "sparse"),
        (torch.ones(2, device="meta"), "has no data here"),
        (threading.Event, ""),
    ],
    ids=["random numbers", "a generator", "an iterator", "a set", "sparse", "no data", "an event"],
)
def test_what_has_no_hash_is_said(value: Any, reason: str) -> None:
    if reason:
        with pytest.raises(NoFingerprint, match=rf"^1\._private .*{reason}"):
            _holding(value)
    else:
        assert _holding(value)


# --- on a model: the cache gives no other state's numbers -------------------------------------------------------------


def _other_window(hf: Any) -> None:
    hf.config.sliding_window = 3


def _private_factor(hf: Any) -> None:
    """A forward of a class of one's own that reads a private attribute."""
    attention = hf.model.layers[1].self_attn
    attention._factor = [3.0]


CHANGES: dict[str, Callable[[Any], None]] = {
    "a private list": _private_factor,
    "a configuration": _other_window,
    "a buffer that is not saved": lambda hf: hf.model.rotary_emb.inv_freq.mul_(1.5),
    "a tied weight": lambda hf: setattr(hf.model.layers[2].mlp, "up_proj", hf.model.layers[0].mlp.up_proj),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_after_wrapping_is_noticed(change: str) -> None:
    model = HookedLM(nudged("mistral"))
    before = model.identity.current()
    assert before is not None and model.identity.current() == before
    with torch.no_grad():
        CHANGES[change](model.hf)
    assert model.identity.current() not in (before, None)
    if change == "a private list":
        model.hf.model.layers[1].self_attn._factor.append(1.0)
        assert model.identity.current() not in (before, None)


def test_the_window_of_a_configuration_changes_what_is_read(tmp_path: Path) -> None:
    """With a cache as without one."""
    model, task = HookedLM(nudged("mistral")), paired(2)
    wide = wb.record(model, task, "resid_post", cache=tmp_path).clean["resid_post"][0]
    model.hf.config.sliding_window = 2
    fresh = wb.record(model, task, "resid_post", cache=False).clean["resid_post"][0]
    assert not torch.allclose(wide, fresh, atol=1e-3)
    assert torch.equal(wb.record(model, task, "resid_post", cache=tmp_path).clean["resid_post"][0], fresh)


def test_functions_that_are_put_in_the_place_of_a_library_s(monkeypatch: pytest.MonkeyPatch) -> None:
    model = HookedLM(nudged("llama"))
    seen = {model.identity.current()}
    sdpa, rotate = F.scaled_dot_product_attention, modeling_llama.rotate_half

    def patched(target: Any, name: str, value: Any) -> None:
        with monkeypatch.context() as context:
            context.setattr(target, name, value)
            seen.add(model.identity.current())

    patched(F, "scaled_dot_product_attention", lambda *args, **kwargs: sdpa(*args, **kwargs) * 2)
    patched(modeling_llama, "rotate_half", lambda x: -rotate(x))
    patched(modeling_llama.LlamaMLP, "forward", _adder(1.0))
    patched(modeling_llama.LlamaMLP, "forward", _adder(2.0))
    patched(modeling_llama.LlamaMLP, "forward", torch.no_grad()(_adder(1.0)))
    patched(modeling_llama.LlamaMLP, "forward", torch.autocast("cpu", torch.bfloat16)(_adder(1.0)))
    for dtype in (torch.bfloat16, torch.float16):
        patched(modeling_llama.LlamaMLP, "forward", torch.autocast("cpu", dtype)(modeling_llama.LlamaMLP.forward))
    patched(nn.Linear, "forward", _adder(1.0))
    patched(nn.Module, "call_super_init", 1)
    assert len(seen) == 11 and None not in seen
    assert model.identity.current() in seen


class OwnMLP(nn.Module):
    """A module of one's own in a model of a library: it reads a global."""

    def forward(self, x: Tensor) -> Tensor:
        return scaled_by_global(x)


def test_globals_of_own_code_are_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hf, task = nudged("llama"), paired(2)
    hf.model.layers[1].mlp = OwnMLP().eval()
    model = HookedLM(hf)
    before = wb.record(model, task, "resid_post", cache=tmp_path).clean["resid_post"][0]
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3.0)
    after = wb.record(model, task, "resid_post", cache=tmp_path).clean["resid_post"][0]
    assert torch.equal(after, wb.record(model, task, "resid_post", cache=False).clean["resid_post"][0])
    assert not torch.allclose(before[1], after[1], atol=1e-3)
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", random.Random(0))
    with pytest.warns(CacheNotice, match=r"Nothing is cached for this call: .*FACTOR.*Random, which has no hash"):
        assert model.identity.current() is None


#: Settings of torch under which numbers differ.
CONTEXTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast in half precision": lambda: torch.autocast("cpu", torch.float16),
    "an attention kernel": lambda: sdpa_kernel(SDPBackend.MATH),
}


def test_settings_of_torch_are_in_the_key() -> None:
    model = HookedLM(nudged("llama"))
    seen = {model.identity.current()}
    for context in CONTEXTS.values():
        with context():
            seen.add(model.identity.current())
    torch.set_default_dtype(torch.float64)
    seen.add(model.identity.current())
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(True)
    seen.add(model.identity.current())
    torch.use_deterministic_algorithms(False)
    assert len(seen) == len(CONTEXTS) + 3
    with torch.autocast("cpu", enabled=False), torch.device("cpu"):
        assert model.identity.current() in seen


class _Mode(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def _compiled(model: HookedLM) -> None:
    mlp = model.hf.model.layers[0].mlp
    mlp._compiled_call_impl = mlp._call_impl  # what mlp.compile() sets, without the compiler


def _with_dropout(model: HookedLM) -> None:
    model.hf.model.layers[1].mlp.act_fn = nn.Sequential(nn.SiLU(), nn.Dropout(0.5))


def _hooked(model: HookedLM) -> None:
    model.hf.model.layers[0].mlp.register_forward_pre_hook(lambda *_: None)


REFUSALS: dict[str, tuple[Callable[[HookedLM], Any], str]] = {
    "compiled": (_compiled, r"model\.layers\.0\.mlp is compiled"),
    "dropout alone": (_with_dropout, r"model\.layers\.1\.mlp\.act_fn\.1 is in training mode"),
    "a hook": (_hooked, r"foreign hooks are active on model\.layers\.0\.mlp"),
    "a forward": (lambda m: setattr(m.hf.model.norm, "forward", lambda x: x), r"foreign hooks .* model\.norm"),
    "a random generator": (
        lambda m: setattr(m.hf.model.norm, "_generator", random.Random(0)),
        r"model\.norm\._generator is a random\.Random, which has no hash",
    ),
}


@pytest.mark.parametrize("change", REFUSALS)
def test_nothing_is_cached_and_the_notice_says_why(change: str) -> None:
    alter, reason = REFUSALS[change]
    model = HookedLM(nudged("llama"))
    alter(model)
    with pytest.warns(CacheNotice, match=rf"^Nothing is cached for this call: .*{reason}"):
        assert model.identity.current() is None


def test_nothing_is_cached_where_all_of_torch_is_intercepted() -> None:
    model = HookedLM(nudged("llama"))
    with _Mode(), pytest.warns(CacheNotice, match="intercepted by _Mode"):
        assert model.identity.current() is None
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        with pytest.warns(CacheNotice, match="on every module"):
            assert model.identity.current() is None
    finally:
        handle.remove()
    assert model.identity.current() is not None


def test_a_submodule_in_training_mode_is_refused_by_runs() -> None:
    model, dropout = HookedLM(nudged("llama")), nn.Dropout(0.5)
    model.hf.model.layers[1].mlp.act_fn = nn.Sequential(nn.SiLU(), dropout)
    with pytest.raises(UsageError, match=r"act_fn\.1 is in training mode, where runs may differ"):
        wb.sweep(model, paired(2))
    dropout.p = 0.0  # drops nothing
    assert model.identity.current() is not None
    assert wb.sweep(model, paired(2), layers=1).values.shape == (1, 6, 2)


def test_a_parametrised_weight_is_noticed(tmp_path: Path) -> None:
    model, task = HookedLM(nudged("llama")), paired(2)
    weight_norm(model.hf.model.layers[1].mlp.up_proj)
    model.eval()
    before = model.identity.current()
    parametrised: Any = model.hf.model.layers[1].mlp.up_proj
    with torch.no_grad():
        parametrised.parametrizations.weight.original0.mul_(2)
    assert model.identity.current() not in (before, None)
    assert wb.record(model, task, cache=tmp_path).clean.n_inputs == 2


PRINT = """
import torch
from tests.families import nudged
from tests.workbench.cache.test_fingerprint import VALUES, _holding
from workbench.models.fingerprint import Fingerprint
torch.manual_seed(0)
for kind in VALUES:
    print(kind, _holding(VALUES[kind][0]()))
for family in ("llama", "gpt2"):
    print(family, Fingerprint(nudged(family)).digest)
"""


def test_fingerprints_are_equal_in_every_process() -> None:
    """Whatever the addresses and the order of sets."""
    printed = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", PRINT],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        printed.add(done.stdout)
    assert len(printed) == 1 and len(printed.pop().splitlines()) == len(VALUES) + 2


def test_a_saved_and_loaded_model_is_the_same_model(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    hf = nudged("llama")
    hf.save_pretrained(tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert Fingerprint(loaded).digest == Fingerprint(hf).digest


def test_what_transformers_remembers_of_a_class_is_no_content() -> None:
    model = HookedLM(nudged("qwen2"))
    before = model.identity.of_code()
    implementation = model.hf.config._attn_implementation
    model.hf.set_attn_implementation("eager")
    assert model.identity.of_code() != before
    model.hf.set_attn_implementation(implementation)
    assert model.identity.of_code() == before
