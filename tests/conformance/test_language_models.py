"""What every family promises: Hugging Face's own numbers, hooks by TransformerLens's names, and nothing left behind."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.families import FAMILIES, VOCABULARY, nudged
from workbench.errors import HookError, UnknownName, UsageError
from workbench.models.language import HookedLM

IDS = torch.randint(0, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(1))
#: Gemma 2 caps its scores, which torch's own kernel cannot do.
WITHOUT_SDPA = {"gemma2"}
IMPLEMENTATIONS = [
    (f, kind) for f in FAMILIES for kind in ("sdpa", "eager") if kind == "eager" or f not in WITHOUT_SDPA
]
each_family = pytest.mark.parametrize("family", FAMILIES)
each_implementation = pytest.mark.parametrize(("family", "implementation"), IMPLEMENTATIONS)


def hooks_of(model: nn.Module) -> list[str]:
    """Modules that carry any forward hook."""
    return [name for name, part in model.named_modules() if part._forward_hooks or part._forward_pre_hooks]


def logits_of(model: nn.Module, ids: Tensor = IDS) -> Tensor:
    return model(ids, use_cache=False).logits


def nothing(x: Tensor, hook: object) -> None:
    """A hook that only reads."""


def zero(x: Tensor, hook: object) -> Any:
    return torch.zeros_like(x)


@each_implementation
def test_logits_are_bit_for_bit_those_of_a_separate_copy(family: str, implementation: str) -> None:
    copy, wrapped = nudged(family, implementation), nudged(family, implementation)
    expected, before = logits_of(copy), {name: value.clone() for name, value in copy.state_dict().items()}
    model = HookedLM(wrapped)
    assert torch.equal(model(IDS), expected)
    edited = model.run_with_hooks(IDS, fwd_hooks=[("blocks.1.attn.hook_pattern", zero)])
    assert (edited - expected).abs().max() > 1e-2
    assert torch.equal(model(IDS), expected)
    assert torch.equal(logits_of(wrapped), expected)
    assert wrapped.config._attn_implementation == copy.config._attn_implementation == implementation
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not hooks_of(wrapped)
    assert not any(part.training for part in (*model.modules(), *wrapped.modules()))
    assert all(part.training for part in HookedLM(nudged(family).train()).modules())


@each_implementation
def test_reading_changes_no_bit(family: str, implementation: str) -> None:
    """Everywhere but at scores and patterns, which fused attention never forms: those rows are computed explicitly."""
    expected = logits_of(nudged(family, implementation))
    model = HookedLM(nudged(family, implementation))
    for name in model.hook_dict:
        read = model.run_with_hooks(IDS, fwd_hooks=[(name, nothing)])
        if name.endswith(("hook_attn_scores", "hook_pattern")):
            assert torch.allclose(read, expected, atol=1e-5), name
        else:
            assert torch.equal(read, expected), name


@each_family
def test_every_hook_point_fires_in_the_shape_of_transformer_lens(family: str) -> None:
    model = HookedLM(nudged(family))
    logits, cache = model.run_with_cache(IDS)
    assert torch.allclose(logits, logits_of(nudged(family)), atol=1e-5)
    assert set(cache.keys()) == set(model.hook_dict)
    batch, length = IDS.shape
    for name in model.hook_dict:
        part = name.rsplit(".", 1)[-1]
        if part.endswith("scale"):
            shape = (batch, length, 1)
        elif part in ("hook_attn_scores", "hook_pattern"):
            shape = (batch, model.n_heads, length, length)
        elif part in ("hook_v", "hook_k", "hook_k_normed", "hook_rot_k"):
            shape = (batch, length, model.n_kv_heads, model.d_head)
        elif part in ("hook_q", "hook_q_normed", "hook_rot_q", "hook_z"):
            shape = (batch, length, model.n_heads, model.d_head)
        else:
            shape = (batch, length, model.d_model)
        assert cache[name].shape == shape, name


@each_family
def test_the_residual_stream_is_the_sum_of_its_parts(family: str) -> None:
    model = HookedLM(nudged(family))
    _, cache = model.run_with_cache(IDS)
    embedded = cache["hook_embed"] + (cache["hook_pos_embed"] if model.anatomy.position_embed else 0)
    assert torch.allclose(embedded, cache["resid_pre", 0], atol=1e-6)
    for layer in range(model.n_layers):
        mid = cache["resid_pre", layer] + cache["attn_out", layer]
        if not model.anatomy.parallel:
            assert torch.allclose(mid, cache["resid_mid", layer], atol=1e-6)
        assert torch.allclose(mid + cache["mlp_out", layer], cache["resid_post", layer], atol=1e-5)
        assert torch.allclose(cache["pattern", layer].sum(-1), torch.ones(()), atol=1e-5)
        assert torch.equal(cache["pattern", layer].triu(1), torch.zeros_like(cache["pattern", layer]))


@each_family
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_moves_nothing(family: str, side: str) -> None:
    model, copy = HookedLM(nudged(family)), nudged(family)
    short = IDS[1, :6]
    tokens = slice(3, 9) if side == "left" else slice(0, 6)
    ids, mask = torch.zeros_like(IDS), torch.zeros_like(IDS)
    ids[0], mask[0] = IDS[0], 1
    ids[1, tokens], mask[1, tokens] = short, 1
    plain = model(ids, attention_mask=mask)
    with_hook = model.run_with_hooks(ids, attention_mask=mask, fwd_hooks=[("blocks.1.attn.hook_pattern", nothing)])
    for logits in (plain, with_hook):
        assert torch.allclose(logits[0], logits_of(copy, IDS[:1])[0], atol=1e-4)
        assert torch.allclose(logits[1, tokens], logits_of(copy, short[None])[0], atol=1e-4)
        assert torch.isfinite(logits).all()


@each_family
def test_an_unknown_hook_is_refused_with_the_nearest_name(family: str) -> None:
    model = HookedLM(nudged(family))
    with pytest.raises(UnknownName, match=r"blocks\.1\.attn\.hook_z"):
        model.run_with_hooks(IDS, fwd_hooks=[("blocks.1.attn.hook_zz", nothing)])
    with pytest.raises(UnknownName, match="hook_result"):
        model.run_with_hooks(IDS, fwd_hooks=[("blocks.1.attn.hook_result", nothing)])
    with pytest.raises(UsageError, match="matches none"):
        model.run_with_hooks(IDS, fwd_hooks=[(lambda name: name == "blocks.77.attn.hook_z", nothing)])
    with pytest.raises(UnknownName, match="hook_z"):
        model.run_with_cache(IDS, names_filter="blocks.1.attn.hook_zz")
    with pytest.raises(UnknownName, match="hook_z"):
        model.run_with_cache(IDS, names_filter=["blocks.1.attn.hook_z", "blocks.1.attn.hook_zz"])
    with pytest.raises(UsageError, match="matches none"):
        model.run_with_cache(IDS, names_filter=lambda name: False)
    with pytest.raises(UsageError, match="expected the name of a site"):
        model.hook_name("result", 0)
    with pytest.raises(UsageError, match="expected a layer from 0 to 2"):
        model.hook_name("z", 3)
    assert torch.equal(model(IDS), logits_of(nudged(family)))


@each_family
def test_a_changed_shape_is_an_error_at_every_hook(family: str) -> None:
    model = HookedLM(nudged(family))
    for name in model.hook_dict:
        with pytest.raises(HookError, match="must keep the shape"):
            model.run_with_hooks(IDS, fwd_hooks=[(name, lambda x, hook: x[:, :1])])
    assert not hooks_of(model.hf)
    assert torch.equal(model(IDS), logits_of(nudged(family)))


@each_family
def test_what_an_exception_leaves_behind_is_nothing(family: str) -> None:
    model = HookedLM(nudged(family))
    before = model.hf.config._attn_implementation

    def fails(x: Tensor, hook: object) -> Tensor:
        raise ZeroDivisionError

    for name in model.hook_dict:
        with pytest.raises(ZeroDivisionError):
            model.run_with_hooks(IDS, fwd_hooks=[("blocks.0.attn.hook_z", nothing), (name, fails)])
        assert not hooks_of(model.hf), name
        assert not any(point.has_hooks() for point in model.hook_dict.values()), name
        assert model.hf.config._attn_implementation == before, name
    assert torch.equal(model(IDS), logits_of(nudged(family)))


def test_a_tap_that_never_fires_is_an_error() -> None:
    model = HookedLM(nudged("llama"))
    silent = {"blocks.2.hook_resid_post": lambda x: None}
    with pytest.raises(HookError, match=r"blocks\.2\.hook_resid_post"), model.running(silent):
        model.layer(0)
    assert not hooks_of(model.hf)


def test_contexts_nest() -> None:
    model, copy = HookedLM(nudged("llama")), nudged("llama")
    with model.hooks(fwd_hooks=[("blocks.0.attn.hook_z", zero)]):
        outer = model(IDS)
        with model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", zero)]):
            inner = model(IDS)
        assert torch.equal(model(IDS), outer)
    both = model.run_with_hooks(IDS, fwd_hooks=[("blocks.0.attn.hook_z", zero), ("blocks.1.attn.hook_z", zero)])
    assert torch.equal(inner, both)
    assert (inner - outer).abs().max() > 1e-2
    assert torch.equal(model(IDS), logits_of(copy))


def test_two_threads_get_what_one_gets() -> None:
    model = HookedLM(nudged("gemma3"))
    edits: list[list[Any]] = [[(f"blocks.{layer}.attn.hook_z", zero)] for layer in range(3)] + [[]]
    alone = [model.run_with_hooks(IDS, fwd_hooks=hooks) for hooks in edits]
    wrong: list[int] = []

    def work(indices: list[int]) -> None:
        for _ in range(15):
            for i in indices:
                logits = model.run_with_hooks(IDS, fwd_hooks=edits[i]) if edits[i] else model(IDS)
                if not torch.equal(logits, alone[i]):
                    wrong.append(i)

    threads = [threading.Thread(target=work, args=(indices,)) for indices in ([0, 3, 1], [2, 1, 3])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len({float(x.sum()) for x in alone}) == len(alone)
    assert not hooks_of(model.hf)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
def test_gradients_are_right_at_every_site(family: str) -> None:
    """Against central differences in double precision, which these families use throughout."""
    model = HookedLM(nudged(family, dtype=torch.float64).requires_grad_(True))
    _, cache = model.run_with_cache(IDS, return_type="loss", incl_bwd=True)
    for name in model.hook_dict:
        if name.endswith("attn_scores"):  # minus infinity where the mask hides
            continue
        gradient = cache[name + "_grad"]
        direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(5), dtype=gradient.dtype)

        def loss(step: float, name: str = name, direction: Tensor = direction) -> float:
            hook = (name, lambda x, hook: x + step * direction)
            with torch.no_grad():
                return float(model.run_with_hooks(IDS, return_type="loss", fwd_hooks=[hook]))

        expected = (loss(1e-6) - loss(-1e-6)) / 2e-6
        assert abs(expected) > 1e-6, name
        assert float((gradient * direction).sum()) == pytest.approx(expected, abs=1e-7, rel=1e-4), name


@each_family
def test_gradients_reach_every_site(family: str) -> None:
    model = HookedLM(nudged(family).requires_grad_(True))
    _, cache = model.run_with_cache(IDS, return_type="loss", incl_bwd=True)
    assert all(cache[name + "_grad"].abs().max() > 1e-6 for name in model.hook_dict)
    for layer in range(model.n_layers):
        if not model.anatomy.parallel:
            mid, attention = (cache[f"blocks.{layer}.hook_{site}_grad"] for site in ("resid_mid", "attn_out"))
            assert torch.allclose(mid, attention, atol=1e-6)


@each_implementation
def test_double_precision_loads_and_resumes(family: str, implementation: str) -> None:
    model = HookedLM(nudged(family, implementation, torch.float64))
    assert model.resumable
    assert model(IDS).dtype == torch.float64


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_half_precision_reads_every_site_too(family: str) -> None:
    model = HookedLM(nudged(family, dtype=torch.bfloat16))
    names = [name for name in model.hook_dict if not name.endswith(("hook_attn_scores", "hook_pattern"))]
    logits, cache = model.run_with_cache(IDS, names_filter=names)
    assert logits.dtype == torch.bfloat16
    assert torch.equal(logits, logits_of(nudged(family, dtype=torch.bfloat16)))
    assert set(cache.keys()) == set(names)
    assert model.run_with_cache(IDS)[0].dtype == torch.bfloat16
    assert cache["z", 0].dtype == torch.bfloat16


def test_loss_is_the_mean_over_tokens_that_are_there() -> None:
    model = HookedLM(nudged("llama"))
    logits, loss = model(IDS[:1], return_type="both")
    expected = nn.functional.cross_entropy(logits[0, :-1], IDS[0, 1:])
    assert loss == pytest.approx(float(expected), abs=1e-6)
    padded, mask = torch.zeros(1, 12, dtype=torch.long), torch.zeros(1, 12, dtype=torch.long)
    padded[0, 3:], mask[0, 3:] = IDS[0], 1
    assert float(model(padded, attention_mask=mask, return_type="loss")) == pytest.approx(float(expected), abs=1e-5)
    with pytest.raises(UsageError, match="return_type"):
        model(IDS, return_type="prose")
