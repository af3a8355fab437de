"""Scores that are computed in the forward, against patterns of Hugging Face's eager attention and TransformerLens."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import PreTrainedTokenizerFast

import workbench as wb
from app.heads.prompt_record import PromptRecord
from app.heads.streamed_recording import StreamedRecording
from tests.families import VOCABULARY, nudged
from tests.families.configurations import NAMED
from tests.families.subject import Subject
from tests.oracle.test_against_transformer_lens import tokenizer
from workbench.attention.statistics import Requested, pattern_statistics, value_output_norms
from workbench.cache import Store
from workbench.head_scores import on_prompt, patterns
from workbench.models.in_forward import each_layer, of_each_layer
from workbench.models.language import HookedLM
from workbench.patching.cached_recording import CachedRecording
from workbench.patching.resolve import model_identity, resolve_model

#: Grouped heads, windows, caps, sinks, attention to later positions; and layers whose pattern takes more than q and k.
WITH_FORMULA = (
    *("llama", "gpt2", "gpt_neox", "mistral_w10", "qwen2_w10", "gemma2_w10", "gemma3_w10", "gpt_oss", "llama_bidir"),
)
WITHOUT_FORMULA = ("llama4_chunk10", "gemma3_bidir", "deepseek_v32_topk10")
NAMES = tuple(patterns.PATTERN_SCORES)


def ids_of(length: int, kinds: int = 12) -> Tensor:
    """Tokens of which many occur again."""
    return torch.randint(3, 3 + kinds, (length,), generator=torch.Generator().manual_seed(length))


def eager_patterns(subject: Subject, ids: Tensor) -> Tensor:
    """``[layer, head, dest, src]`` of the model file's eager attention."""
    return torch.stack([A.double().transpose(0, 1) for A in subject.plain.read(ids, "pattern", *subject.plain.layers)])


@pytest.mark.parametrize("name", [*WITH_FORMULA, *WITHOUT_FORMULA])
def test_scores_of_a_prompt_are_those_of_eager_patterns(name: str) -> None:
    subject = Subject(NAMED[name])
    model, ids = subject.model, ids_of(33)
    formulas: list[Any] = []
    each_layer(model, ids[None], lambda *layer: formulas.append(layer[-1]))
    assert len(formulas) == model.n_layers
    assert all(formulas) == (name in WITH_FORMULA)
    matches = on_prompt.token_matches(ids)
    scores = of_each_layer(
        model,
        ids[None],
        on_prompt.required_statistics(matches),
        lambda statistics: {x: y[0] for x, y in on_prompt.scores_of(statistics, matches).items()},
        lambda A: on_prompt.prompt_scores(A[0], ids),
    )
    oracle = on_prompt.prompt_scores(eager_patterns(subject, ids), ids)
    for score in NAMES:
        own = torch.stack([layer[score] for layer in scores])
        torch.testing.assert_close(own.double(), oracle[score], atol=1e-5, rtol=1e-5, msg=f"{name} {score}")
    assert float(oracle["induction"].std()) > 1e-3 and float(oracle["entropy"].std()) > 1e-3


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_statistic_is_that_of_transformer_lenss_patterns(family: str, tmp_path: Any) -> None:
    tokenizer().save_pretrained(tmp_path)  # TransformerLens needs one that was loaded
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hf = nudged(family, "eager")
        bridge = TransformerBridge.boot_transformers(f"tiny-{family}", hf_model=hf, tokenizer=loaded)
    model, ids = HookedLM(nudged(family), tokenizer()), ids_of(40)
    _, cache = bridge.run_with_cache(ids[None])
    requested = Requested(entropy=True, distance=True, received=True, sources=(0,), offsets=(1, 3), top=2)
    position, seen = torch.arange(40), []

    def see(layer: int, q: Tensor, k: Tensor, v: Tensor, formula: Any) -> None:
        A, value = cache["pattern", layer].double(), cache["v", layer].double()
        W_O = model.blocks[layer].attn.W_O
        norms = value_output_norms(v, W_O)
        own = pattern_statistics(q, k, formula, requested, v=v, value_norms=norms)
        written = value.repeat_interleave(A.shape[1] // value.shape[2], 2).transpose(1, 2) @ W_O.double()
        expected = {
            "entropy": torch.special.entr(A).sum(-1),
            "distance": (A * (position[:, None] - position)).sum(-1),
            "received": A.sum(-2),
            "at_sources": A[..., :1].mT,
            "z": cache["z", layer].double().transpose(1, 2),
            "value_weighted": (A * written.norm(dim=-1)[:, :, None]).sum(-1),
            "top_weights": A.topk(2, -1).values,
        }
        for name, value in expected.items():
            torch.testing.assert_close(getattr(own, name).double(), value, atol=1e-4, rtol=1e-4, msg=name)
        for i, offset in enumerate(requested.offsets):
            assert own.at_offsets is not None
            diagonal = A.diagonal(-offset, -2, -1)
            torch.testing.assert_close(own.at_offsets[:, :, i, offset:].double(), diagonal, atol=1e-5, rtol=0)
        seen.append(layer)

    each_layer(model, ids[None], see)
    assert seen == list(range(model.n_layers))


def test_scores_on_repeated_tokens_are_those_of_eager_patterns() -> None:
    subject = Subject(NAMED["gemma2_w10"])
    period, model = 15, subject.model
    ids = torch.cat([ids_of(1), *[torch.randperm(90, generator=torch.Generator().manual_seed(1))[:period]] * 2])
    requested = patterns.required_statistics(period, pooled=len(ids))
    by_layer = of_each_layer(
        model,
        torch.stack([ids, ids.flip(0)]),
        requested,
        lambda statistics: (patterns.scores_of(statistics, period), statistics.pooled),
        lambda A: pytest.fail("these layers have a formula"),
    )
    for row, tokens in enumerate((ids, ids.flip(0))):
        A = eager_patterns(subject, tokens)
        for layer, (scores, maps) in enumerate(by_layer):
            assert maps is not None
            torch.testing.assert_close(maps[row].double(), A[layer], atol=1e-5, rtol=0)
            for name, score in patterns.PATTERN_SCORES.items():
                torch.testing.assert_close(scores[name][row].double(), score(A[layer], period), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt_oss", "llama4_chunk10"])
def test_a_first_look_has_the_scores_of_eager_patterns(name: str, tmp_path: Any) -> None:
    subject, ids = Subject(NAMED[name]), ids_of(30)
    model = HookedLM(subject.model.hf, tokenizer())
    A = eager_patterns(subject, ids)
    record = PromptRecord(model, ids.tolist(), cache=tmp_path)
    for score, values in on_prompt.prompt_scores(A, ids).items():
        torch.testing.assert_close(torch.tensor(record.scores[score]).double(), values, atol=1e-5, rtol=1e-5)
    flat = patterns.centred(A.flatten(0, 1), skip=0)
    cosines = (flat @ flat.T)[1].numpy().reshape(model.n_layers, model.n_heads)
    own = record.similarity(wb.Head(0, 1))
    assert float(abs(own - cosines)[own == own].max()) < 1e-5
    for layer in range(model.n_layers):
        torch.testing.assert_close(
            torch.tensor(record.pattern(wb.Head(layer, 3))).double(), A[layer, 3], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("part", [0, 2**25])
@pytest.mark.parametrize("name", ["llama", "llama4_chunk10"])
def test_what_is_stored_on_the_way_is_what_a_recording_stores(
    name: str, part: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.heads.streamed_recording.PART", part)
    model, ids = Subject(NAMED[name]).model, ids_of(30)
    resumable, layers = resolve_model(model), range(model.n_layers)
    hooks = [model.hook_name(site, i) for site in ("pattern", "v", "z") for i in layers]
    stores = [Store(tmp_path / each) for each in ("streamed", "whole")]
    identity = model_identity(resumable, stores[0])
    assert identity is not None
    seen: list[int] = []
    reached: list[int] = []
    streamed = StreamedRecording(
        model, resumable, stores[0], identity, ids, hooks, lambda layer, *_: seen.append(layer), reached.append, {}
    )
    streamed.fill()
    whole = CachedRecording(resumable, stores[1], identity, [ids], hooks)
    whole.fill(lambda _: None)
    assert seen == reached == list(layers)
    for own, other in zip(streamed.read(hooks, 0), whole.read(hooks, 0), strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-5)
    again = CachedRecording(resumable, stores[0], identity, [ids], hooks)
    assert again.has([0])
    streamed.fill()
    assert seen == list(layers)  # nothing ran again


def test_a_disk_that_is_full_costs_nothing_but_memory(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.heads.streamed_recording.PART", 0)
    subject, ids = Subject(NAMED["llama"]), ids_of(30)
    model = HookedLM(subject.model.hf, tokenizer())
    monkeypatch.setattr(Store, "put", lambda *_: False)
    record = PromptRecord(model, ids.tolist(), cache=tmp_path)
    A = eager_patterns(subject, ids)
    torch.testing.assert_close(torch.tensor(record.pattern(wb.Head(1, 3))).double(), A[1, 3], atol=1e-5, rtol=0)
    sinks = on_prompt.prompt_scores(A, ids)["sink"]
    torch.testing.assert_close(torch.tensor(record.scores["sink"]).double(), sinks, atol=1e-5, rtol=0)


@pytest.mark.parametrize("operator", ["sliding-window(window=4)", "uniform"])
def test_layers_with_another_operator_are_scored_by_that_ones_matrix(operator: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the operator drops
        model = wb.swap(HookedLM(nudged("llama"), tokenizer()), {1: operator}, cache=False)
    ids = ids_of(30)
    A = torch.stack([model.run_with_cache(ids[None])[1]["pattern", layer][0] for layer in range(model.n_layers)])
    record = PromptRecord(model, ids.tolist(), cache=False)
    scores = on_prompt.prompt_scores(A, ids)
    for name in NAMES:
        torch.testing.assert_close(torch.tensor(record.scores[name]), scores[name], atol=1e-4, rtol=1e-4, msg=name)
    plain = PromptRecord(HookedLM(nudged("llama"), tokenizer()), ids.tolist(), cache=False)
    assert abs(plain.scores["locality"][1] - record.scores["locality"][1]).max() > 0.01
    assert abs(plain.scores["locality"][0] - record.scores["locality"][0]).max() < 1e-5


def test_half_precision_is_scored_in_float32() -> None:
    """A bfloat16 pattern has two digits: the scores are those of the softmax of the model's q and k in float64."""
    model, ids = HookedLM(nudged("llama", dtype=torch.bfloat16), tokenizer()), ids_of(60)
    requested, seen = replace(on_prompt.required_statistics({}), received=True), 0

    def see(layer: int, q: Tensor, k: Tensor, v: Tensor, formula: Any) -> None:
        nonlocal seen
        own = pattern_statistics(q, k, formula, requested)
        scores = formula.scale * q.double() @ k.double().repeat_interleave(q.shape[1] // k.shape[1], 1).mT
        A = scores.masked_fill(torch.ones(60, 60, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)
        assert own.entropy is not None and own.received is not None
        torch.testing.assert_close(own.entropy.double(), torch.special.entr(A).sum(-1), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(own.received.double(), A.sum(-2), atol=1e-5, rtol=1e-5)
        seen += 1

    each_layer(model, ids[None], see)
    assert seen == model.n_layers and ids.max() < VOCABULARY
