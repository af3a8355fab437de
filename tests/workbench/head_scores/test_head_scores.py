"""`wb.scores`: what it returns, keeps, refuses and writes; the formulas are checked in tests/oracle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.cli import main
from workbench.errors import BadInput, UnknownName, UsageError
from workbench.head_scores.random_weights import random_model
from workbench.head_scores.result import scores_of


def test_every_head_has_every_score_beside_its_chance_level(scores: wb.HeadScores) -> None:
    table = scores.table()
    assert list(table.name[:3]) == ["0.0", "0.1", "0.2"] and len(table) == 16
    assert set(scores.names) == set(scores_of("language"))
    for name in scores.names:
        assert f"{name}_random" in table
        assert np.isfinite(table[name]).any()
    for name in scores.samples:
        low, mean, high = (table[f"{name}{end}"].to_numpy() for end in ("_low", "", "_high"))
        assert (low <= mean).all() and (mean <= high).all() and (low < high).any()
    for name in scores.pairs:
        partner = table[f"{name}_with"]
        rows, columns = np.nonzero(partner.to_numpy()[:, None] == np.array(scores.heads)[None])
        assert np.allclose(scores.pairs[name][rows, columns], table[name][rows])
    chance = scores.chance().set_index("score")
    assert chance.loc["induction", "uniform"] == pytest.approx(0.013763, abs=1e-6)
    # a model that learned nothing is near the uniform head, and composes a little above 1 / sqrt(64) at its best
    assert chance.loc["induction", "random"] == pytest.approx(0.0138, abs=5e-4)
    assert 0.125 < chance.loc["q_composition", "random"] < 0.15
    assert scores.lens.iloc[-1]["logit_difference"] > 10
    assert "16 heads" not in repr(scores) and "2 × 8 heads of tiny, task ioi" in repr(scores)


def test_the_strongest_heads_come_first(scores: wb.HeadScores) -> None:
    best = scores.top("previous_token", 3)
    assert str(best[0][0]) == "0.3" and best[0][1] > 0.4 > best[1][1]
    sizes = [abs(value) for _, value in scores.top("direct_logit_attribution", 16)]
    assert sizes == sorted(sizes, reverse=True)
    with pytest.raises(UnknownName, match="induction"):
        scores["inducton"]
    with pytest.raises(UnknownName, match="score='copy_score': expected"):
        scores.interval("copy_score")


def test_scores_are_kept_by_the_models_hash(model: wb.HookedLM, tmp_path: Path, forwards: list[int]) -> None:
    task = wb.task("ioi", n=3, seed=0)
    first = wb.scores(model, task, cache=tmp_path)
    del forwards[:]
    again = wb.scores(model, task, cache=tmp_path)
    assert forwards == []
    for name in first.names:
        assert np.array_equal(first[name], again[name], equal_nan=True)
        assert np.array_equal(first.random[name], again.random[name], equal_nan=True)
    wb.scores(model, wb.task("ioi", n=4, seed=0), cache=tmp_path)
    # Four prompts, one again for what its last position may see, and a token, in both models; patterns and weights
    # are known.
    assert sum(forwards) == 12
    weight = model.hf.model.layers[1].self_attn.o_proj.weight
    with torch.no_grad():
        old = weight.clone()
        weight[:, :8] = 0
        try:
            changed = wb.scores(model, task, random_baseline=False, cache=tmp_path)
        finally:
            weight.copy_(old)
    assert not np.array_equal(changed["ov_norm"], first["ov_norm"])


def test_the_random_model_is_seeded_and_leaves_the_generator_alone(model: wb.HookedLM) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = random_model(model, 1), random_model(model, 1), random_model(model, 2)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(a.W_E, b.W_E) and not torch.equal(a.W_E, c.W_E)
    assert not torch.equal(a.W_E, model.W_E)


def test_scores_show_draw_and_save_themselves(scores: wb.HeadScores, tmp_path: Path) -> None:
    page = scores._repr_html_()
    assert "<table>" in page and "data:image/png" in page and "uniform head" in page
    figure: Any = scores.figure("copy_score")
    assert figure.data[0].zmin == -figure.data[0].zmax  # it can be negative: centred on 0
    assert "random weights" in figure.layout.title.subtitle.text
    figure = scores.figure("induction")
    assert figure.data[0].zmin == 0
    assert scores.picture("sink").axes
    scores.save(tmp_path / "s.safetensors")
    read = wb.HeadScores.load(tmp_path / "s.safetensors")
    assert read.table().equals(scores.table()) and read.chance().equals(scores.chance())
    assert read.lens.equals(scores.lens) and read.info == json.loads(json.dumps(scores.info))


def test_a_file_whose_numbers_were_altered_is_refused(scores: wb.HeadScores, tmp_path: Path) -> None:
    scores.save(path := tmp_path / "s.safetensors")
    data = path.read_bytes()
    place = data.index(scores["copy_score"].astype("<f8").tobytes())
    path.write_bytes(data[:place] + np.float64(0.123).tobytes() + data[place + 8 :])
    with pytest.raises(BadInput, match="altered"):
        wb.HeadScores.load(path)


def test_what_has_no_scores_is_refused(model: wb.HookedLM) -> None:
    with pytest.raises(UsageError, match="task with answers"):
        wb.scores(model, "Only a text", cache=False)
    with pytest.raises(UsageError, match="model='tiny': expected a language model"):
        wb.scores("tiny")


def test_the_command_prints_writes_and_answers_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["scores", "--model", "tiny", "--n", "4"]
    for ending in ("csv", "parquet", "safetensors"):
        assert main([*arguments, "--no-random", "--out", str(tmp_path / f"s.{ending}")]) == 0
        assert (tmp_path / f"s.{ending}").stat().st_size > 1000
    assert "previous_token" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["heads"]) == 16 and document["info"]["n"] == 4
    assert {row["score"] for row in document["chance"]} == set(scores_of("language"))
    positions = {row["score"]: row["positions"] for row in document["chance"]}
    assert positions["induction"] == document["heads"][0]["induction_positions"] == 20 * 50
    assert positions["sink"] == positions["previous_token"] + 20 and positions["copy_score"] is None
    for wrong in (["--out", "s.txt"], ["--out", "nowhere/s.csv"], ["--score", "inducton"], ["--task", "oi"]):
        assert main([*arguments, "--no-random", *wrong]) == 2
    assert main(["scores", "--model", "tiny", "--score", "induction", "--no-random", "--n", "2"]) == 0
    out = capsys.readouterr().out
    assert "entropy" not in out and "from 1,000 positions. chance: uniform attention." in out
