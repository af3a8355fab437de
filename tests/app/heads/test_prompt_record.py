"""A prompt's record, against Hugging Face and against the scores on repeated tokens."""

from __future__ import annotations

import base64
import gc
import io
import json
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from app import sidebar
from app.heads import pattern_chart, record_scores
from app.heads.prompt_record import PromptRecord
from app.heads.score import pair_score
from app.heads.weights import ov_qk_summary, promoted_tokens
from tests.families import VOCABULARY, hooked
from workbench.head_scores import patterns
from workbench.head_scores.on_prompt import counted_positions, earlier, prompt_scores, uniform_prompt_scores
from workbench.head_scores.weights import HeadWeights
from workbench.plotting import attention_view
from workbench.plotting.source import Source

TEXT = "When Mary and John went to the store, John gave a drink to"


def record_of(text: str = TEXT) -> PromptRecord:
    model = wb.load("tiny")
    return PromptRecord(model, model.to_tokens(text)[0].tolist(), cache=False)


def test_on_repeated_tokens_a_prompts_scores_are_the_tables_beyond_what_others_give() -> None:
    generator, period = torch.Generator().manual_seed(0), 12
    ids = torch.randperm(VOCABULARY, generator=generator)[:period].repeat(2)
    A = torch.rand(2, 3, 2 * period, 2 * period, generator=generator).tril()
    A /= A.sum(-1, keepdim=True)
    scores = prompt_scores(A, ids)
    for name, score in patterns.PATTERN_SCORES.items():
        offset = {"duplicate_token": period, "induction": period - 1}.get(name)
        if offset is None:
            torch.testing.assert_close(scores[name], score(A, period))
            continue
        n = 2 * period
        others = [[A[..., o, q - offset] for o in range(q - offset + 1, n) if o != q] for q in range(period, n)]
        beyond = score(A, period) - torch.stack([torch.stack(each).mean(0) for each in others]).mean(0)
        torch.testing.assert_close(scores[name], beyond)
    assert counted_positions(ids) == patterns.counted_positions(2 * period, period)


def test_scores_of_tokens_that_occur_once_are_nan_and_others_are_means() -> None:
    ids = torch.tensor([5, 6, 5, 7, 5])
    assert earlier(ids).nonzero().tolist() == [[2, 0], [4, 0], [4, 2]]
    A = torch.arange(25.0).reshape(5, 5)
    scores = prompt_scores(A, ids)
    # Key 0 is also seen by positions 1 and 3, key 2 by position 3.
    to_first, to_second = (A[1, 0] + A[3, 0]) / 2, A[3, 2]
    duplicate = (A[2, 0] - to_first) + (A[4, 0] - to_first) + (A[4, 2] - to_second)
    assert scores["duplicate_token"] == pytest.approx(float(duplicate) / 2)
    # Key 1 is also seen by position 3; key 3 by position 4 alone, whose match it is, so that it does not count.
    induction = (A[2, 1] - A[3, 1]) + (A[4, 1] - A[3, 1])
    assert scores["induction"] == pytest.approx(float(induction) / 2)
    assert counted_positions(ids) == {
        "previous_token": 4,
        "duplicate_token": 2,
        "induction": 2,
        "sink": 5,
        "entropy": 5,
        "locality": 5,
    }
    assert np.isnan(uniform_prompt_scores(torch.tensor([1, 2, 3]))["induction"])


@pytest.mark.parametrize("seed", range(4))
def test_scores_beyond_other_positions_are_those_of_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 17
    ids, A = rng.integers(0, 6, n).tolist(), np.tril(rng.random((2, n, n)))
    A /= A.sum(-1, keepdims=True)
    for name, offset in (("duplicate_token", 0), ("induction", 1)):
        matches = {(q, k + offset) for q in range(n) for k in range(q) if ids[k] == ids[q] and k + offset < q}
        rows: dict[int, np.ndarray] = {}
        for q, k in sorted(matches):
            others = [A[:, o, k] for o in range(k + 1, n) if (o, k) not in matches]
            if others:
                rows[q] = rows.get(q, np.zeros(2)) + A[:, q, k] - np.mean(others, axis=0)
        scores = prompt_scores(torch.tensor(A), torch.tensor(ids))
        np.testing.assert_allclose(scores[name], np.mean(list(rows.values()), axis=0), atol=1e-12)
        assert counted_positions(torch.tensor(ids))[name] == len(rows) > 3


def test_a_key_that_every_position_attends_to_scores_nothing_and_a_match_scores_one() -> None:
    ids = torch.tensor([3, 4, 5, 3, 6, 4, 7])
    n, sink = len(ids), torch.zeros(7, 7)
    sink[:, 1] = 1  # behind the earlier 3
    sink[0] = torch.eye(n)[0]
    perfect = torch.eye(n)
    perfect[[3, 5]] = torch.eye(n)[[1, 2]]
    for name, A, expected in (("induction", sink, 0.0), ("induction", perfect, 1.0), ("duplicate_token", sink, 0.0)):
        assert float(prompt_scores(A, ids)[name]) == pytest.approx(expected, abs=1e-7)
    assert counted_positions(ids)["induction"] == 2


@pytest.fixture(scope="module")
def default_model() -> wb.HookedLM:
    return wb.load()


def test_an_induction_head_comes_before_one_that_looks_at_a_fixed_key(default_model: wb.HookedLM) -> None:
    """17.4 is an induction head on repeated random tokens and in the finding ioi-circuit, 4.7 is not: all later
    positions attend to " the", which happens to stand behind the first " to"."""
    model = default_model
    record = PromptRecord(model, model.to_tokens(TEXT)[0].tolist(), cache=False)
    induction, at = record.scores["induction"], (17, 4)
    assert np.unravel_index(induction.argmax(), induction.shape) == at
    assert induction[at] > 5 * induction[4, 7] and record.positions["induction"] == 2
    the = record.tokens.index(" the")
    assert record.ids[the - 1] == record.ids[-1]  # the last "to" matches it
    assert record.pattern(wb.Head(4, 7))[the + 1 :, the].min() > 0.3


@torch.no_grad()
def test_the_first_prompt_shows_the_heads_that_repeated_random_tokens_show(default_model: wb.HookedLM) -> None:
    """The first three of each score are among the first six on Hugging Face's patterns of random tokens repeated."""
    model, period = default_model, 50
    record = PromptRecord(model, model.to_tokens(sidebar.DEFAULT_PROMPT)[0].tolist(), cache=False)
    generator = torch.Generator().manual_seed(0)
    once = torch.stack([torch.randperm(19_000, generator=generator)[:period] + 100 for _ in range(4)])
    plain = type(model.hf)._from_config(model.hf.config, attn_implementation="eager").eval()
    plain.load_state_dict(model.hf.state_dict())
    A = torch.stack(plain(once.repeat(1, 2), output_attentions=True).attentions)  # [layer, sequence, head, dest, src]
    reference = {
        "induction": A.diagonal(1 - period, -2, -1)[..., -period:].mean((1, -1)),
        "previous_token": A.diagonal(-1, -2, -1).mean((1, -1)),
    }
    for name, expected in reference.items():
        first = set(expected.flatten().topk(6).indices.tolist())
        assert set(np.argsort(-record.scores[name], axis=None)[:3].tolist()) <= first, name
    induction = record.scores["induction"]
    assert np.sort(induction, axis=None)[-4] > 0.3 > 10 * abs(record.chance["induction"])
    assert record.positions["induction"] == record.positions["duplicate_token"] == 4
    assert record.next_tokens(1)[0].token == " Smith" and record.next_tokens(1)[0].probability > 0.5


def test_pattern_and_next_tokens_are_hugging_faces() -> None:
    record = record_of()
    model = wb.load("tiny")
    model.hf.set_attn_implementation("eager")
    reference = model.hf(record.ids[None], output_attentions=True)
    np.testing.assert_allclose(record.pattern(wb.Head(1, 2)), reference.attentions[1][0, 2].detach(), atol=1e-5)
    probabilities = reference.logits[0, -1].softmax(-1)
    for token in record.next_tokens(3):
        assert token.probability == pytest.approx(float(probabilities[token.id]), abs=1e-5)
    assert [t.id for t in record.next_tokens(3)] == probabilities.topk(3).indices.tolist()


def parts(record: PromptRecord, layer: int) -> tuple[Any, Any]:
    """Hugging Face's attention and the heads' own weights, ``[d_model, head, d_head]``."""
    attention = record.model.hf.model.layers[layer].self_attn
    return attention, attention.o_proj.weight.unflatten(1, (record.model.n_heads, -1))


def test_head_outputs_add_up_to_the_attention_output() -> None:
    record = record_of()
    out = wb.record(record.model, TEXT, ["attn_out"], 1, cache=False).clean["attn_out"][0][0]
    total = torch.stack([record.head_output(wb.Head(1, j)) for j in range(record.model.n_heads)]).sum(0)
    torch.testing.assert_close(total, out[-1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_weighted_pattern_has_the_norms_of_value_outputs() -> None:
    record, head, dest, src = record_of(), wb.Head(1, 2), 9, 4
    attention, W_O = parts(record, 1)
    normed: list[torch.Tensor] = []
    handle = attention.v_proj.register_forward_pre_hook(lambda _, args: normed.append(args[0]))
    record.model.hf(record.ids[None])
    handle.remove()
    group = record.model.n_heads // record.model.n_kv_heads
    v = attention.v_proj(normed[0])[0, src].unflatten(0, (record.model.n_kv_heads, -1))[head.index // group]
    expected = record.pattern(head)[dest, src] * float((W_O[:, head.index] @ v).norm())
    assert record.value_weighted(head)[dest, src] == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_heads_and_the_rest_add_up_to_the_logit_difference() -> None:
    """The heads' outputs, and the rest of the final residual without them, through the norm's scale."""
    record = record_of()
    hf = record.model.hf
    logits = hf(record.ids[None]).logits[0, -1]
    first, second = logits.topk(2).indices.tolist()
    end = hf(record.ids[None], output_hidden_states=True).hidden_states[-1][0, -1]  # normed
    raw = wb.record(record.model, TEXT, ["resid_post"], record.model.n_layers - 1, cache=False).clean["resid_post"][0][
        0, -1
    ]
    scale = end / (raw * hf.model.norm.weight)  # one number, per dimension
    heads = [wb.Head(i, j) for i in range(record.model.n_layers) for j in range(record.model.n_heads)]
    rest = (raw - torch.stack([record.head_output(head) for head in heads]).sum(0)) * hf.model.norm.weight * scale
    direction = hf.lm_head.weight[first] - hf.lm_head.weight[second]
    total = record.scores["direct_logit_attribution"].sum() + float(rest @ direction)
    assert total == pytest.approx(float(logits[first] - logits[second]), abs=1e-3)
    head = wb.Head(1, 3)
    through = hf.lm_head(record.head_output(head) * hf.model.norm.weight * scale)
    table, order = record.logit_effects(head, 3), through.argsort(descending=True)
    assert table["token"].tolist()[:3] == record.model.to_str_tokens(order[:3])
    np.testing.assert_allclose(table["logit"][:3], through[order[:3]], atol=1e-4)
    assert table["logit"].iloc[-1] == pytest.approx(float(through.min()), abs=1e-4)
    again = PromptRecord(record.model, record.ids.tolist(), cache=False)
    again.compute_logit_effects(1, 3)  # of all heads of the layer at once
    other = again.logit_effects(head, 3)
    assert other["token"].tolist() == table["token"].tolist()
    np.testing.assert_allclose(other["logit"], table["logit"], atol=1e-5)


@torch.no_grad()
def test_sizes_of_circuits_are_those_of_the_whole_matrices() -> None:
    model = wb.load("tiny")
    (scores,) = ov_qk_summary(HeadWeights.of(model, wb.Head(1, 2)))
    of_layer = ov_qk_summary(HeadWeights.of(model, 1))[2]
    assert all(of_layer[name] == pytest.approx(scores[name], rel=1e-4) for name in scores)
    layer, group = model.hf.model.layers[1], model.n_heads // model.n_kv_heads
    attention, gain = layer.self_attn, layer.input_layernorm.weight
    Q = attention.q_proj.weight.unflatten(0, (model.n_heads, -1))[2] * gain
    K, V = (w.weight.unflatten(0, (-1, Q.shape[0]))[2 // group] * gain for w in (attention.k_proj, attention.v_proj))
    W_O = attention.o_proj.weight.unflatten(1, (model.n_heads, -1))[:, 2]
    for name, whole in (("OV", V.T @ W_O.T), ("QK", Q.T @ K)):
        squares = np.linalg.svd(whole.double().numpy(), compute_uv=False) ** 2
        assert scores[name]["norm"] == pytest.approx(np.linalg.norm(whole), rel=1e-4)
        assert scores[name]["rank"] == pytest.approx(squares.sum() ** 2 / (squares**2).sum(), rel=1e-4)
        assert scores[name]["first"] == pytest.approx(squares.max() / squares.sum(), rel=1e-4)


@torch.no_grad()
def test_promoted_tokens_are_those_of_the_whole_ov_circuit() -> None:
    model = wb.load("tiny")
    hf, ids = model.hf, [90, 447, 137]
    layer, group = hf.model.layers[0], model.n_heads // model.n_kv_heads
    V = layer.self_attn.v_proj.weight.unflatten(0, (model.n_kv_heads, -1))[3 // group] * layer.input_layernorm.weight
    W_O = layer.self_attn.o_proj.weight.unflatten(1, (model.n_heads, -1))[:, 3]
    logits = hf.model.embed_tokens.weight[ids] @ V.T @ W_O.T @ (hf.lm_head.weight * hf.model.norm.weight).T
    expected = [[model.tokenizer.decode(int(i)) for i in row] for row in logits.topk(4).indices]
    assert promoted_tokens(model, HeadWeights.of(model, wb.Head(0, 3)), [ids], 4) == [expected]
    of_layer = promoted_tokens(model, HeadWeights.of(model, 0), [[], [5], [], ids, *[[]] * (model.n_heads - 4)], 4)
    assert of_layer[0] == of_layer[2] == [] and len(of_layer[1]) == 1 and of_layer[3] == expected


def test_a_record_is_scored_once_and_read_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    model = wb.load("tiny")
    ids = model.to_tokens(TEXT)[0].tolist()
    first = PromptRecord(model, ids, cache=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(record_scores, "pattern_statistics", None)  # not called again
        second = PromptRecord(model, ids, cache=tmp_path)
    for name, score in first.scores.items():
        np.testing.assert_array_equal(second.scores[name], score)
    assert second.chance == first.chance and second.median_similarity == first.median_similarity
    # Of a recording that is stored without scores, they are computed in a run of their own.
    monkeypatch.setattr(record_scores, "VERSION", -1)
    third = PromptRecord(model, ids, cache=tmp_path)
    for name, score in first.scores.items():
        np.testing.assert_allclose(third.scores[name], score, atol=1e-6)


def test_scores_of_a_few_heads_at_once_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, by_head = (record_scores.PromptScores(torch.arange(12) % 5) for _ in range(2))
    A = torch.rand(1, 8, 12, 12, generator=torch.Generator().manual_seed(0)).tril()
    whole.add_pattern(0, A)
    monkeypatch.setattr(record_scores, "MAX_ENTRIES", 1)
    by_head.add_pattern(0, A)
    for name, score in by_head.scores().items():
        torch.testing.assert_close(score, whole.scores()[name], atol=1e-6, rtol=0)


def test_without_a_cache_the_files_are_deleted_with_the_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    folder = tmp_path / "temporary"  # beside the cache, in which checks of the model stay
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    record = record_of()
    assert len(list(folder.rglob("*.safetensors"))) > 0
    assert not any(isinstance(x, torch.Tensor) and x.numel() > 1_000 for x in vars(record).values())
    del record
    gc.collect()
    assert list(folder.iterdir()) == []


def test_only_the_last_two_patterns_stay_in_memory() -> None:
    record = record_of()
    first = weakref.ref(record.pattern(wb.Head(0, 1)))
    record.pattern(wb.Head(1, 1))
    assert record.pattern(wb.Head(0, 1)) is first()
    assert not np.array_equal(record.pattern(wb.Head(1, 1)), record.pattern(wb.Head(0, 1)))
    record.pattern(wb.Head(1, 2))
    record.pattern(wb.Head(1, 3))
    assert first() is None


def test_similarity_is_a_cosine_and_blank_for_the_head_itself() -> None:
    record = record_of()
    cosines = record.similarity(wb.Head(0, 1))
    assert np.isnan(cosines[0, 1]) and np.nanmax(np.abs(cosines)) <= 1 + 1e-6
    assert cosines[1, 2] == pytest.approx(record.similarity(wb.Head(1, 2))[0, 1], abs=1e-6)


def test_long_patterns_are_pooled_and_any_range_is_shown_in_full() -> None:
    n = 1000
    A = np.zeros((n, n))
    A[599, 3], A[300, 299] = 0.5, -0.9
    options: dict[str, Any] = {"title": "t", "scale": "attention"}
    whole = pattern_chart.pattern_chart(A, ["x"] * n, **options)
    assert whole.size == 3 and whole.arrays[0].shape == (334, 334)
    assert whole.arrays[0][199, 1] == 0.5 and whole.arrays[0][100, 99] == -0.9
    assert "the largest value of 3 × 3" in whole.options["subtitle"] and whole.labels[0][1] == "3–5 x"
    assert whole.positions(199, 1, A) == (599, 3) and whole.positions(100, 99, A) == (300, 299)
    part = pattern_chart.pattern_chart(A, ["x"] * n, ranges=(range(270, 363), range(300)), **options)
    assert part.size == 1
    assert (
        part.arrays[0][30, 299] == -0.9 and part.labels[1][30] == "300 x" and part.positions(30, 299, A) == (300, 299)
    )
    assert "destinations 270 to 362 and sources 0 to 299 of 1000" in part.options["subtitle"]


def test_the_canvas_has_the_values_as_they_are() -> None:
    A = np.array([[1.0, 0.0], [0.25, 0.75]])
    chart = pattern_chart.pattern_chart(A, ["<b>a</b>", " b"], title="t", scale="attention", limit=2.0)
    data = chart.canvas()
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(data["values"]), "<f4").reshape(2, 2), A)
    assert data["columns"] == ["0 <b>a</b>", "1 ·b"] and data["scale"]["limit"] == 2
    signed = pattern_chart.pattern_chart(A - 1, ["a", "b"], title="t", scale="difference", signed=True).canvas()
    assert signed["scale"] == {"kind": "linear", "limit": 1.0, "diverging": True} and signed["ticks"][0] == [-1.0, "−1"]


def test_downloads_hold_what_is_shown() -> None:
    options: dict[str, Any] = {"colours": "square root", "source": Source("tiny", head="1.2", version="0.3")}
    A = np.array([[1.0, 0.0], [0.25, 0.75]])
    chart = pattern_chart.pattern_chart(A, ["a", " b"], title="t", scale="attention", **options)
    corner = "destination position \\ source position (attended to)"  # the rows, and the columns
    assert chart.csv().decode().splitlines() == [
        f"{corner},0 a,1  b,quantity,units,model,head,workbench",
        "0 a,1.0,0.0,t,attention,tiny,L1H2,0.3",
        "1  b,0.25,0.75,t,attention,tiny,L1H2,0.3",
    ]
    assert chart.labels[0] == ["0 a", "1 ·b"]  # on the page
    exact = json.loads(chart.json())
    assert exact["values"] == A.tolist() and exact["colours"] == "square root" and exact["model"] == "tiny"
    assert chart.image("png").startswith(b"\x89PNG") and b"<svg" in chart.image("svg")


def unpacked(data: dict[str, Any], shape: tuple[int, int]) -> np.ndarray:
    """The mask that a canvas gets."""
    bits = np.frombuffer(base64.b64decode(data["mask"]), np.uint8)
    return np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)


@pytest.mark.parametrize("cells", [400, 6])
def test_what_a_mask_hides_is_empty_in_data(cells: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a window's, and of pooled cells those that are hidden as a whole; Hugging Face's patterns are 0 there."""
    monkeypatch.setattr(attention_view, "MAX_CELLS", cells)
    model = hooked("gemma2")
    record = PromptRecord(model, list(range(20)), cache=tmp_path)
    model.hf.set_attn_implementation("eager")
    patterns = torch.cat(model.hf(record.ids[None], output_attentions=True).attentions).detach().numpy()
    hidden = []
    for layer in range(model.n_layers):
        A, mask = record.pattern(wb.Head(layer, 1)), record.mask(layer)
        np.testing.assert_array_equal(mask, patterns[layer, 1] == 0)
        hidden.append(int(mask.sum()))
        ranges = (range(4, 20), range(2, 16))
        chart = pattern_chart.pattern_chart(A, record.tokens, title="t", scale="s", ranges=ranges, masked=mask)
        part, size = np.where(patterns[layer, 1] == 0, np.nan, patterns[layer, 1])[4:20, 2:16], chart.size
        starts = (range(0, 16, size), range(0, 14, size))
        blocks = [[part[i : i + size, j : j + size] for j in starts[1]] for i in starts[0]]
        expected = np.array([[np.nan if np.isnan(b).all() else np.nanmax(b) for b in row] for row in blocks])
        table = pd.read_csv(io.BytesIO(chart.csv()), index_col=0).iloc[:, : expected.shape[1]]
        np.testing.assert_allclose(table.to_numpy(float), expected, atol=1e-5)
        np.testing.assert_allclose(np.array(json.loads(chart.json())["values"], float), expected, atol=1e-5)
        np.testing.assert_array_equal(unpacked(chart.canvas(), expected.shape), np.isnan(expected))
        (image,) = chart._chart(chart.labels).picture().axes[0].images
        colours = np.asarray(image.to_rgba(np.ma.asarray(image.get_array())))[..., :3]
        np.testing.assert_array_equal((colours == 1).all(-1), np.isnan(expected))  # white on white, and nothing else
    assert len(set(hidden)) == 2  # with a window and without


@pytest.mark.parametrize("role", ["destination", "source"])
def test_a_position_in_all_heads_is_hugging_faces(role: str) -> None:
    record = record_of()
    model = wb.load("tiny")
    model.hf.set_attn_implementation("eager")
    expected = np.stack([A[0].detach().numpy() for A in model.hf(record.ids[None], output_attentions=True).attentions])
    for position in (0, 5, 13):
        part = expected[:, :, position] if role == "destination" else expected[:, :, :, position]
        np.testing.assert_allclose(record.attention_at(position, role), part, atol=1e-5)
    assert record.attention_at(13, role) is record.attention_at(13, role)


def test_the_grid_of_a_pair_is_hugging_faces_and_says_what_uniform_attention_gives() -> None:
    record = record_of()
    model = wb.load("tiny")
    model.hf.set_attn_implementation("eager")
    expected = torch.cat(model.hf(record.ids[None], output_attentions=True).attentions)[:, :, 9, 3].detach()
    score = pair_score(record, 9, 3)
    np.testing.assert_allclose(score.values, expected, atol=1e-5)
    assert score.title == "Attention from 9 ·John to 3 ·John" and score.levels == [0.1]
    later = pair_score(record, 3, 9)
    assert np.isnan(later.values).all() and "the mask hides position 9 from position 3" in later.note
    assert not later.levels


def test_masks_are_where_hugging_faces_patterns_are_zero(tmp_path: Path) -> None:
    """Also windows, which hide a source in some layers alone."""
    model = hooked("gemma2")
    record = PromptRecord(model, list(range(20)), cache=tmp_path)
    model.hf.set_attn_implementation("eager")
    expected = torch.cat(model.hf(record.ids[None], output_attentions=True).attentions).detach().numpy()
    for position in (0, 7, 19):
        parts = {"destination": expected[:, :, position], "source": expected[:, :, :, position]}
        for role, part in parts.items():
            np.testing.assert_array_equal(record.masked_at(position, role), (part == 0).all(1))
    score, part = pair_score(record, 19, 2), expected[:, :, 19, 2]
    assert 0 < (part == 0).all(1).sum() < len(part)
    np.testing.assert_array_equal(np.isnan(score.values), part == 0)
    assert any("whose window does not reach it" in reason for reason in score.without)
    assert (score.ranking()["value"] > 0).to_numpy().all()
