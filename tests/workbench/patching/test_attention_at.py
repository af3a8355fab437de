"""One position's attention in every head, against Hugging Face's own patterns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GptOssConfig

import workbench as wb
from tests.families import SIZES, hooked
from workbench.errors import UsageError
from workbench.models.pattern_formula import PatternFormula
from workbench.plotting.position_attention import AttentionBetween, PositionAttention

TEXT = "When Anna and Paul went out, Paul gave a rose to"
IDS = torch.arange(20) * 7 % 101


def sinks() -> wb.HookedLM:
    """A tiny gpt-oss: sinks beside every row, and a window in every other layer."""
    torch.manual_seed(0)
    sizes = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1}
    model: Any = AutoModelForCausalLM.from_config(GptOssConfig(**sizes, sliding_window=4)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape))
    return wb.HookedLM(model)


def eager(model: wb.HookedLM, ids: torch.Tensor) -> np.ndarray:
    """``[layer, head, dest, src]``, from Hugging Face."""
    implementation = model.hf.config._attn_implementation
    model.hf.set_attn_implementation("eager")
    with torch.no_grad():
        patterns = model.hf(ids[None], output_attentions=True).attentions
    model.hf.set_attn_implementation(implementation)
    return torch.cat(patterns).numpy()


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt2", "gpt_neox", "gpt_oss"])
def test_rows_columns_and_pairs_are_hugging_faces(family: str, tmp_path: Path) -> None:
    model = sinks() if family == "gpt_oss" else hooked(family)
    expected = eager(model, IDS)
    assert expected[:, :, 13, :13].max() > 0.1
    for cache in (False, tmp_path):
        for position in (0, 6, -1):
            row = wb.attention_at(model, IDS, position, cache=cache)
            column = wb.attention_at(model, IDS, position, "source", cache=cache)
            np.testing.assert_allclose(row.weights, expected[:, :, position], atol=1e-5)
            np.testing.assert_allclose(column.weights, expected[:, :, :, position], atol=1e-5)
            for at, part in ((row, expected[:, :, position]), (column, expected[:, :, :, position])):
                assert at.masked is not None  # no weight of these is so small that it is 0 in float32
                np.testing.assert_array_equal(at.masked, (part == 0).all(1))
                np.testing.assert_array_equal(at.masked_everywhere, (part == 0).all((0, 1)))
                assert min(at.table(k=99)["maximum"]) > 0
                assert at.html().count(": masked") == (part == 0).all((0, 1)).sum()
        for dest, src in ((-1, 17), (-1, 2), (3, 9)):  # the second is outside windows, the third is later
            pair = wb.attention_between(model, IDS, dest, src, cache=cache)
            np.testing.assert_allclose(pair.values, part := expected[:, :, dest, src], atol=1e-5)
            assert sorted(pair.table(k=99)["head"]) == [f"{i}.{j}" for i, j in np.argwhere(part > 0).tolist()]
            assert (pair.why_masked != "") == (part == 0).any() == ("the mask hides" in str(pair.figure().to_json()))
    for name, reduced in (("mean", row.mean), ("maximum", row.maximum)):
        by_head = expected[:, :, -1].reshape(-1, len(IDS))
        np.testing.assert_allclose(reduced, by_head.mean(0) if name == "mean" else by_head.max(0), atol=1e-5)


def test_a_column_of_a_long_prompt_is_summed_in_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from workbench.models import pattern_formula

    model = wb.load("tiny")
    ids = model.to_tokens(TEXT)[0]
    expected = eager(model, ids)
    monkeypatch.setattr(pattern_formula, "ROWS", 3)
    monkeypatch.setattr(PatternFormula, "pattern", None)  # whole patterns are not made
    for position in (0, 5):
        for role, part in (("source", expected[:, :, :, position]), ("destination", expected[:, :, position])):
            at = wb.attention_at(model, TEXT, position, role, cache=tmp_path)
            np.testing.assert_allclose(at.weights, part, atol=1e-5)


def test_layers_without_a_matrix_are_nan_and_others_are_the_operators(tmp_path: Path) -> None:
    model = wb.swap(wb.load("tiny"), {0: "mlp", 1: "sliding-window(window=3)"})
    with torch.no_grad():
        _, cached = model.run_with_cache(TEXT, names_filter="blocks.1.attn.hook_pattern")
    expected = cached["blocks.1.attn.hook_pattern"][0].numpy()
    for cache in (False, tmp_path):
        row = wb.attention_at(model, TEXT, 5, cache=cache)
        column = wb.attention_at(model, TEXT, 5, "source", cache=cache)
        assert np.isnan(row.weights[0]).all() and np.isnan(column.weights[0]).all()
        np.testing.assert_allclose(row.weights[1], expected[:, 5], atol=1e-6)
        np.testing.assert_allclose(column.weights[1], expected[:, :, 5], atol=1e-6)
        assert np.isfinite(row.mean).all() and row.strongest_head(5) == wb.Head(1, int(expected[:, 5, 5].argmax()))
    pair = wb.attention_between(model, TEXT, 5, 4, cache=False)
    assert all(head.startswith("1.") for head in pair.table(k=99)["head"])
    none = wb.attention_at(wb.swap(wb.load("tiny"), {0: "mlp", 1: "mlp"}), TEXT, cache=False)
    assert np.isnan(none.maximum).all() and none.strongest_head(0) is None and none.table()["head"].tolist()[0] == ""


def test_tables_and_pictures_say_which_pair() -> None:
    values = np.array([[0.1, 0.7], [np.nan, np.nan]])
    pair = AttentionBetween(("a", " b", "c"), values, 2, 1, "m", 1 / 3)
    assert pair.table()["head"].tolist() == ["0.1", "0.0"] and pair.title == "Attention from 2 c to 1 ·b"
    assert repr(pair) == "AttentionBetween(Attention from 2 c to 1 ·b: 0.1 0.70, 0.0 0.10; uniform 0.33)"
    figure = pair.figure().to_dict()
    assert (
        figure["data"][0]["zmax"] == 1 and "uniform attention: 0.333" in figure["layout"]["title"]["subtitle"]["text"]
    )
    assert pair.picture().axes and "<img" in pair._repr_html_()
    weights = np.array([[[0.2, 0.8, 0.0], [0.6, 0.1, 0.3]]])
    at = PositionAttention(("a", " b", "c"), weights, 2)
    table = at.table(k=2)
    assert table["source"].tolist() == [1, 0] and table["head"].tolist() == ["0.0", "0.1"]
    assert table["maximum"].tolist() == [0.8, 0.6] and table["mean"].tolist() == [0.45, 0.4]
    assert "mean over heads" in at.html("mean") and "What does 2 c attend to?" in at._repr_html_()


def test_uniform_attention_of_a_pair() -> None:
    model = wb.load("tiny")
    assert wb.attention_between(model, TEXT, 3, 1, cache=False).uniform == 0.25
    later = wb.attention_between(model, TEXT, 3, 4, cache=False)
    assert later.uniform == 0 and (later.values == 0).all() and later.masked is not None and later.masked.all()
    assert repr(later) == (
        "AttentionBetween(Attention from 3 ·Paul to 4 ·went: the mask hides position 4 from position 3, which comes "
        "before it; uniform 0.00)"
    )


def test_one_head_leaves_out_what_the_mask_hides() -> None:
    model = wb.load("tiny")
    view = wb.attention_view(model, TEXT, 1, 3, cache=False)
    assert view.table(dest=2, k=99)["source"].tolist() == np.argsort(-view.pattern[2, :3]).tolist()
    assert sorted(view.table(src=2, k=99)["destination"]) == list(range(2, len(view.tokens)))
    assert view.html(2).count(": masked") == len(view.tokens) - 3 and view.html(2, "source").count(": masked") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"position": 99}, "position=99: expected a whole number from -"),
        ({"role": "query"}, "role='query': expected"),
        ({"position": "3"}, "position='3': expected a whole number"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    model = wb.load("tiny")
    with pytest.raises(UsageError, match=message):
        wb.attention_at(model, TEXT, **arguments)
    with pytest.raises(UsageError, match="src=99: expected a whole number"):
        wb.attention_between(model, TEXT, 0, 99)
