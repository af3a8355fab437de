"""What the explorer shows of a prompt, against Hugging Face and against the scores on repeated tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from app import pattern
from app.look import Look
from tests.families import VOCABULARY, hooked
from workbench.head_scores import patterns
from workbench.head_scores.on_prompt import earlier, prompt_scores, uniform_prompt_scores

TEXT = "When Mary and John went to the store, John gave a drink to"


def look(text: str = TEXT) -> Look:
    model = wb.load("tiny")
    return Look(model, model.to_tokens(text)[0].tolist(), cache=False)


def test_on_repeated_tokens_a_prompts_scores_are_the_tables() -> None:
    draw, period = torch.Generator().manual_seed(0), 12
    ids = torch.randperm(VOCABULARY, generator=draw)[:period].repeat(2)
    A = torch.rand(2, 3, 2 * period, 2 * period, generator=draw).tril()
    A /= A.sum(-1, keepdim=True)
    found = prompt_scores(A, ids)
    for name, score in patterns.PATTERN_SCORES.items():
        torch.testing.assert_close(found[name], score(A, period))


def test_scores_of_tokens_that_occur_once_are_nan_and_others_are_means() -> None:
    ids = torch.tensor([5, 6, 5, 7, 5])
    assert earlier(ids).nonzero().tolist() == [[2, 0], [4, 0], [4, 2]]
    A = torch.arange(25.0).reshape(5, 5)
    found = prompt_scores(A, ids)
    assert found["duplicate_token"] == pytest.approx((A[2, 0] + A[4, 0] + A[4, 2]) / 2)
    assert found["induction"] == pytest.approx((A[2, 1] + A[4, 1] + A[4, 3]) / 2)
    assert np.isnan(uniform_prompt_scores(torch.tensor([1, 2, 3]))["induction"])


def test_pattern_and_next_tokens_are_hugging_faces() -> None:
    seen = look()
    model = wb.load("tiny")
    model.hf.set_attn_implementation("eager")
    theirs = model.hf(seen.ids[None], output_attentions=True)
    np.testing.assert_allclose(seen.pattern(wb.Head(1, 2)), theirs.attentions[1][0, 2].detach(), atol=1e-5)
    chances = theirs.logits[0, -1].softmax(-1)
    for token in seen.next_tokens(3):
        assert token.probability == pytest.approx(float(chances[token.id]), abs=1e-5)
    assert [t.id for t in seen.next_tokens(3)] == chances.topk(3).indices.tolist()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_attribution_and_writing_add_up_to_the_logits(family: str) -> None:
    """Heads, MLPs and the embedding, each straight through the final norm, sum to the logit difference."""
    model = hooked(family)
    monkey = pytest.MonkeyPatch()
    monkey.setattr(type(model), "to_str_tokens", lambda self, ids: [str(int(i)) for i in ids])
    seen = Look(model, list(range(3, 12)), cache=False)
    monkey.undo()
    weighted = seen.value_weighted(wb.Head(2, 4))
    assert weighted.shape == (9, 9) and (weighted >= 0).all() and weighted.max() > 0
    if family == "llama":  # no norm behind the attention: the layer's output is the sum of its heads'
        out = wb.record(model, _inputs(seen), ["attn_out"], 1, cache=False).clean["attn_out"][0][0]
        torch.testing.assert_close(sum(seen.written(wb.Head(1, j)) for j in range(6)), out[-1], atol=1e-4, rtol=1e-4)


def test_similarity_is_a_cosine_and_blank_for_the_head_itself() -> None:
    seen = look()
    similar = seen.similar(wb.Head(0, 1))
    assert np.isnan(similar[0, 1]) and np.nanmax(np.abs(similar)) <= 1 + 1e-6
    assert similar[1, 2] == pytest.approx(seen.similar(wb.Head(1, 2))[0, 1], abs=1e-6)


def test_long_patterns_are_pooled_and_shown_in_blocks() -> None:
    n = 600
    A = np.zeros((n, n))
    A[599, 3], A[300, 299] = 0.5, -0.9
    words: dict[str, Any] = {"title": "t", "scale": "attention"}
    whole = pattern.shown(A, ["x"] * n, **words)
    assert whole.arrays[0].shape == (300, 300) and whole.arrays[0][299, 1] == 0.5 and whole.arrays[0][150, 149] == -0.9
    assert "the largest of 2 × 2" in whole.words["subtitle"]
    assert pattern.blocks(n) == ["0 to 255", "256 to 511", "512 to 599"] and pattern.blocks(512) == []
    part = pattern.shown(A, ["x"] * n, block=1, **words)
    assert part.arrays[0].shape == (256, 256) and part.arrays[0][44, 43] == -0.9 and part.labels[0][44] == "300 x"


def test_downloads_hold_what_is_shown() -> None:
    shown = pattern.shown(np.array([[1.0, 0.0], [0.25, 0.75]]), ["a", " b"], title="t", scale="attention")
    assert shown.csv().decode().splitlines() == [",0 a,1 ·b", "0 a,1.0,0.0", "1 ·b,0.25,0.75"]
    assert b'"values": [[1.0, 0.0], [0.25, 0.75]]' in shown.json()
    assert shown.still("png").startswith(b"\x89PNG") and b"<svg" in shown.still("svg")


def _inputs(seen: Look) -> wb.PairedInputs:
    none: tuple[tuple[int, ...], ...] = ((),)
    return wb.PairedInputs("x", (seen.ids,), (seen.ids,), none, none, none, ({"end": len(seen) - 1},))
