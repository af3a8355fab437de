"""Head scores of images against numpy on the patterns that the untouched eager model itself returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

import workbench as wb
from tests.small_vit import PATCH, SIDE, pictures, small_vit
from workbench.core import Head
from workbench.errors import UsageError
from workbench.head_scores import on_images
from workbench.head_scores.image_patterns import Layout, scores_of, uniform_scores

GRID = SIDE // PATCH
IMAGES = wb.images(pictures(3), name="zoo")


def with_registers(attention: str = "sdpa") -> wb.HookedViT:
    torch.manual_seed(0)
    config = Dinov2WithRegistersConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        num_register_tokens=3,
    )
    config._attn_implementation = attention
    hf = Dinov2WithRegistersModel(config).eval()
    for parameter in hf.parameters():
        parameter.data.mul_(3).add_(0.01)
    processor = ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})
    return wb.HookedViT(hf, processor)


MODELS = {"vit": small_vit, "registers": with_registers}


def plain_patterns(kind: str) -> np.ndarray:
    """``[image, layer, head, dest, src]`` of an eager model without hooks."""
    model = MODELS[kind](attention="eager")
    pixels = model.processor(images=pictures(3), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        attentions = model.hf(pixel_values=pixels, output_attentions=True).attentions
    return torch.stack(attentions, 1).double().numpy()


def numpy_scores(A: np.ndarray, n_added: int) -> dict[str, np.ndarray]:
    """The definitions, patch by patch."""
    places = [(row, column) for row in range(GRID) for column in range(GRID)]
    weighted = np.zeros((*A.shape[:3], len(places)))
    for q, (r, c) in enumerate(places):
        far = np.array([np.hypot(r - row, c - column) for row, column in places])
        row = A[..., n_added + q, n_added:]
        weighted[..., q] = (row @ far) / row.sum(-1)
    scores = {
        "entropy": -(A * np.log(A)).sum(-1).mean(-1),
        "distance": weighted.mean(-1),
        "to_cls": A[..., 0].mean(-1),
        "to_self": np.einsum("...qq->...q", A).mean(-1),
    }
    return scores | ({"to_registers": A[..., 1:n_added].sum(-1).mean(-1)} if n_added > 1 else {})


@pytest.mark.parametrize(("kind", "n_added"), [("vit", 1), ("registers", 4)])
def test_scores_equal_numpy_on_the_models_own_patterns(kind: str, n_added: int) -> None:
    model, A = MODELS[kind](), plain_patterns(kind)
    scores, expected = wb.scores_on(model, IMAGES, cache=False), numpy_scores(A, n_added)
    for name, of_images in expected.items():
        np.testing.assert_allclose(scores.samples[name], of_images, atol=1e-5)
        np.testing.assert_allclose(scores[name], of_images.mean(0), atol=1e-5)
        assert of_images.mean(0).std() > 1e-3  # heads differ
    flat = (A - 1 / A.shape[-1]).reshape(3, -1, A.shape[-1] ** 2)
    cosines = np.mean([np.corrcoef(rows) for rows in flat], 0)  # a pattern's mean is 1 / N, so this is the cosine
    np.fill_diagonal(cosines, -np.inf)
    np.testing.assert_allclose(scores["similarity"].ravel(), cosines.max(1), atol=1e-5)
    assert scores.names == ("entropy", "distance", "to_cls", "to_registers", "to_self", "similarity")
    assert scores.positions["distance"] == 3 * GRID**2 and scores.positions["entropy"] == 3 * A.shape[-1]


def test_what_a_model_does_not_add_is_absent_with_the_reason() -> None:
    scores = wb.scores_on(small_vit(), IMAGES, cache=False)
    assert np.isnan(scores["to_registers"]).all() and scores.absent == {"the model has no registers.": ["to_registers"]}
    assert scores.without_value("to_registers") == {
        "the model has no registers.": [Head(i, j) for i in range(3) for j in range(4)]
    }


def test_patterns_are_compared_alike_in_one_run_and_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_vit()
    one = wb.scores_on(model, IMAGES, cache=False)
    monkeypatch.setattr(on_images, "HELD", 1)  # one layer at a time
    several = wb.scores_on(model, IMAGES, cache=False)
    for name in ("entropy", "similarity"):
        assert np.isfinite(one[name]).all()
        np.testing.assert_allclose(several[name], one[name], atol=1e-6)
    np.testing.assert_allclose(several.pairs["similarity"], one.pairs["similarity"], atol=1e-6)


@pytest.mark.parametrize("added", [(), ("cls",), ("cls", "register 0", "register 1"), ("cls", "distillation")])
def test_chance_levels_are_the_scores_of_uniform_attention(added: tuple[str, ...]) -> None:
    layout = Layout(added, 3, 5)
    A = torch.full((layout.length, layout.length), 1 / layout.length, dtype=torch.float64)
    levels = uniform_scores(layout)
    assert list(levels) == list(scores_of(A, layout))
    for name, score in scores_of(A, layout).items():
        assert levels[name] == pytest.approx(float(score), abs=1e-12)
    assert ("to_cls" in levels) == ("cls" in added)


def test_a_head_that_looks_at_itself_has_no_distance_and_the_next_patch_is_at_one() -> None:
    layout = Layout(("cls",), 2, 3)
    scores = scores_of(torch.eye(7), layout)
    assert scores["distance"] == 0 and scores["to_self"] == 1 and scores["entropy"] == 0
    blind = torch.eye(7)
    blind[1] = torch.tensor([1.0, 0, 0, 0, 0, 0, 0])  # the first patch looks at CLS alone
    assert scores_of(blind, layout)["distance"] == 0
    blind[1:] = blind[1]
    assert scores_of(blind, layout)["distance"].isnan()
    away = torch.eye(7)
    away[1:] = away[[2, 1, 2, 5, 4, 5]]  # each patch looks at a neighbour in its row
    assert scores_of(away, layout)["distance"] == 1


def test_scores_of_a_model_come_with_those_of_random_weights(tmp_path: Path) -> None:
    model = small_vit()
    scores = wb.scores(model, IMAGES, cache=tmp_path)
    assert set(scores.random) >= {"entropy", "distance", "to_cls", "to_self", "similarity"}
    # Small weights attend nearly uniformly, but not quite.
    assert abs(scores.random["entropy"].mean() - np.log(17)) < 1e-2 < abs(scores["entropy"].mean() - np.log(17))
    level, what = scores.chance_level("similarity")
    assert what == "random weights, the mean of all heads" and -1 < float(np.asarray(level)) < 1
    again = wb.scores(model, IMAGES, cache=tmp_path)
    assert all(np.array_equal(again[name], scores[name], equal_nan=True) for name in scores.names)
    other = wb.scores(model, IMAGES, seed=1, cache=tmp_path)
    assert not np.array_equal(other.random["entropy"], scores.random["entropy"])
    assert not wb.scores(model, IMAGES, random_baseline=False, cache=tmp_path).random


def test_the_result_is_shown_saved_and_read_as_others_are(tmp_path: Path) -> None:
    scores = wb.scores_on(small_vit(), IMAGES, cache=False)
    scores.save(tmp_path / "scores.safetensors")
    again = wb.HeadScores.load(tmp_path / "scores.safetensors")
    assert np.array_equal(again["distance"], scores["distance"])
    assert "entropy" in scores._repr_html_() and scores.json()["info"]["patches"] == [GRID, GRID]
    assert scores.ranking("distance", k=2).columns.tolist() == [
        *("rank", "head", "value", "low", "high", "chance", "positions"),
    ]
    chance = dict(zip(scores.chance()["score"], scores.chance()["uniform"], strict=True))
    assert chance["to_cls"] == pytest.approx(1 / 17) and chance["entropy"] == pytest.approx(np.log(17))


def test_layers_whose_operator_has_no_shares_are_left_out() -> None:
    model = wb.swap(small_vit(), {1: "reversed"})
    scores = wb.scores_on(model, IMAGES, cache=False)
    without = np.isnan(scores["entropy"]).all(1)
    assert without.tolist() == [False, True, False]
    (reason,) = scores.without_value("to_self")
    assert reason.startswith("reversed") and np.isnan(np.asarray(scores.uniform["entropy"])[1]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: wb.scores_on(model, "a text"), "prompts='a text': expected images"),
        (lambda model: wb.scores(model), "task=None: expected images"),
        (lambda model: wb.scores(model, IMAGES, seed=-1), "seed=-1: expected"),
    ],
)
def test_what_cannot_be_scored_is_refused(call: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call(small_vit())
