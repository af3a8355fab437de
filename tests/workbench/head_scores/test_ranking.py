"""Heads in order of a score, against pandas and Hugging Face's patterns; and why some have no value."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from workbench.cli import main
from workbench.errors import UnknownName, UsageError
from workbench.head_scores.ranking import BY_SIZE, heads_named, ranked
from workbench.models.swap import layers_of

TEXT = "Mary and John and Mary and John and Mary"


def test_the_order_is_that_of_pandas(scores: wb.HeadScores) -> None:
    table = scores.table().set_index("name")
    for name in scores.names:
        by_size = name in BY_SIZE
        column = pd.Series(table[name]).dropna()
        sizes = column.abs() if by_size else column
        expected = column.reindex(sizes.sort_values(ascending=False, kind="stable").index)
        frame = scores.ranking(name)
        assert frame["head"].tolist() == expected.index.tolist(), name
        np.testing.assert_array_equal(frame["value"], expected)
        assert frame["rank"].tolist() == list(range(1, len(expected) + 1))
        assert [(str(head), value) for head, value in scores.top(name, 3)] == list(
            zip(frame["head"][:3], frame["value"][:3], strict=True)
        )
        for end in ("low", "high"):
            assert (end in frame) == (name in scores.samples)
            if end in frame:
                np.testing.assert_array_equal(frame[end], table.loc[expected.index, f"{name}_{end}"])
        level = f"{name}_uniform" if name in scores.uniform else f"{name}_random"
        np.testing.assert_allclose(frame["chance"], table.loc[expected.index, level])
        words = "uniform attention" if name in scores.uniform else "random weights, the mean of all heads"
        assert scores.chance_level(name)[1] == words
        assert ("positions" in frame) == (name in scores.positions)


@torch.no_grad()
def test_a_texts_ranking_is_that_of_hugging_faces_patterns(model: wb.HookedLM) -> None:
    plain = type(model.hf)._from_config(model.hf.config, attn_implementation="eager").eval()
    plain.load_state_dict(model.hf.state_dict())
    row = model.tokenizer(TEXT)["input_ids"]
    A = torch.cat(plain(torch.tensor([row]), output_attentions=True).attentions).double().numpy()
    pairs = [(q, k + 1) for q in range(len(row)) for k in range(q - 1) if row[k] == row[q]]
    others = {k: [o for o in range(k + 1, len(row)) if (o, k) not in pairs] for _, k in pairs}
    counted = [(q, k) for q, k in pairs if others[k]]
    rows = {q for q, _ in counted}
    beyond = np.stack([A[..., q, k] - A[..., others[k], k].mean(-1) for q, k in counted])
    expected = beyond.sum(0) / len(rows)
    frame = wb.scores_on(model, TEXT, cache=False).ranking("induction")
    names = [f"{i}.{j}" for i, j in np.ndindex(expected.shape)]
    reference = pd.Series(expected.ravel(), names).sort_values(ascending=False)
    assert frame["head"].tolist() == reference.index.tolist() and set(frame["positions"]) == {len(rows)}
    np.testing.assert_allclose(frame["value"], reference, atol=1e-5)
    assert "low" not in frame  # of one prompt there is no interval


def test_layers_and_k_select_and_ranks_stay(scores: wb.HeadScores) -> None:
    every = scores.ranking("induction")
    some = scores.ranking("induction", layers=[1], k=3)
    expected = [row for row in every.to_dict("records") if row["head"].startswith("1.")][:3]
    assert some.to_dict("records") == expected and some.index.tolist() == [0, 1, 2]
    assert scores.ranking("induction", layers=0)["rank"].tolist() != list(range(1, 9))
    for wrong in ({"layers": 2}, {"layers": []}, {"k": 0}):
        with pytest.raises(UsageError):
            scores.ranking("induction", **wrong)  # type: ignore[arg-type] - wrong on purpose
    with pytest.raises(UnknownName):
        scores.ranking("inducton")


def test_ties_are_in_order_of_layer_and_head_and_heads_without_a_value_are_left_out() -> None:
    values = np.array([[0.5, np.nan, -2.0], [0.5, np.inf, 0.5]])
    assert ranked(values)["head"].tolist() == ["0.0", "1.0", "1.2", "0.2"]
    frame = ranked(values, {"chance": -values, "positions": 3, "low": None}, by_size=True)
    assert frame["head"].tolist() == ["0.2", "0.0", "1.0", "1.2"] and frame["chance"].tolist() == [2, -0.5, -0.5, -0.5]
    assert list(frame) == ["rank", "head", "value", "chance", "positions"] and set(frame["positions"]) == {3}
    assert ranked(np.full((2, 2), np.nan)).empty


def test_heads_and_layers_are_found_by_the_names_that_people_use() -> None:
    def heads_of(text: str) -> list[str]:
        return [f"{i}.{j}" for i, j in np.argwhere(heads_named(text, 20, 3)).tolist()]

    assert heads_of("17.2") == heads_of(" L17H2 ") == heads_of("l17.h2") == heads_of("a17.h2") == ["17.2"]
    assert heads_of("17") == heads_of("17.") == heads_of("L17") == ["17.0", "17.1", "17.2"]
    assert heads_of("1") == ["1.0", "1.1", "1.2"]  # and not layers 10 to 19
    assert heads_of("3-4, 17.2") == ["3.0", "3.1", "3.2", "4.0", "4.1", "4.2", "17.2"]
    assert len(heads_of("")) == len(heads_of(" , ")) == 60
    for wrong in ("17.3", "20", "4-3", "17.2.1", "head", "-1", "17-", "³", "99999999999"):
        with pytest.raises(UsageError, match="heads="):
            heads_named(wrong, 20, 3)


@pytest.mark.parametrize(("n_layers", "n_heads"), [(1, 1), (1, 8), (2, 8), (12, 2), (30, 9)])
def test_examples_in_refusals_are_heads_and_layers_of_the_model(n_layers: int, n_heads: int) -> None:
    with pytest.raises(UsageError) as refused:
        heads_named("no head", n_layers, n_heads)
    words = refused.value.args[0].partition("Write ")[2].removesuffix(", and commas between several.")
    for form in re.split(r", | or ", words):
        assert heads_named(form, n_layers, n_heads).any()
    for wrong in ("no layer", f"{n_layers}"):
        with pytest.raises(UsageError) as refused:
            layers_of("layers", wrong, n_layers)
        for form in re.findall(r"'(\d+|\d+-\d+|all)'", refused.value.args[0].partition("such as ")[2]):
            assert layers_of("layers", form, n_layers)


def test_a_refused_head_is_written_both_ways_as_one_that_every_model_here_has(model: wb.HookedLM) -> None:
    with pytest.raises(UsageError, match=r"Write layer\.head, such as 1\.3 or L1H3\.$"):
        wb.Head.parse("no head")
    assert wb.Head(1, 3) <= wb.Head(model.n_layers - 1, model.n_heads - 1) and model.n_heads > 3


@pytest.mark.parametrize("text", ["L9H6", "l9h6", "L9.H6", "L9 H6", "a9.h6", " 9.6 "])
def test_a_head_is_read_as_the_field_writes_it(text: str) -> None:
    assert wb.Head.parse(text) == wb.Head(9, 6)


@pytest.mark.parametrize("text", ["9", "9.", ".6", "9.6.1", "H6L9", "L9", "9H6", "L9.6", "-9.6", "9,6", "٩.٦", "9.6x"])
def test_anything_else_is_no_head(text: str) -> None:
    with pytest.raises(UsageError, match="expected a head"):
        wb.Head.parse(text)


@pytest.mark.parametrize(
    ("ids", "reasons"),
    [
        ([5], {"previous_token": "one position", "duplicate_token": "no token", "induction": "no token"}),
        ([5, 6, 7], {"duplicate_token": "no token", "induction": "no token"}),
        ([5, 5], {"duplicate_token": "no other position", "induction": "side by side"}),
        ([5, 6, 5], {"induction": "no other position"}),
        ([5, 5, 6], {"induction": "side by side"}),
        ([5, 6, 5, 7], {}),
    ],
)
def test_what_a_prompt_lacks_is_said_of_the_score_that_needs_it(
    model: wb.HookedLM, ids: list[int], reasons: dict[str, str]
) -> None:
    row = (torch.tensor(ids),)
    result = wb.scores_on(model, wb.PairedInputs("mine", row, row), cache=False)
    reason_of = {name: reason for reason, names in result.absent.items() for name in names}
    for name in ("direct_logit_attribution", "logit_lens"):
        assert "no answers" in reason_of.pop(name)
    assert reason_of.keys() == reasons.keys()
    for name, words in reasons.items():
        assert words in reason_of[name] and np.isnan(result[name]).all() and result.positions[name] == 0
        (reason,) = result.without_value(name)
        assert reason == reason_of[name] and len(result.without_value(name)[reason]) == 16


def test_layers_without_shares_of_attention_say_so_of_each_head() -> None:
    one = wb.scores(wb.load("tiny", operators={"1": "lightning"}), cache=False, random_baseline=False)
    for name in ("induction", "sink", "similarity"):
        ((reason, heads),) = one.without_value(name).items()
        assert "lightning" in reason and heads == [wb.Head(1, j) for j in range(8)]
        assert one.ranking(name)["head"].str.startswith("0.").all()
    every = wb.scores(wb.load("tiny", operators={"all": "mlp"}), cache=False, random_baseline=False)
    reason_of = {name: reason for reason, names in every.absent.items() for name in names}
    assert "no matrix" in reason_of["sink"] and "no matrix" in reason_of["similarity"] and every.ranking("sink").empty


def test_uniform_patterns_have_no_cosine() -> None:
    scores = wb.scores(wb.load("tiny", operators={"0": "uniform"}), cache=False, random_baseline=False)
    assert np.isnan(scores["similarity"][0]).all() and np.isfinite(scores["similarity"][1]).all()
    pairs = scores.pairs["similarity"]
    assert np.isnan(pairs[:8]).all() and np.isnan(pairs[:, :8]).all() and np.isfinite(pairs[8, 9:]).all()
    ((reason, heads),) = scores.without_value("similarity").items()
    assert "uniform attention" in reason and len(heads) == 8
    every = wb.scores(wb.load("tiny", operators={"all": "uniform"}), cache=False, random_baseline=False)
    assert list(every.absent.values()) == [["similarity"]] and "uniform attention" in next(iter(every.absent))


def test_heads_of_the_first_layer_and_heads_of_zeros_say_why(model: wb.HookedLM, scores: wb.HeadScores) -> None:
    first = [wb.Head(0, j) for j in range(8)]
    assert scores.without_value("q_composition") == {"no layer is earlier.": first}
    assert scores.without_value("ov_norm") == {}
    zeroed = wb.HookedLM(wb.load("tiny").hf, model.tokenizer)
    weight = zeroed.hf.model.layers[1].self_attn.o_proj.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight[:, : weight.shape[1] // 8] = 0
        result = wb.scores(zeroed, wb.task("ioi", n=2), cache=False, random_baseline=False)
        weight.copy_(before)
    for name in ("copy_score", "ov_rank"):
        assert result.without_value(name) == {"its OV circuit is zero.": [wb.Head(1, 0)]}


def test_the_command_ranks_heads(capsys: pytest.CaptureFixture[str], model: wb.HookedLM) -> None:
    arguments = ["scores", "--model", "tiny", "--n", "2", "--no-random", "--score"]
    assert main([*arguments, "v_composition", "--layers", "0-1", "--top", "3", "--json"]) == 0
    ranking: dict[str, Any] = json.loads(capsys.readouterr().out)["ranking"]
    expected = wb.scores(model, wb.task("ioi", n=2), random_baseline=False).ranking("v_composition", k=3)
    assert ranking["heads"] == expected.to_dict("records") and ranking["chance"] == "unrelated heads"
    assert ranking["without_value"] == {"no layer is earlier.": [f"0.{j}" for j in range(8)]}
    assert main([*arguments, "direct_logit_attribution", "--layers", "1", "--top", "2"]) == 0
    out = capsys.readouterr().out
    assert "95 % interval" in out and "from 2 positions" in out
    assert [line.split()[1][:2] for line in out.splitlines() if line.strip()[:1].isdigit()] == ["1.", "1."]
    for wrong in (["v_composition", "--layers", "2"], ["v_composition", "--layers", "1-"], ["v_compositon"]):
        assert main([*arguments, *wrong]) == 2
    assert main(["scores", "--model", "tiny", "--layers", "1"]) == 2
