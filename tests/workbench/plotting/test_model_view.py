"""The patterns of all heads as small maps: Hugging Face's eager patterns, max-pooled by torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, GptOssConfig, LlamaConfig

import workbench as wb
from tests.families import FAMILIES, SIZES, VOCABULARY, randomised
from workbench.errors import UsageError
from workbench.models.language import HookedLM
from workbench.patching import model_view

#: Patterns of float32, computed in another order.
CLOSE = 1e-5
TEXT = "When Anna and Paul went out, Paul gave a rose to"
LONG = f"{TEXT} " * 8
CONFIGURATIONS = {
    **FAMILIES,
    "gpt_oss": lambda: GptOssConfig(
        **SIZES, num_key_value_heads=2, head_dim=8, sliding_window=4, num_local_experts=2, num_experts_per_tok=1
    ),
}


def max_pooled(patterns: Tensor, size: int) -> Tensor:
    """Blocks of as many positions as make at most `size` of them."""
    block = next(b for b in range(1, 10**6) if b * size >= patterns.shape[-1])
    return torch.nn.functional.max_pool2d(patterns, block, ceil_mode=True)


@torch.no_grad()
def eager(model: Any, ids: Tensor) -> Tensor:
    """Hugging Face's own patterns, ``[layer, head, dest, src]``."""
    model.hf.set_attn_implementation("eager")
    return torch.stack(model.hf(ids[None], output_attentions=True, use_cache=False).attentions)[:, 0]


@pytest.mark.parametrize("size", [32, 200, 7, 1])
def test_the_maps_are_hugging_faces_patterns_max_pooled(size: int) -> None:
    model = wb.load("tiny")
    ids = model.to_tokens(LONG)[0]
    assert 64 < len(ids) < 200
    view = wb.model_view(model, LONG, size=size, cache=False)
    expected = max_pooled(eager(model, ids), size).flatten(0, 1)
    assert view.maps.dtype == np.float32 and view.maps.shape == expected.shape
    np.testing.assert_allclose(view.maps, expected.numpy(), atol=CLOSE)
    assert [str(head) for head in view.heads] == [f"{i}.{j}" for i in range(2) for j in range(8)]
    assert len(view.labels) == view.maps.shape[1] <= size and view.tokens == tuple(model.to_str_tokens(LONG))


@pytest.mark.parametrize("family", CONFIGURATIONS)
def test_windows_caps_and_sinks_are_as_the_model_has_them(family: str) -> None:
    hf = AutoModelForCausalLM.from_config(CONFIGURATIONS[family](), attn_implementation="eager")
    model, ids = HookedLM(randomised(hf).eval()), torch.randint(0, VOCABULARY, (45,))
    view = wb.model_view(model, ids, size=10, cache=False)
    np.testing.assert_allclose(view.maps, max_pooled(eager(model, ids), 10).flatten(0, 1).numpy(), atol=2 * CLOSE)


def test_labels_say_which_positions_a_block_has() -> None:
    model = wb.load("tiny")
    ids = model.to_tokens(LONG)[0][:41]
    view = wb.model_view(model, ids, size=20, cache=False)
    assert view.block == 3 and view.labels[0] == "0 to 2" and view.labels[-1] == "39 to 40" and len(view.labels) == 14
    assert wb.model_view(model, ids[:40], size=20, cache=False).labels[-1] == "38 to 39"
    assert wb.model_view(model, ids, size=40, cache=False).labels[-1] == "40"
    assert wb.model_view(model, TEXT, cache=False).labels[:2] == ("0 When", "1 ·Anna")


def test_heads_stand_in_the_order_asked_for_with_their_values() -> None:
    model = wb.load("tiny")
    every = wb.model_view(model, TEXT, cache=False)
    best = wb.scores_on(model, wb.task("ioi", n=2), cache=False).top("previous_token", 3)
    ranked = wb.model_view(model, TEXT, best, score="previous token", cache=False)
    assert ranked.heads == tuple(head for head, _ in best) and ranked.values is not None
    assert ranked.values.tolist() == [value for _, value in best]
    for head, weights in zip(ranked.heads, ranked.maps, strict=True):
        np.testing.assert_array_equal(weights, every.maps[every.heads.index(head)])
    some = wb.model_view(model, TEXT, ["1.3", (0, 2), wb.Head(1, 0)], cache=False)
    assert some.heads == (wb.Head(1, 3), wb.Head(0, 2), wb.Head(1, 0)) and some.values is None
    assert {head.layer for head in wb.model_view(model, TEXT, layers=[1], cache=False).heads} == {1}


def test_layers_without_patterns_are_said_and_not_drawn() -> None:
    model = wb.swap(wb.load("tiny"), {1: "lightning"}, cache=False)
    view = wb.model_view(model, TEXT, cache=False)
    assert {head.layer for head in view.heads} == {0} and len(view.heads) == 8
    (note,) = view.notes
    assert note.startswith("Layer 1 is left out: lightning") and note in view._repr_html_()
    np.testing.assert_allclose(view.maps, eager(wb.load("tiny"), model.to_tokens(TEXT)[0])[0].numpy(), atol=CLOSE)
    with pytest.raises(UsageError, match=r"heads=.*there is no pattern of 1\.2\. Layer 1 is left out: lightning"):
        wb.model_view(model, TEXT, ["1.2"], cache=False)
    with pytest.raises(UsageError, match=r"There are no patterns to show. Layer 1 is left out"):
        wb.model_view(model, TEXT, layers=1, cache=False)


def test_another_operators_matrix_is_max_pooled_too() -> None:
    model = wb.load("tiny")
    ids = model.to_tokens(LONG)[0]
    view = wb.model_view(wb.swap(model, {0: "sliding-window(window=5)"}, cache=False), ids, layers=0, cache=False)
    near = torch.ones(len(ids), len(ids)).tril().triu(-4)
    within = eager(model, ids)[0] * near
    expected = max_pooled(within / within.sum(-1, keepdim=True), 32)
    np.testing.assert_allclose(view.maps, expected.numpy(), atol=CLOSE)


class LargestTensor(TorchDispatchMode):
    """The most entries of any tensor that an operation returned."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, Tensor):
                self.entries = max(self.entries, x.untyped_storage().nbytes() // x.element_size())
        return result


def test_no_layers_patterns_are_made() -> None:
    config = LlamaConfig(**{**SIZES, "max_position_embeddings": 1000})
    model, ids = HookedLM(AutoModelForCausalLM.from_config(config).eval()), torch.arange(1000) % VOCABULARY
    patterns = model.n_heads * len(ids) ** 2
    with LargestTensor() as seen:
        wb.model_view(model, ids, cache=False)
    assert 0 < seen.entries < patterns / 3
    with LargestTensor() as seen:
        eager(model, ids)
    assert seen.entries >= patterns


def test_maps_are_stored(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wb.load("tiny")
    first = wb.model_view(model, LONG, cache=tmp_path)
    computed: list[Any] = []
    monkeypatch.setattr(
        model_view, "_maps", lambda *arguments: computed.append(arguments) or np.zeros((2, 8, 4, 4), np.float32)
    )
    again = wb.model_view(model, LONG, ["1.1"], cache=tmp_path)
    assert not computed
    np.testing.assert_array_equal(again.maps[0], first.maps[9])
    wb.model_view(model, LONG, cache=tmp_path, size=4)
    wb.model_view(model, TEXT, cache=tmp_path, size=4)
    assert len(computed) == 2  # other blocks, another prompt


def test_a_table_has_every_weight() -> None:
    view = wb.model_view(wb.load("tiny"), TEXT, [("1.0", 0.5), ("0.3", 2)], score="entropy", cache=False)
    table = view.table()
    labels = [f"{i} {token}" for i, token in enumerate(view.tokens)]  # as they are
    assert list(table.columns) == ["head", "entropy", "destination", *labels] and labels[1].startswith("1  ")
    row: Any = table[(table["head"] == "0.3") & (table["destination"] == labels[4])]
    np.testing.assert_array_equal(row[labels].to_numpy(np.float32)[0], view.maps[1, 4])
    assert row["entropy"].item() == 2


@pytest.mark.parametrize("colours", ["linear", "square root"])
def test_the_figure_has_every_map_at_its_name(colours: str) -> None:
    view = wb.model_view(wb.load("tiny"), TEXT, cache=False)
    traces: Any = view.figure(colours).data
    heatmap, names = traces
    linear = colours == "linear"
    values = np.array(heatmap.z if linear else heatmap.customdata, dtype=float)
    np.testing.assert_allclose(np.array(heatmap.z, dtype=float), values if linear else np.sqrt(values), rtol=1e-6)
    rows, columns = view.maps.shape[1:]
    assert list(names.text) == [str(head) for head in view.heads]
    for i, (x, y) in enumerate(zip(names.x, names.y, strict=True)):
        left, bottom = round(x - (columns - 1) / 2), int(np.floor(y))
        while np.isnan(values[bottom, left]):
            bottom -= 1
        np.testing.assert_array_equal(values[bottom - rows + 1 : bottom + 1, left : left + columns], view.maps[i])
    assert heatmap.text[2][1] == f"0.0: {view.labels[2]} → {view.labels[1]}"
    assert (heatmap.zmin, heatmap.zmax) == (0, 1)
    axes: Any = view.picture(colours).axes[0]
    painted = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_allclose(painted, values if linear else np.sqrt(values), rtol=1e-6)
    assert [text.get_text() for text in axes.texts] == [str(head) for head in view.heads]


def test_tokens_are_text_and_nothing_else() -> None:
    hostile = ("<script>alert(1)</script>", '" onmouseover="x')
    view = wb.ModelView((wb.Head(0, 0),), np.ones((1, 2, 2), np.float32), 1, hostile, "<b>", ("<u>",))
    html = view._repr_html_()
    assert not [tag for tag in ("<script", "<b>", "<u>") if tag in html] and "&lt;u&gt;" in html
    assert "<script" not in view.figure().to_dict()["data"][0]["text"][0][0]


def test_values_for_some_heads_alone_are_refused() -> None:
    view = wb.model_view(wb.load("tiny"), TEXT, cache=False)
    with pytest.raises(UsageError, match=r"heads=.*expected a value for each head, or for none"):
        view.of([(wb.Head(0, 0), 1.0), wb.Head(0, 1)])
    with pytest.raises(UsageError, match=r"heads=.*pairs of a head and a number"):
        view.of([(wb.Head(0, 0), "much")])
    with pytest.raises(UsageError, match=r"heads=.*'0.1' is repeated"):
        view.of(["0.1", "0.1"])
    with pytest.raises(UsageError, match="layers=1: expected None, because heads says which heads are shown"):
        wb.model_view(wb.load("tiny"), TEXT, ["0.1"], 1, cache=False)
