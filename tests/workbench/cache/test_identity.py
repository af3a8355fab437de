"""What the cache takes for the same model: weights and behaviour, not names or objects."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import workbench as wb
from tests.families import FAMILIES, nudged, paired
from workbench.cache import CacheNotice, store_of
from workbench.errors import UsageError
from workbench.models.language import HookedLM


def test_changed_weights_are_noticed(tmp_path: Path) -> None:
    model = HookedLM(nudged("llama"))
    task = paired(2)
    before = wb.record(model, task, cache=tmp_path).clean.n_inputs and model.identity.current()
    weight = model.hf.get_parameter("model.layers.1.self_attn.o_proj.weight")
    original = weight.data.clone()
    weight.data[:, 2 * model.d_head : 3 * model.d_head] = 0  # one head, by the way that moves no version counter
    changed = model.identity.current()
    assert changed != before
    weight.data.copy_(original)
    assert model.identity.current() == before
    with torch.no_grad():
        weight[0, 1] += 1  # a single number, which the sample misses: the counter moves
    assert model.identity.current() not in (before, changed)


def _halved(self: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    return x / 2


BEHAVIOUR = {
    "an attention's scaling": lambda hf: setattr(hf.model.layers[1].self_attn, "scaling", 0.5),
    "a norm's epsilon": lambda hf: setattr(hf.model.layers[1].input_layernorm, "variance_epsilon", 1e-2),
    "an activation": lambda hf: setattr(hf.model.layers[1].mlp, "act_fn", torch.nn.ReLU()),
    "the rotary scale": lambda hf: setattr(hf.model.rotary_emb, "attention_scaling", 1.5),
}


@pytest.mark.parametrize("change", BEHAVIOUR)
def test_what_modules_do_besides_their_tensors_is_noticed(change: str, tmp_path: Path) -> None:
    """In the same process, and in another that finds what this one kept."""
    task, plain = paired(3), HookedLM(nudged("llama"))
    before = wb.record(plain, task, "resid_post", cache=tmp_path)
    altered = HookedLM(nudged("llama"))
    BEHAVIOUR[change](altered.hf)
    BEHAVIOUR[change](plain.hf)
    for model in (altered, plain):
        cached = wb.record(model, task, "resid_post", cache=tmp_path).clean["resid_post"]
        fresh = wb.record(model, task, "resid_post", cache=False).clean["resid_post"]
        for a, b, c in zip(cached, fresh, before.clean["resid_post"], strict=True):
            assert torch.allclose(a, b, atol=1e-5)
            assert not torch.allclose(a[1:], c[1:], atol=1e-4)


def test_a_class_that_was_patched_is_another_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, task = HookedLM(nudged("llama")), paired(2)
    first = wb.record(model, task, "resid_post", cache=tmp_path).clean["resid_post"][0]
    monkeypatch.setattr(type(model.hf.model.layers[0].mlp), "forward", _halved)
    assert not torch.equal(wb.record(model, task, "resid_post", cache=tmp_path).clean["resid_post"][0], first)


def test_every_head_of_every_projection_is_in_the_sample() -> None:
    for family in FAMILIES:
        model = HookedLM(nudged(family))
        seen, d = {model.identity.current()}, model.d_head
        changes = 0
        for name, parameter in model.hf.named_parameters():
            if parameter.ndim != 2 or not any(word in name for word in ("attn", "attention")):
                continue
            for axis in (0, 1):
                for head in range(parameter.shape[axis] // d):
                    part = parameter.data.narrow(axis, head * d, d)
                    original = part.clone()
                    part.zero_()
                    seen.add(model.identity.current())
                    part.copy_(original)
                    changes += 1
        assert len(seen) == changes + 1, family


def test_the_same_weights_in_another_object_are_the_same_model(tmp_path: Path, forwards: list[int]) -> None:
    wb.record(HookedLM(nudged("gpt2")), paired(2), cache=tmp_path)
    del forwards[:]
    other = HookedLM(nudged("gpt2"))
    del forwards[:]
    wb.record(other, paired(2), cache=tmp_path)
    assert forwards == []


def test_nothing_is_cached_under_hooks_in_training_or_without_version_counters(tmp_path: Path) -> None:
    model, task = HookedLM(nudged("llama")), paired(2)
    store = store_of(tmp_path)
    assert store is not None
    hooks = [("blocks.0.attn.hook_z", lambda x, hook: x * 0)]
    for call in (wb.sweep, wb.record):
        for cache in (tmp_path, False):
            with model.hooks(fwd_hooks=hooks), pytest.raises(UsageError, match="do not apply them"):
                call(model, task, cache=cache)
    with model.hooks(fwd_hooks=hooks), pytest.raises(UsageError, match="edits="):
        wb.run(model, task, [])
    handle = model.hf.model.layers[1].register_forward_hook(lambda *_: None)
    with pytest.warns(CacheNotice, match=r"foreign hooks are active on model\.layers\.1"):
        wb.sweep(model, task, cache=tmp_path)
    handle.remove()
    model.hf.train()
    with pytest.warns(CacheNotice, match="training mode"):
        assert model.identity.current() is None
    with pytest.raises(UsageError, match="in training mode, where runs may differ"):
        wb.record(model, task, cache=tmp_path)
    model.hf.eval()
    assert store.index.counts() == {}
