"""Of a model whose outputs read the class token alone, the last layer gives that alone in resumed runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import workbench as wb
from tests.conformance.vision_zoo import ZOO, make
from tests.small_vit import pictures, small_vit

SITES = ("z", "q", "k", "v", "pattern", "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
#: How many first positions the outputs read where they read no other. The rest read all of them, or their last layer
#: does not give some without the others (rotary embeddings of patches alone, biases of pairs).
READ = {
    "ViT classifier": 1,
    "ViT": 1,
    "ViT without a pooler": 1,
    "DeiT classifier": 1,
    "DeiT with a teacher": 2,
    "DINOv2": 1,
    "DINOv2 with registers": 1,
    "CLIP tower": 1,
    "CLIP tower with its projection": 1,
}


@pytest.mark.parametrize(("site", "attention"), [*((site, "sdpa") for site in SITES), ("z", "eager")])
def test_every_cell_is_that_of_a_full_forward(site: str, attention: str) -> None:
    model = small_vit(attention=attention)
    pairs = wb.images(pictures(3)).paired_with(wb.images(pictures(3, seed=1))).answered_by(model)
    lengths: list[int] = []
    by = {"pattern": "head"} | dict.fromkeys(("z", "q", "k", "v"), ("head", "position"))
    options: dict[str, Any] = {"site": site, "by": by.get(site, "position"), "cache": False}
    if site != "pattern":
        options["positions"] = ["cls", "1,2", "3,3"]
    hook = model.hf.vit.layers[2].mlp.register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
    resumed = wb.sweep(model, pairs, **options)
    hook.remove()
    assert (1 in lengths) == (site != "pattern")
    model.resumable, model.why_not_resumable = False, "is not wanted"
    whole = wb.sweep(model, pairs, **options)
    assert whole.info["exact"] != resumed.info["exact"]
    assert np.abs(resumed.values - whole.values).max() < 1e-5 * np.abs(whole.values).max()
    assert np.abs(whole.delta[-1]).max() > 0.01  # in the last layer, too


@pytest.mark.parametrize("name", ZOO)
def test_which_models_read_no_other_position_is_found_out(name: str) -> None:
    model = wb.HookedViT(make(name))
    assert (model.reads_first, model.embeds_one) == (READ.get(name, 0), True)
    unchecked = wb.HookedViT(make(name), check=False)
    assert (unchecked.reads_first, unchecked.embeds_one) == (0, False)
