"""Metrics of classes on images, and metrics of features, against numpy on the untouched model's own outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from transformers import Dinov2Config, Dinov2Model

import workbench as wb
from tests.oracle.plain_hooks import edited
from tests.small_vit import NAMES, PATCH, SIDE, pictures, small_vit
from workbench.errors import UsageError

MODEL = small_vit()
PAIRS = wb.images(pictures(4), answer=["zebra", "lion", "owl", "crab"]).corrupted("relabel")
HEAD = (1, 2)


def encoder() -> wb.HookedViT:
    """A model without a classifier: its feature is the class token's."""
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=SIDE, patch_size=PATCH)
    hf = Dinov2Model(config).eval()
    for parameter in hf.parameters():
        parameter.data.mul_(3).add_(0.01)
    return wb.HookedViT(hf, MODEL.processor)


def plain_runs(model: wb.HookedViT, project: str, outputs: Any) -> tuple[np.ndarray, np.ndarray]:
    """The untouched model's outputs of the clean images, and of the clean images with z of one head zeroed."""
    pixels = model.processor(images=[clean for clean, _ in PAIRS.images()], return_tensors="pt")
    part = slice(HEAD[1] * model.d_head, (HEAD[1] + 1) * model.d_head)

    def zero(z: torch.Tensor) -> torch.Tensor:
        z = z.clone()
        z[..., part] = 0
        return z

    with torch.no_grad():
        clean = outputs(model.hf(**pixels))
        with edited((model.hf.get_submodule(project), "input", zero)):
            return clean.double().numpy(), outputs(model.hf(**pixels)).double().numpy()


def swept(model: wb.HookedViT, metric: Any) -> tuple[np.ndarray, np.ndarray]:
    """The metric of the unedited run and with that head zeroed."""
    sweep = wb.sweep(model, PAIRS if model is MODEL else unanswered(), edit="zero", metric=metric, cache=False)
    return sweep.base, sweep.values[HEAD]


def unanswered() -> wb.ImagePairs:
    return wb.images(pictures(4)).corrupted("swap")


def test_metrics_of_classes_work_on_images_as_they_stand() -> None:
    clean, zeroed = plain_runs(MODEL, "vit.layers.1.attention.o_proj", lambda output: output.logits)
    inputs, rows = PAIRS.inputs(MODEL), range(4)
    answer, wrong = ([ids[0] for ids in each] for each in (inputs.answer, inputs.wrong))
    assert [NAMES[i] for i in answer] == ["zebra", "lion", "owl", "crab"]
    expected = {
        "logit_difference": lambda x: x[rows, answer] - x[rows, wrong],
        "accuracy": lambda x: (x.argmax(1) == answer).astype(float),
        "accuracy_among_options": lambda x: (x[rows, answer] > x[rows, wrong]).astype(float),
        "answer_probability": lambda x: softmax(x, 1)[rows, answer],
        "answer_log_probability": lambda x: log_softmax(x, 1)[rows, answer],
        "kl_divergence": lambda x: (softmax(clean, 1) * (log_softmax(clean, 1) - log_softmax(x, 1))).sum(1),
    }
    for metric, of in expected.items():
        base, values = swept(MODEL, metric)
        np.testing.assert_allclose(base, of(clean), atol=1e-4)
        np.testing.assert_allclose(values, of(zeroed), atol=1e-4)
    margin = lambda logits, example: logits[:, example.answer[0]] - logits.mean(-1)  # noqa: E731 - a function of the user's
    np.testing.assert_allclose(swept(MODEL, margin)[1], zeroed[rows, answer] - zeroed.mean(1), atol=1e-4)


def test_metrics_of_features_compare_with_the_clean_image_or_a_given_vector() -> None:
    model = encoder()
    clean, zeroed = plain_runs(model, "encoder.layer.1.attention.o_proj", lambda output: output.last_hidden_state[:, 0])
    to = np.random.default_rng(0).normal(size=32)

    def cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)

    for metric, of in (
        ("feature_cosine", lambda x: cosine(x, clean)),
        ("feature_distance", lambda x: np.linalg.norm(x - clean, axis=1)),
        (wb.cosine_to(to), lambda x: cosine(x, to)),
        (wb.distance_to(list(to)), lambda x: np.linalg.norm(x - to, axis=1)),
    ):
        base, values = swept(model, metric)
        np.testing.assert_allclose(base, of(clean), atol=2e-5)
        np.testing.assert_allclose(values, of(zeroed), atol=2e-5)
    assert np.abs(zeroed - clean).max() > 1e-2


def test_an_outcome_of_images_names_classes_and_one_of_features_has_no_probabilities() -> None:
    edits = [wb.Edit("z", HEAD[0], head=HEAD[1], kind="zero")]
    outcome = wb.run(MODEL, PAIRS, edits, cache=False)
    _, zeroed = plain_runs(MODEL, "vit.layers.1.attention.o_proj", lambda output: output.logits)
    assert [row[0][0] for row in outcome.top(1)] == [NAMES[i] for i in zeroed.argmax(1)]
    assert set(outcome.table(5)["class"]) == set(NAMES)
    of_features = wb.run(encoder(), unanswered(), edits, cache=False)
    np.testing.assert_allclose(of_features.scores("feature_cosine"), swept(encoder(), "feature_cosine")[1], atol=1e-5)
    for call in (of_features.top, of_features.kl, of_features.table):
        with pytest.raises(UsageError, match=r"This model's outputs are features, which have no probabilities"):
            call()


def test_a_vector_of_the_users_own_is_in_no_key_and_so_not_cached(tmp_path: Path) -> None:
    model = encoder()
    first, second = (
        wb.sweep(model, unanswered(), edit="zero", metric=wb.distance_to(np.full(32, x)), cache=tmp_path).values
        for x in (0.0, 5.0)
    )
    assert np.abs(first - second).min() > 1


@pytest.mark.parametrize(
    ("model", "metric", "message"),
    [
        (encoder, "logit_difference", r"metric='logit_difference': .*reads features.*Use 'feature_cosine' or"),
        (small_vit, "feature_cosine", r"metric='feature_cosine': expected a metric that reads logits"),
        (encoder, wb.cosine_to([1.0, 2.0]), r"vector=.*expected 32 numbers, as many as the model's feature has"),
    ],
)
def test_a_metric_that_does_not_fit_the_model_is_refused(model: Any, metric: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        wb.sweep(model(), unanswered(), edit="zero", metric=metric, cache=False)


@pytest.mark.parametrize("vector", [[], [[1.0]], ["a"], [float("nan")], None, [0.0, 0.0]])
def test_what_is_no_vector_is_refused(vector: Any) -> None:
    with pytest.raises(UsageError, match=r"^vector="):
        wb.cosine_to(vector)
