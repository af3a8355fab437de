"""Attribution patching against TransformerLens's, on its own model of the same weights, and against the slope of the
edit itself, by full forwards of the plain module."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.tools.analysis.attribution_patching import EdgeAttributionConfig, attribution_patch
from transformers import PreTrainedTokenizerFast

import workbench as wb
from tests.conformance.toys import ResumableToy, Toy, pictures
from tests.families import nudged, paired
from tests.oracle.plain_hooks import Plain
from tests.oracle.test_against_transformer_lens import tokenizer
from workbench.models.language import HookedLM

INPUTS = paired(2, lengths=(8,))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_transformer_lens_gives_the_same_estimates(family: str, tmp_path: Path) -> None:
    tokenizer().save_pretrained(tmp_path)
    words = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    bridge = TransformerBridge.boot_transformers(
        f"tiny-{family}", hf_model=nudged(family, "eager").requires_grad_(True), tokenizer=words
    )
    bridge.eval()
    screen = wb.screen(HookedLM(nudged(family)), INPUTS, by=["head", "position"], positions="all", confirm=0.01)
    for i in range(len(INPUTS)):

        def metric(logits: Tensor, i: int = i) -> Tensor:
            return logits[0, -1, list(INPUTS.answer[i])].mean() - logits[0, -1, list(INPUTS.wrong[i])].mean()

        reference = attribution_patch(
            bridge, INPUTS.clean[i][None], INPUTS.corrupt[i][None], metric, EdgeAttributionConfig(granularity="node")
        )
        expected = np.zeros(screen.estimate.values.shape[:-1])
        for node, score in reference.node_scores.items():
            if node.kind == "attn_head_out":
                expected[node.layer, node.head, node.position] = score
        np.testing.assert_allclose(screen.estimate.delta[..., i], expected, atol=2e-4)
        assert np.abs(expected).max() > 1e-2


@pytest.mark.parametrize(
    ("site", "edit", "by", "positions"),
    [
        ("z", "patch", "head", None),
        ("z", "zero", "head", None),
        ("v", "patch", ["head", "position"], "all"),
        ("pattern", "patch", "head", None),
        ("resid_mid", "patch", "position", [2, 5, -1]),
        ("mlp_out", "zero", "layer", [4, "end"]),
    ],
)
def test_an_estimate_is_the_slope_of_the_edit(site: str, edit: str, by: Any, positions: Any) -> None:
    """The metric's change for a small step of the way to the values written, by differences, in float64."""
    plain = Plain(nudged("llama", dtype=torch.float64), "llama")
    model = HookedLM(nudged("llama", dtype=torch.float64))
    estimate = wb.screen(model, INPUTS, site=site, by=by, edit=edit, positions=positions, confirm=0.01).estimate
    step = 0.03
    for index, cell in estimate.cells():
        layer, head = int(cell["layer"]), cell.get("head") or cell.get("kv_head", "").removeprefix("kv")
        base = INPUTS.corrupt[0] if edit == "patch" else INPUTS.clean[0]
        source = plain.read(INPUTS.clean[0], site, layer)
        source = source if edit == "patch" else torch.zeros_like(source)
        edited = [cell["position"]] if "position" in cell else positions if isinstance(positions, list) else range(8)
        rows = [7 if position == "end" else int(position) for position in edited]

        def change(x: Tensor, by: float, head: str = head, source: Tensor = source, rows: list[int] = rows) -> None:
            where: Any = (rows, int(head)) if head else (rows,)
            x[where] += by * (source[where] - x[where])

        slope = 0.0
        for steps, weight in ((2, -1), (1, 8), (-1, -8), (-2, 1)):  # the five-point stencil: norms round to float32
            logits = plain.logits(base, (site, layer, partial(change, by=steps * step)))
            metric = float(logits[list(INPUTS.answer[0])].mean() - logits[list(INPUTS.wrong[0])].mean())
            slope += weight * metric / (12 * step)
        assert estimate.delta[index][0] == pytest.approx(slope, abs=1e-4)
    assert np.abs(estimate.delta).max() > 1e-2


@pytest.mark.parametrize("n_steps", [1, 3])
def test_models_that_are_not_causal(n_steps: int) -> None:
    """A small edit's effect is its estimate, also where a position is seen by all and layers run more than once."""
    resumable, inputs = ResumableToy(Toy(n_steps)), pictures()

    def toward(x: Tensor) -> Tensor:
        return x * (1 - 1e-3)

    estimate = wb.screen(resumable, inputs, edit="zero", confirm=0.01).estimate
    small = wb.sweep(resumable, inputs, edit=toward)
    np.testing.assert_allclose(estimate.mean_delta * 1e-3, small.mean_delta, atol=2e-5)
    assert np.abs(estimate.mean_delta).max() > 1e-2
