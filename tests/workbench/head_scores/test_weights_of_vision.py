"""Scores of weights of vision models, in float64 by numpy from Hugging Face's parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BeitConfig,
    BeitModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    IJepaConfig,
    IJepaModel,
)

import workbench as wb
from tests.small_vit import SIDE, pictures, small_vit
from workbench.head_scores.absent import NO_UNEMBEDDING

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": 4,
}


def randomised(hf: Any) -> Any:
    """With gains and layer scales that differ from 1."""
    torch.manual_seed(1)
    for parameter in hf.parameters():
        torch.nn.init.normal_(parameter, 0.3, 0.4)
    return hf.eval()


def numpy_weights(model: Any, norm: str, scale: str = "") -> dict[str, list[np.ndarray]]:
    """Q, K, V ``[d_model, d_head]`` and O ``[d_head, d_model]`` of each head, with the norm's gain and centring,
    and what multiplies attention's output."""
    matrices: dict[str, list[np.ndarray]] = {name: [] for name in "QKVO"}
    layers = model.hf.get_submodule(model.anatomy.layers)
    for layer in layers:
        parameters = {name: x.detach().double().numpy() for name, x in layer.named_parameters()}
        gain = parameters[f"{norm}.weight"]
        names = list(parameters)
        d = len(gain) // model.n_heads
        for i in range(model.n_heads):
            own = slice(i * d, (i + 1) * d)
            for kind, ending in (("Q", ("query.weight", "q_proj.weight")), ("K", ("key.weight", "k_proj.weight"))):
                matrices[kind].append(folded(parameters[of(names, ending)][own], gain))
            matrices["V"].append(folded(parameters[of(names, ("value.weight", "v_proj.weight"))][own], gain))
            out = parameters[of(names, ("o_proj.weight", "out_proj.weight", "output.dense.weight"))][:, own].T
            matrices["O"].append(out * parameters[scale] if scale else out)
    return matrices


def of(names: list[str], endings: tuple[str, ...]) -> str:
    return next(name for name in names if name.endswith(endings) and name.startswith(("attention", "self_attn")))


def folded(weight: np.ndarray, gain: np.ndarray) -> np.ndarray:
    read = gain[:, None] * weight.T
    return read - read.mean(0)


#: Class, where its norm before attention is, and what multiplies attention's output.
FAMILIES: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "dinov2": (Dinov2Model, Dinov2Config, ("norm1", "layer_scale1.lambda1")),
    "dinov3": (DINOv3ViTModel, DINOv3ViTConfig, ("norm1", "layer_scale1.lambda1")),
    "ijepa": (IJepaModel, IJepaConfig, ("layernorm_before",)),
    "beit": (BeitModel, BeitConfig, ("layernorm_before", "lambda_1")),
    "clip": (CLIPVisionModel, CLIPVisionConfig, ("layer_norm1",)),
}


@pytest.mark.parametrize("name", ["digits-vit", *FAMILIES])
def test_norms_ranks_and_composition_are_numpys(name: str) -> None:
    if name == "digits-vit":
        model, places = wb.load(name), ("layernorm_before",)
        images = wb.images(list(wb.image_set("digits").test.pixels[:1, 0]))
    else:
        hf, config, places = FAMILIES[name]
        model = wb.HookedViT(randomised(hf(config(**SIZES, intermediate_size=64))), small_vit().processor)
        images = wb.images(pictures(1))
    scores = wb.scores(model, images, random_baseline=False, cache=False)
    w = numpy_weights(model, *places)
    heads = range(model.n_layers * model.n_heads)
    ov, qk = [w["V"][i] @ w["O"][i] for i in heads], [w["Q"][i] @ w["K"][i].T for i in heads]
    for kind, circuits in (("ov", ov), ("qk", qk)):
        squares = [np.linalg.svd(circuit, compute_uv=False) ** 2 for circuit in circuits]
        norms, ranks = [np.sqrt(s.sum()) for s in squares], [s.sum() ** 2 / (s**2).sum() for s in squares]
        np.testing.assert_allclose(scores[f"{kind}_norm"].ravel(), norms, rtol=1e-4)
        np.testing.assert_allclose(scores[f"{kind}_rank"].ravel(), ranks, rtol=1e-4)
    for kind, reads in (("q", qk), ("k", [circuit.T for circuit in qk]), ("v", ov)):
        for reader in heads:
            values = [
                np.linalg.norm(ov[writer] @ reads[reader]) / np.linalg.norm(ov[writer]) / np.linalg.norm(reads[reader])
                for writer in heads
                if writer // model.n_heads < reader // model.n_heads
            ]
            value = scores[f"{kind}_composition"].ravel()[reader]
            assert value == pytest.approx(max(values), rel=1e-4) if values else np.isnan(value)


def test_what_is_absent_is_said_and_random_weights_have_the_same_scores() -> None:
    scores = wb.scores(small_vit(), wb.images(pictures(2)), cache=False)
    assert scores.absent[NO_UNEMBEDDING] == ["copy_score"] and np.isnan(scores["copy_score"]).all()
    chance = scores.chance().set_index("score")
    assert np.isfinite(chance.loc[["ov_norm", "qk_rank", "v_composition"], "random"].to_numpy(dtype=float)).all()
    assert "copy_score" not in wb.scores_on(small_vit(), wb.images(pictures(2)), cache=False).names
