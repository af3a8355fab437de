"""Scores on a task's own prompts, against the patterns of Hugging Face's model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.errors import UsageError
from workbench.patching.resolve import resolve_inputs


@pytest.fixture(scope="module")
def model() -> wb.HookedLM:
    return wb.load("tiny")


@torch.no_grad()
def patterns(model: wb.HookedLM, text: str) -> tuple[list[int], np.ndarray]:
    """The ids, and ``[layer, head, dest, src]`` of Hugging Face's eager attention."""
    ids = model.tokenizer(text, return_tensors="pt").input_ids
    plain = type(model.hf)._from_config(model.hf.config, attn_implementation="eager")
    plain.load_state_dict(model.hf.state_dict())
    result = plain.eval()(ids, output_attentions=True).attentions
    return ids[0].tolist(), torch.cat(result).numpy()


def test_they_are_means_over_the_prompts_of_hugging_faces_patterns(model: wb.HookedLM, tmp_path: Path) -> None:
    task = wb.task("ioi", n=5, seed=1)
    calls: list[tuple[int, int]] = []
    result = wb.scores_on(model, task, cache=tmp_path, progress=lambda done, total, _: calls.append((done, total)))
    previous, duplicate, induction, sink = [], [], [], []
    counted = {"previous_token": 0, "duplicate_token": 0, "induction": 0, "sink": 0}
    for clean, _ in resolve_inputs(task, model).texts:
        ids, A = patterns(model, clean)
        again = [(q, k) for q in range(len(ids)) for k in range(q) if ids[q] == ids[k]]
        previous.append(np.mean([A[:, :, q, q - 1] for q in range(1, len(ids))], axis=0))
        sink.append(A[..., 0].mean(-1))
        later = [(q, k + 1) for q, k in again if k + 1 < q]
        for name, scores, pairs in (("duplicate_token", duplicate, again), ("induction", induction, later)):
            others = {k: [A[:, :, o, k] for o in range(k + 1, len(ids)) if (o, k) not in pairs] for _, k in pairs}
            beyond = [(q, A[:, :, q, k] - np.mean(others[k], axis=0)) for q, k in pairs if others[k]]
            rows = {q for q, _ in beyond}
            scores.append(sum(value for _, value in beyond) / len(rows))
            counted[name] += len(rows)
        counted["previous_token"] += len(ids) - 1
        counted["sink"] += len(ids)
    expected = {"previous_token": previous, "duplicate_token": duplicate, "induction": induction, "sink": sink}
    for name, each in expected.items():
        np.testing.assert_allclose(result.samples[name], np.stack(each), atol=1e-5, err_msg=name)
        np.testing.assert_allclose(result[name], np.mean(each, axis=0), atol=1e-5, err_msg=name)
        low, high = result.interval(name)
        assert (low <= result[name] + 1e-12).all() and (result[name] <= high + 1e-12).all() and (low < high).any()
        assert result.positions[name] == counted[name]
        assert set(result.table()[f"{name}_positions"]) == {counted[name]}
    assert result.chance().set_index("score")["positions"].dropna().to_dict() == result.info["positions"]
    assert result.positions["direct_logit_attribution"] == 5  # the last one of each prompt
    heads = result.json()["tables"]["heads"] if "tables" in result.json() else result.json()["heads"]
    assert heads[0]["induction_positions"] == counted["induction"]
    assert calls[-1] == (5, 5) and result.info["task"] == "ioi" and result.info["n"] == 5
    again = wb.scores_on(model, task, cache=False)
    np.testing.assert_allclose(again["entropy"], result["entropy"], atol=1e-5)


def test_attribution_and_its_chance_are_those_of_the_task(model: wb.HookedLM, tmp_path: Path) -> None:
    task = wb.task("ioi", n=4, seed=0)
    result, whole = (make(model, task, cache=False) for make in (wb.scores_on, wb.scores))
    name = "direct_logit_attribution"
    np.testing.assert_allclose(result.samples[name], whole.samples[name], atol=1e-5)
    np.testing.assert_allclose(result.uniform[name], whole.uniform[name], atol=1e-5)
    assert result.lens.equals(whole.lens) and "random" in result.chance()
    result.save(tmp_path / "s.safetensors")
    assert wb.HeadScores.load(tmp_path / "s.safetensors").table().equals(result.table())
    assert "n = 4" in str(result.figure("sink").to_dict()["layout"]["title"]["subtitle"]["text"])


def test_prompts_that_repeat_nothing_have_no_duplicate_score(model: wb.HookedLM) -> None:
    once, twice, other = "Mary went to the", "John to to the", "John went to the"
    pairs = wb.pairs(clean=[once, twice, twice], corrupt=[other] * 3, answer=[" Paul"] * 3, wrong=[" Anna"] * 3)
    ids = [model.to_tokens(text)[0].tolist() for text in (once, twice)]
    assert len(set(ids[0])) == len(ids[0]) and len(set(ids[1])) < len(ids[1])
    result = wb.scores_on(model, pairs, cache=False)
    assert len(result.samples["duplicate_token"]) == 2 and len(result.samples["sink"]) == 3
    assert np.isfinite(result["duplicate_token"]).all()
    lone = wb.scores_on(model, wb.pairs(clean=[once], corrupt=[other], answer=[" Paul"], wrong=[" Anna"]), cache=False)
    assert np.isnan(lone["duplicate_token"]).all() and "duplicate_token" not in lone.samples


def test_a_text_has_the_scores_of_patterns(model: wb.HookedLM) -> None:
    text = "Mary and John and Mary and John and Mary"
    result = wb.scores_on(model, text, cache=False)
    ids, A = patterns(model, text)
    np.testing.assert_allclose(result["sink"], A[..., 0].mean(-1), atol=1e-5)
    assert result.positions["sink"] == len(ids) and "direct_logit_attribution" not in result.positions
    (reason,) = result.absent
    assert "no answers" in reason and result.absent[reason] == ["direct_logit_attribution", "logit_lens"]
    both = wb.scores_on(model, [text, "Paul and Anna and Paul and"], cache=False)
    assert len(both.samples["induction"]) == 2 and both.info["n"] == 2
    np.testing.assert_allclose(both.samples["induction"][0], result["induction"], atol=1e-6)


def test_prompts_of_which_some_have_answers_are_refused(model: wb.HookedLM) -> None:
    ids = (torch.tensor([5, 6, 7]), torch.tensor([5, 6, 8]))
    some = wb.PairedInputs("mine", ids, ids, answer=((5,), ()), wrong=((6,), ()))
    with pytest.raises(UsageError, match="with answers"):
        wb.scores_on(model, some, cache=False)
    with pytest.raises(UsageError, match="language model"):
        wb.scores_on(object(), wb.task("ioi", n=1))
