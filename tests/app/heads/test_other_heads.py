"""What is computed ahead of other heads is what the page computes for each when it is opened."""

from __future__ import annotations

import numpy as np
import pytest

import workbench as wb
from app import models
from app.heads import detail, weights_summary
from app.heads.prompt_record import PromptRecord
from app.heads.selection import Selection
from app.heads.weights import ov_qk_summary, promoted_tokens
from tests.app.heads.rendered import REPEATING, tiny_checkpoint
from workbench.head_scores.weights import HeadWeights


def test_other_heads_are_computed_as_the_open_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_checkpoint()
    monkeypatch.setattr(models, "load", lambda name: pytest.fail("a model is loaded by its name"))
    monkeypatch.setattr(weights_summary, "_SUMMARIES", {})
    record = PromptRecord(model, model.to_tokens(REPEATING)[0].tolist(), cache=False)
    selection, dest = Selection("first", "tiny", model, record, wb.Head(0, 0)), 3
    for steps in (detail.other_heads(selection), weights_summary.other_heads(selection, dest)):
        assert sum(1 for _ in steps) >= model.n_layers
    promoted = weights_summary._PROMOTED[record]
    assert len(weights_summary._SUMMARIES) == model.n_layers * model.n_heads == len(promoted)
    for (head, ids), tokens in promoted.items():
        row = record.pattern(head)[dest]
        assert ids == weights_summary._most_attended(record, row)
        weights = HeadWeights.of(model, head)
        assert promoted_tokens(model, weights, [ids], weights_summary.PROMOTED) == [tokens]
        for name, sizes in ov_qk_summary(weights)[0].items():
            assert weights_summary._SUMMARIES["tiny", head][name] == pytest.approx(sizes, rel=1e-4)
        alone = PromptRecord(model, record.ids.tolist(), cache=False) if head.index == 1 else record
        effects = alone.logit_effects(head, detail.ROWS // 2)
        np.testing.assert_allclose(record.logit_effects(head, detail.ROWS // 2)["logit"], effects["logit"], atol=1e-5)
    assert not list(weights_summary.other_heads(selection, dest))  # all is there
