"""The benchmarks run, and every rival agrees with the workbench; on a random model, with no figure asserted."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import workbench
from tests.benchmarks import (
    bench_cache,
    bench_memory_rules,
    bench_operators_linear,
    bench_path,
    bench_positions,
    bench_prompt,
    bench_record,
    bench_screen,
    bench_start,
    bench_sweep,
    gpu_parts,
    on_gpu,
)
from tests.benchmarks.subject import PROMPTS, Settings, Subject, pairs_of
from tests.benchmarks.timing import Bar, Ratio, Result, Row, in_turns, sample_cells
from workbench.registry import MEMORY_RULES

QUICK = Settings(model="random", rounds=1, cells=6, prompts=4, quick=True)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    words = sorted(set(re.findall(r"\w+|[^\w\s]", (PROMPTS / "ioi.jsonl").read_text())))
    vocabulary = {word: i for i, word in enumerate(["[UNK]", *words])}
    split = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    split.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=split, unk_token="[UNK]").save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)  # TransformerLens wants one that was loaded
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        initializer_range=0.3,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    weights = LlamaForCausalLM(config).state_dict()

    def copy() -> LlamaForCausalLM:
        model = LlamaForCausalLM(config).eval()
        model.load_state_dict(weights)
        return model

    return Subject(lambda: workbench.HookedLM(copy(), tokenizer, {"name": "random"}), copy)


def test_a_sweep_agrees_with_every_rival(subject):
    result = bench_sweep.sweep_against_rivals(subject, QUICK, "ioi")
    compared = {row.what: row.difference for row in result.rows if row.difference is not None}
    assert set(compared) == set(bench_sweep.BARS["ioi"]) - {"limit"}
    assert max(compared.values()) < 1e-4
    assert largest_effect(result) > 1e-2
    assert json.loads(json.dumps(result.as_json()))["rows"]
    assert "max |difference|" in str(result)


def test_path_patching_agrees_with_the_published_procedure(subject):
    for result in bench_path.run(subject, QUICK):
        compared = [row.difference for row in result.rows if row.difference is not None]
        assert len(compared) == 2
        assert max(compared) < 1e-4
        assert largest_effect(result) > 1e-2


def test_a_sweep_over_positions_agrees_with_transformer_lens(subject):
    (result,) = bench_positions.run(subject, QUICK)
    (difference,) = [row.difference for row in result.rows if row.difference is not None]
    assert difference < 1e-4
    assert largest_effect(result) > 1e-2


def test_recording_is_timed_against_the_plain_forward(subject):
    result = bench_record.record(subject, QUICK, "ioi")
    assert [row.ratio is None for row in result.rows] == [True, False, False]


def test_a_prompts_scores_are_timed_against_the_plain_forward(subject):
    result = bench_prompt.cost(subject, QUICK, 32)
    assert [row.ratio is None for row in result.rows] == [True, False, False]


def test_screens_are_timed_against_the_sweep(subject):
    result = bench_screen.speed(subject, QUICK, "ioi", ["attribution"])
    assert [row.bar is None for row in result.rows] == [True, False]


def test_the_cache_is_timed_reading_and_filling(subject):
    result = bench_cache.read_one_head(QUICK)
    assert [row.bar is None for row in result.rows] == [False, True, False]
    result = bench_cache.record_with_cache(subject, QUICK, "ioi")
    assert [row.ratio is None for row in result.rows] == [True, False]


def test_a_load_is_timed_by_its_steps_and_a_second_look_against_an_import(tmp_path):
    tiny = replace(QUICK, model="tiny")
    (tmp_path / "models").mkdir()
    result = bench_start.loading(tiny, tmp_path)
    totals = [row.value for row in result.rows if row.ratio is None]
    assert len(totals) == 2
    assert sum("hashing" in row.what for row in result.rows) == 4  # of the file and of the tensors, twice
    result = bench_start.command(tiny, tmp_path)
    assert [row.bar is None for row in result.rows] == [False, True]


def test_every_memory_is_timed_and_the_sum_has_a_bar():
    (result,) = bench_memory_rules.run(None, QUICK)
    *rules, total, peak = result.rows
    assert [row.what for row in rules] == MEMORY_RULES.names() and len(rules) >= 9
    assert total.value == pytest.approx(sum(row.value for row in rules))  # of one round
    assert (total.bar, peak.bar) == (bench_memory_rules.BAR, bench_memory_rules.PEAK)
    assert 0.05 < peak.value < 2


def test_operators_with_a_state_are_timed_against_softmax(subject):
    (result,) = bench_operators_linear.run(subject, QUICK)
    rows = {row.what: row for row in result.rows}
    for name in bench_operators_linear.HAS_BAR:
        assert rows[f"{name}: slope"].bar is not None
    assert rows["block-linear: its state, longest over shortest"].met
    assert {len(seconds) for seconds in result.rounds.values()} == {1}


def test_what_needs_a_gpu_runs_on_the_cpu_too_and_is_not_called_verified(tmp_path, capsys):
    assert on_gpu.main(["--device", "cpu", "--quick", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "on_gpu.json").read_text())
    lines = {name: part["lines"] for name, part in report["parts"].items()}
    assert list(lines) == ["forms", "kernels", "sweeps", "statistics", "growth", "sparse", "hooks"]
    assert all(lines.values())
    of_kernels = [line for line in lines["kernels"] if line["what"].endswith(": kernel")]
    assert of_kernels and {line["not_run"] for line in of_kernels} == {"no CUDA device"}
    assert {line["met"] for line in of_kernels} == {None}
    assert "not run (no CUDA device)" in capsys.readouterr().out


def test_a_wrong_number_on_a_gpu_is_reported_and_the_other_parts_run(tmp_path, monkeypatch, capsys):
    parts = {
        "wrong": lambda scale: iter([gpu_parts.Line("z", 2.0, limit=1)]),
        "broken": lambda scale: iter([1 / 0]),
        "right": lambda scale: iter([gpu_parts.Line("z", 0.5, limit=1)]),
    }
    monkeypatch.setattr(gpu_parts, "PARTS", parts)
    assert on_gpu.main(["--device", "cpu", "--quick", "--out", str(tmp_path)]) == 1
    report = json.loads((tmp_path / "on_gpu.json").read_text())["parts"]
    assert [part["lines"][0]["met"] for part in report.values()] == [False, False, True]
    assert "ZeroDivisionError" in report["broken"]["lines"][0]["not_run"]
    assert "NOT all limits are met" in capsys.readouterr().out
    assert on_gpu.main(["right", "--device", "cpu", "--out", str(tmp_path)]) == 0


def test_without_a_gpu_nothing_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert on_gpu.main(["--out", str(tmp_path)]) == 4
    assert capsys.readouterr().err.startswith("on_gpu: no CUDA device, so nothing was run")
    assert not list(tmp_path.iterdir())


def largest_effect(result: Result) -> float:
    (note,) = [note for note in result.notes if note.startswith("Largest effect")]
    return float(note.split()[-2])


@pytest.mark.parametrize("name", ["ioi", "colored_objects"])
def test_the_prompts_are_eight_pairs_whose_answers_are_swapped(name):
    pairs = pairs_of(name)
    assert len(pairs) == 8
    assert len({pair.clean for pair in pairs.items}) == 8
    for pair in pairs.items:
        assert pair.clean != pair.corrupt
        assert pair.answer[0].strip().lower() in pair.clean.lower()
        assert pair.wrong[0].strip().lower() in pair.clean.lower()
    assert [p.clean for p in pairs_of(name, 10).items[8:]] == [p.clean for p in pairs.items[:2]]


def test_ratios_are_taken_within_a_round_and_contestants_take_turns():
    order: list[str] = []
    seconds = {"a": iter([2.0, 9.0, 4.0]), "b": iter([1.0, 3.0, 4.0])}

    def contestant(name: str):
        def work() -> float:
            order.append(name)
            return next(seconds[name])

        return work

    measured = in_turns({name: contestant(name) for name in seconds}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert Ratio.within_rounds(measured["a"], measured["b"], "b") == Ratio(2.0, 1.0, 3.0, "b")


def test_a_row_says_whether_its_bar_is_met():
    assert Row("rival", 9.0, ratio=Ratio(9.5, 8, 10, "ours"), bar=Bar(9)).met is True
    assert Row("limit", 9.0, ratio=Ratio(1.4, 1, 2, "it"), bar=Bar(1.3, "≤")).met is False
    assert Row("help", 0.4, bar=Bar(0.5, "≤")).met is True
    assert Row("ours", 0.4).met is None


def test_the_cells_to_time_hold_the_strongest_and_cross_the_grid():
    cells = [(layer, head) for layer in range(5) for head in range(4)]
    effect = torch.zeros(5, 4, 2).numpy()
    effect[3, 1] = -1
    timed = sample_cells(cells, effect, 6)
    assert timed[0] == (3, 1)
    assert len(set(timed)) == 6
    assert {layer for layer, _ in timed} == set(range(5))
