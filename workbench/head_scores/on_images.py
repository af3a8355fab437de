"""Scores of every head on images: of one model, or beside its own architecture with random weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from workbench import arguments
from workbench.cache import Store, store_of
from workbench.cache.keys import digest
from workbench.cache.result_cache import ResultCache
from workbench.errors import UsageError
from workbench.head_scores import of_weights, weights
from workbench.head_scores.absent import OF_WEIGHTS, why_no_image_score, why_no_weight_score
from workbench.head_scores.image_patterns import (
    NAMES,
    VERSION,
    Layout,
    centred,
    counted_positions,
    scores_of,
    uniform_scores,
)
from workbench.head_scores.of_weights import weight_arrays, weight_values
from workbench.head_scores.random_weights import random_model
from workbench.head_scores.result import HeadScores
from workbench.models.in_forward import attends_in_shares, each_pattern, without_pattern_scores
from workbench.patching.progress import Progress
from workbench.patching.resolve import model_identity, resolve_inputs, resolve_model, result_info

#: Bytes of patterns that are held to be compared with each other.
HELD = 1_000_000_000

#: Scores that no image changes.
WEIGHT_SCORES = ("copy_score", *OF_WEIGHTS)

Arrays = dict[str, np.ndarray]


def scores_on_images(
    model: Any,
    images: Any,
    argument: str,
    *,
    seed: int | None = None,
    with_weights: bool = False,
    cache: Any = None,
    progress: Progress | None = None,
) -> HeadScores:
    """`workbench.scores_on` of a vision model; `with_weights` also the scores of weights, and with a `seed` those of a
    model with random weights, as `workbench.scores`.

    Raises:
        UsageError: no images, or images of different sizes.
    """
    inputs, store, resumable = resolve_inputs(images, model, argument), store_of(cache), resolve_model(model)
    arguments.function("progress", progress)
    tell = progress or (lambda *_: None)
    n_layers = model.n_layers
    identity = model_identity(resumable, store)
    layout = layout_of(model, inputs.clean)
    names, n = list(uniform_scores(layout)), len(inputs)
    steps = n * n_layers  # a layer of an image each
    total = steps if seed is None else 2 * steps
    own = _each_image(model, inputs.clean, layout, store, identity, lambda i: tell(i, total, "scores on images"))
    random: Arrays = {}
    from_weights = _of_weights(model, store, identity) if with_weights else {}
    if seed is not None:
        untrained, of_random = random_model(model, seed), None if identity is None else digest(identity, "random", seed)
        what = "scores of random weights"
        rows = _each_image(untrained, inputs.clean, layout, store, of_random, lambda i: tell(steps + i, total, what))
        random = _values(rows, names, model)
        random |= _by_head(_of_weights(untrained, store, of_random), model) if with_weights else {}
    values = {name: np.full((model.n_layers, model.n_heads), np.nan) for name in (*NAMES, "similarity")}
    values |= _values(own, names, model)
    chance = {name: _of_layers(model, level) for name, level in uniform_scores(layout).items()}
    values |= _by_head(from_weights, model)
    absent = {
        name: why_no_weight_score(name, model) if name in WEIGHT_SCORES else why_no_image_score(name, model, values)
        for name, x in values.items()
        if not np.isfinite(x).any()
    }
    positions = {name: n * count for name, count in counted_positions(layout).items()}
    tell(total, total, "scores on images")
    return HeadScores(
        values=values,
        samples={name: np.stack([row[name] for row in own]) for name in names},
        uniform=chance,
        random=random,
        pairs={
            "similarity": np.mean([row["similarity"] for row in own], 0),
            **{f"{kind}_composition": from_weights[kind] for kind in weights.KINDS if from_weights},
        },
        lens=pd.DataFrame(),
        info=result_info(model, inputs)
        | {
            "positions": positions | {"similarity": n * layout.length},
            "patches": [layout.rows, layout.columns],
            "added": list(layout.added),
            **({} if seed is None else {"random_seed": seed}),
            **({"unrelated_composition": weights.unrelated(model.d_model)} if with_weights else {}),
            **({"without_pattern_scores": reasons} if (reasons := without_pattern_scores(model)) else {}),
            "absent": absent,
        },
    )


def _of_weights(model: Any, store: Store | None, identity: bytes | None) -> Arrays:
    cached = ResultCache(store, identity, "image scores", VERSION, "weights")
    return cached.arrays(of_weights.NAMES, lambda: weight_arrays(model))


def _by_head(arrays: Arrays, model: Any) -> Arrays:
    """Scores of weights ``[layer, head]``; none of none."""
    shape = (model.n_layers, model.n_heads)
    return {name: x.reshape(shape) for name, x in weight_values(arrays).items()} if arrays else {}


def layout_of(model: Any, images: Sequence[Shaped[Tensor, "pos n"]]) -> Layout:
    """Where the positions of a model's images are.

    Raises:
        UsageError: a model that does not say it, or images of different sizes.
    """
    if not hasattr(model, "patch_grid"):
        do = "Hook it by wb.HookedViT, or give its class patch_grid and added_positions."
        raise arguments.refusal("model", model, "a model that says where its patches are", do)
    lengths = sorted({len(image) for image in images})
    if len(lengths) > 1:
        sizes = ", ".join(map(str, lengths))
        raise UsageError(f"These images have {sizes} positions. Score images of one size at a time.")
    rows, columns = model.patch_grid(lengths[0])
    return Layout(tuple(model.added_positions), rows, columns)


def _of_layers(model: Any, level: float) -> float | Float[np.ndarray, "layer head"]:
    """A chance level, left out in layers whose operator is not the model's own: what such a head may see differs."""
    if not model.operators:
        return level
    levels = np.full((model.n_layers, model.n_heads), level)
    levels[list(model.operators)] = np.nan
    return levels


def _values(rows: Sequence[Arrays], names: Sequence[str], model: Any) -> Arrays:
    """One number a head: the mean over images; of similarity the largest with another head."""
    values = {name: np.mean([row[name] for row in rows], 0) for name in names}
    pairs = np.mean([row["similarity"] for row in rows], 0)
    best = np.where(np.isfinite(pairs), pairs, -np.inf).max(1).reshape(model.n_layers, model.n_heads)
    return values | {"similarity": np.where(np.isfinite(best), best, np.nan)}


def _each_image(
    model: Any, images: Sequence[Tensor], layout: Layout, store: Store | None, identity: bytes | None, tell: Any
) -> list[Arrays]:
    rows = []
    for i, image in enumerate(images):
        before = i * model.n_layers
        tell(before)
        cached = ResultCache(store, identity, "image scores", VERSION, image)
        names = (*uniform_scores(layout), "similarity")

        def compute(image: Tensor = image, before: int = before) -> Arrays:
            return _scores_of_image(model, image, layout, lambda layer: tell(before + layer))

        rows.append(cached.arrays(names, compute))
    return rows


@torch.no_grad()
def _scores_of_image(
    model: Any, image: Shaped[Tensor, "pos n"], layout: Layout, tell: Callable[[int], object]
) -> Arrays:
    """Every score ``[layer, head]`` of one image, and the cosine of each two heads' patterns ``[head, head]``, NaN of a
    head with itself. Patterns are compared as many layers at a time as `HELD` allows, in several runs if need be."""
    n_layers, n_heads = model.n_layers, model.n_heads
    scores = {name: torch.full((n_layers, n_heads), torch.nan).double() for name in uniform_scores(layout)}
    cosines = torch.full((n_layers, n_heads, n_layers, n_heads), torch.nan).double()
    layers = [layer for layer in range(n_layers) if attends_in_shares(model, layer)]
    size = max(1, HELD // (4 * n_heads * layout.length**2))
    for start in range(0, len(layers), size):
        held: dict[int, Tensor] = {}
        block = set(layers[start : start + size])

        def see(layer: int, A: Float[Tensor, "image head dest src"], held=held, block=block, first=start == 0) -> None:
            flat = centred(A[0])
            if first:
                for name, score in scores_of(A[0], layout).items():
                    scores[name][layer] = score.double().cpu()
                tell(layer)
            if layer in block:
                held[layer] = flat
            for other, reference in held.items():
                product = (flat @ reference.T).double().cpu()
                cosines[layer, :, other], cosines[other, :, layer] = product, product.T

        each_pattern(model, image[None], layers[start:], see)
    pairs = cosines.reshape(n_layers * n_heads, -1)
    pairs.fill_diagonal_(torch.nan)
    return {name: x.numpy() for name, x in {**scores, "similarity": pairs}.items()}
