"""The self-check's verdict, kept for the next load of the same files: it gives the same model, and a stale one is never
used."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers.models.llama import modeling_llama

import workbench as wb
from tests import small_models
from tests.families import nudged
from tests.other_families import ARGUMENTS, other
from workbench.cache import store_of
from workbench.errors import UnsupportedModel
from workbench.models import identity, self_check, verdict
from workbench.models.language import HookedLM
from workbench.models.verdict import Verdict

IDS = torch.tensor([[0, 5, 9, 32, 4, 7]])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WORKBENCH_CACHE", "on")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_models.save_directory(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The models that were checked."""
    checked: list[Any] = []

    def check(model: Any) -> None:
        checked.append(model)
        self_check.check(model)

    monkeypatch.setattr(verdict, "check", check)
    yield checked


def test_a_second_load_is_the_same_model_without_a_check(folder: Path, checks: list[Any]) -> None:
    first, second = wb.load(str(folder)), wb.load(str(folder))
    assert checks == [first]
    assert_same(first, second)
    task = wb.PairedInputs("made", (IDS[0],), (IDS[0].flip(0),), ((5,),), ((9,),))
    sweeps = [wb.sweep(model, task, cache=False) for model in (first, second)]
    assert (sweeps[0].values == sweeps[1].values).all() and sweeps[0].info == sweeps[1].info
    expected = transformers.AutoModelForCausalLM.from_pretrained(str(folder), local_files_only=True)(IDS).logits
    assert torch.equal(second(IDS), expected)


def assert_same(checked: HookedLM, reloaded: HookedLM) -> None:
    assert Verdict.of(checked) == Verdict.of(reloaded)
    assert list(checked.hook_dict) == list(reloaded.hook_dict) and checked.cfg == reloaded.cfg
    assert checked.proofs.at_load == reloaded.proofs.at_load and checked.proofs._known == reloaded.proofs._known
    assert checked.proofs.warned_of_rounding == reloaded.proofs.warned_of_rounding
    for name in ("by_weights", "reads_out", "embeds", "gated", "why_not"):
        assert getattr(checked.additivity, name) == getattr(reloaded.additivity, name)
    assert (checked.additivity.path is None) == (reloaded.additivity.path is None)
    assert checked.identity.current() == reloaded.identity.current()


#: Caps, scaled logits, latent attention with other heads than the configuration's, sinks, norms behind attention.
KINDS = ("gemma2", "cohere", "deepseek_v3", "gpt_oss", "exaone4", "codegen")


@pytest.mark.parametrize("name", KINDS)
def test_a_verdict_survives_being_written_down(name: str, checks: list[Any]) -> None:
    """As if the files of a model of that family had been loaded twice."""
    make: Callable[..., Any] = partial(other, name) if name in ARGUMENTS else partial(nudged, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = [HookedLM(make(), None, {"weights_sha256": name}, check=False) for _ in range(2)]
        for model in models:
            model.check_with(partial(verdict.check_once, store=store_of(None)))
    assert_same(*models)
    assert checks == models[:1]


def change_weights(folder: Path, _: pytest.MonkeyPatch) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-2] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def change_settings(folder: Path, _: pytest.MonkeyPatch) -> None:
    settings = json.loads((folder / "config.json").read_text()) | {"rms_norm_eps": 1e-3}
    (folder / "config.json").write_text(json.dumps(settings))


def change_code(_: Path, patch: pytest.MonkeyPatch) -> None:
    own = modeling_llama.LlamaMLP.forward
    patch.setattr(modeling_llama.LlamaMLP, "forward", lambda self, x: own(self, x) * 1.0)


CHANGES: dict[str, Callable[[Path, pytest.MonkeyPatch], Any]] = {
    "weights": change_weights,
    "configuration": change_settings,
    "modules' code": change_code,
    "our own code": lambda _, patch: patch.setattr(verdict, "own_code_hash", lambda *_: "other"),
    "a version": lambda _, patch: patch.setattr(verdict, "version", lambda name: "99"),
    "Python": lambda _, patch: patch.setattr(verdict.platform, "python_version", lambda: "3.99"),
    "threads": lambda _, patch: patch.setattr(torch, "get_num_threads", lambda: 99),
    "instructions": lambda _, patch: patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "OTHER"),
    "torch's settings": lambda _, patch: patch.setattr(identity, "numeric_settings", lambda _: {"matmul": "medium"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_stale_verdict_is_not_used(
    change: str, folder: Path, checks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wb.load(str(folder))
    wb.load(str(folder))
    assert len(checks) == 1
    CHANGES[change](folder, monkeypatch)
    wb.load(str(folder))
    assert len(checks) == 2


def test_another_precision_is_checked_for_itself(folder: Path, checks: list[Any]) -> None:
    for dtype in ("float32", "float64", "float32", "float64"):
        wb.load(str(folder), dtype=dtype)
    assert [str(model.dtype) for model in checks] == ["torch.float32", "torch.float64"]


def test_a_model_in_memory_is_always_checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, checked = wb.load(str(folder)), []
    monkeypatch.setattr(self_check, "check", checked.append)
    HookedLM(loaded.hf, loaded.tokenizer, loaded.provenance)
    assert len(checked) == 1


def test_without_a_cache_or_a_hash_of_our_code_nothing_is_kept(
    folder: Path, checks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("WORKBENCH_CACHE", "off")
        wb.load(str(folder))
    monkeypatch.setattr(verdict, "own_code_hash", lambda *_: "")
    for _ in range(2):
        wb.load(str(folder))
    assert len(checks) == 3


def test_a_refusal_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: Any) -> None:
        raise UnsupportedModel("it failed.")

    with monkeypatch.context() as patch:
        patch.setattr(verdict, "check", refuse)
        for _ in range(2):
            with pytest.raises(UnsupportedModel, match="it failed"):
                wb.load(str(folder))
    assert wb.load(str(folder)).resumable


def test_warnings_of_a_check_are_given_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(model: Any) -> None:
        checked.append(model)
        warnings.warn("mind this", stacklevel=1)

    checked: list[Any] = []
    monkeypatch.setattr(verdict, "check", warn)
    for _ in range(2):
        with pytest.warns(UserWarning, match="mind this"):
            wb.load(str(folder))
    assert len(checked) == 1


def test_the_weights_are_hashed_once_for_the_same_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    own = identity.hash_tensors

    def hash_tensors(tensors: Any) -> bytes:
        sizes.append(sum(x.numel() for _, x in tensors))
        return own(tensors)

    monkeypatch.setattr(identity, "hash_tensors", hash_tensors)
    first = wb.load(str(folder))
    every, name = sum(x.numel() for x in first.parameters()), first.identity.current()
    assert max(sizes) >= every
    sizes.clear()
    second = wb.load(str(folder))
    assert second.identity.current() == name and max(sizes) < every
    with torch.no_grad():
        second.hf.model.layers[0].mlp.up_proj.weight[0, 0] += 1
    changed = second.identity.current()
    assert changed != name and max(sizes) >= every
    assert HookedLM(second.hf, second.tokenizer).identity.current() == changed
    assert wb.load(str(folder)).identity.current() == name


def test_a_change_before_the_first_hash_is_not_taken_for_the_files(folder: Path) -> None:
    changed = wb.load(str(folder))
    changed.hf.model.layers[1].self_attn.o_proj.weight.data[:, 0] = 0
    expected = HookedLM(changed.hf, changed.tokenizer).identity.current()
    assert changed.identity.current() == expected
    assert wb.load(str(folder)).identity.current() != expected
