"""Valid calls of what takes a language model or prompts, and the odd values that they take."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import workbench as wb
from tests.conformance.arguments.odd_values import ANY_TEXT, FUNCTIONS, MAPPINGS, ONE_TEXT, TEXTS


@cache
def model() -> Any:
    return wb.load("tiny")


@cache
def task() -> Any:
    return wb.task("ioi", n=2)


@cache
def inputs() -> Any:
    return task().inputs(model().tokenizer)


@cache
def sweep() -> wb.Sweep:
    return wb.sweep(model(), task(), cache=False)


PAIR = wb.Pair("So Mary met John", "So Anna met John", (" Mary",), (" Anna",), (" Mary", " Anna"))


def saved(result: Any, name: str) -> str:
    result.save(name)
    return name


def pairs_file() -> str:
    Path("pairs.csv").write_text("clean,corrupt,answer,wrong\na,b, c, d\n", encoding="utf-8")
    return "pairs.csv"


#: What a parameter of one call takes besides.
TAKES: dict[str, set[str]] = {
    "Attention.html.position": {"-1", "0"},
    "Attention.table.dest": {"-1", "0", "None"},
    "Attention.table.src": {"-1", "0", "None"},
    "Edit.attend_to": {"-1", "0", "huge", *ONE_TEXT, "{word: 1}"},
    "Edit.head": {"0", "huge", "None"},
    "Edit.kind": FUNCTIONS,
    "Edit.layer": {"0", "huge"},
    "Edit.position": {"-1", "0", "huge", *TEXTS, "None"},
    "Edit.step": {"0", "huge", "None"},
    "HeadScores.ranking.k": {"None"},
    "Outcome.scores.metric": {"None"},
    "path_patch.metric": {"None"},
    "scores_on.prompts": ONE_TEXT,
    "Head.index": {"0", "huge"},
    "Head.layer": {"0", "huge"},
    **{f"Anatomy.{field.name}": ANY_TEXT for field in dataclasses.fields(wb.Anatomy) if field.default == ""},
    **{f"Anatomy.{name}": {"True"} for name in ("heads_first", "rotary", "parallel")},
    "HookedLM.check": {"True"},
    "HookedLM.provenance": {"None", *MAPPINGS},
    "HookedLM.forward.input": ONE_TEXT,
    "PairedInputs.regions": {"[]"},
    "HookedLM.forward.attention_mask": {"None"},
    "HookedLM.forward.prepend_bos": {"None"},
    "HookedLM.forward.return_type": {"None"},
    "HookedLM.to_tokens.input": ONE_TEXT,
    "HookedLM.to_tokens.prepend_bos": {"None"},
    "HookedLM.to_str_tokens.input": TEXTS,
    "HookedLM.tokens_to_residual_directions.tokens": {"0", "[[0]]", "[0, 0]"},
    "MemoryCurve.capacity.limit": {"-1", "0", "0.5", "huge"},
    "ModelView.of.score": ANY_TEXT,
    "OperatorView.charts.shares": {"True"},
    "OperatorView.limits.shares": {"True"},
    "OperatorView.matrices.shares": {"True"},
    "Outcome.scores.base": {"True"},
    "PairedInputs.groups.causal": {"True"},
    "Pair.answer": ONE_TEXT,
    "Pair.clean": TEXTS,
    "Pair.corrupt": TEXTS,
    "Pair.corrupt_positions": {"{}"},
    "Pair.options": {*ONE_TEXT, "[]"},
    "Pair.positions": {"{}"},
    "Pair.wrong": ONE_TEXT,
    "PairedInputs.bos": {*ANY_TEXT, "None"},
    "PairedInputs.dropped": {"0", "huge"},
    "PairedInputs.meta": MAPPINGS,
    "PairedInputs.name": TEXTS,
    "PairedInputs.seed": {"-1", "None"},
    "PairedInputs.place.example": {"0"},
    "PairedInputs.where": {"[]"},
    "PairedInputs.texts": {"[]"},
    "PairedInputs.sources": {"[]"},
    "PairedInputs.info": MAPPINGS,
    "PositionAttention.strongest_head.position": {"-1", "0"},
    "prompt_pair.answer": {"None"},
    "prompt_pair.wrong": {"None"},
    "PairedInputs.groups.at_most": {"huge", "None"},
    "PairedInputs.of.examples": {"0", "[0, 0]"},
    "Pairs.name": TEXTS,
    "Pairs.where": ONE_TEXT,
    "Pairs.skip": {"True"},
    "pairs.skip": {"True"},
    "read_pairs.skip": {"True"},
    "Sweep.base": {"[0, 0]"},
    "Sweep.info": MAPPINGS,
    "Sweep.labels": {"{}"},
    "Sweep.source": {"None", "[0, 0]"},
    "Sweep.name.index": {"[0, 0]"},
    "Sweep.of.examples": {"0", "[0, 0]"},
    "attention_at.position": {"-1", "0"},
    "attention_at.prompt": {*TEXTS, "[0, 0]"},  # two token ids
    "attention_between.dest": {"-1", "0"},
    "attention_between.prompt": {*TEXTS, "[0, 0]"},
    "attention_between.src": {"-1", "0"},
    "attention_view.prompt": {*TEXTS, "[0, 0]"},  # two token ids
    "estimate.task": ONE_TEXT,
    "generate.max_new_tokens": {"0"},
    "generate.chat": {"True"},
    "generate.prompt": TEXTS,
    "generations.chat": {"True"},
    "generations.max_new_tokens": {"0"},
    "generations.prompt": TEXTS,
    "memory.d_value": {"None"},
    "model_view.prompt": {*TEXTS, "[0, 0]"},  # two token ids
    "model_view.score": ANY_TEXT,
    "model_view.size": {"huge"},
    "operator_view.prompt": {*TEXTS, "[0, 0]"},  # two token ids
    "operator_view.bidirectional": {"True"},
    "load.bidirectional": {"True"},
    "load.operators": {"None"},
    "load.accept_licence": {"True", *TEXTS, "None"},
    "load.device": {"None"},
    "load.dtype": {"None"},
    "pairs.answer": {"[word]"},
    "pairs.clean": {"[word]"},
    "pairs.corrupt": {"[word]"},
    "pairs.name": TEXTS,
    "pairs.options": {"None", "[None]"},
    "pairs.positions": {"[None]"},
    "pairs.wrong": {"[word]"},
    "path_patch.into": {"None"},
    "path_patch.position": {"-1", "0", "None"},
    "path_patch.receivers": {"None"},
    "path_patch.share_kv": {"True"},
    "record.task": ONE_TEXT,
    "run.inputs": ONE_TEXT,
    "run.unedited": {"True"},
    "scores.random_baseline": {"True"},
    "scores.task": {"None"},
    "screen.attend_to": {"-1", "0"},
    "screen.confirm": {"0.5"},
    "screen.metric": {"None"},
    "screen.positions": {"-1", "0"},
    "sweep.attend_to": {"-1", "0"},
    "sweep.metric": {"None"},
    "sweep.positions": {"-1", "0"},
    "swap.before": {"0", "huge"},  # read by operators on grids alone
    "swap.bidirectional": {"True"},
    "swap.data": {"None", "{}"},
    "swap.grid": {"[]"},
    "swap.text": {"None", *TEXTS},  # read by operators with a fixed text alone
    "sweep_sets.metric": {"None"},
    "tiny.bidirectional": {"True"},
    "tiny.kv_heads": {"None"},
    "tiny.operators": {"None"},
}

#: An object of each class, whose methods are called.
INSTANCES: dict[str, Callable[[], Any]] = {
    "Attention": lambda: wb.attention_view(model(), "So Mary met John", 0, 0, cache=False),
    "AttentionBetween": lambda: wb.attention_between(model(), "So Mary met John", 2, 1),
    "Edit": lambda: wb.Edit("z", 0, 0),
    "Estimate": lambda: wb.estimate(model(), task(), cache=False),
    "Generations": lambda: wb.generations(model(), "So Mary met John", max_new_tokens=2),
    "Anatomy": lambda: wb.Anatomy(layers="blocks", attention="attn"),
    "Head": lambda: wb.Head(0, 1),
    "HeadScores": lambda: wb.scores_on(model(), task(), cache=False),
    "HookedLM": model,
    "MemoryCurve": lambda: wb.memory(d=4, n=[2, 4], trials=3),
    "ModelView": lambda: wb.model_view(model(), "So Mary met John", cache=False),
    "OperatorView": lambda: wb.operator_view(model(), "So Mary met John", 0, 0, "softmax", cache=False),
    "Outcome": lambda: wb.run(model(), task(), [wb.Edit("z", 0, 0)], cache=False),
    "Pair": lambda: PAIR,
    "PairedInputs": inputs,
    "PositionAttention": lambda: wb.attention_at(model(), "So Mary met John", 2),
    "Pairs": lambda: wb.pairs([PAIR.clean], [PAIR.corrupt], [" Mary"], [" Anna"]),
    "Recording": lambda: wb.record(model(), task(), cache=False),
    "Screen": lambda: wb.screen(model(), task(), cache=False),
    "Sizes": lambda: wb.Sizes(2, 4, 4, 8, 32),
    "Sweep": sweep,
}

#: What required parameters are given.
VALID: dict[str, Callable[[], Any]] = {
    "model": model,
    "task": task,
    "inputs": task,
    "prompts": task,
    "edits": lambda: [wb.Edit("z", 0, 0, kind="zero")],
    "prompt": lambda: "So Mary met John",
    "sets": lambda: {"one": [wb.Head(0, 0)]},
    "tokenizer": lambda: model().tokenizer,
    "cache": lambda: False,
    "layer": lambda: 0,
    "head": lambda: 0,
    "operator": lambda: "softmax",
}

#: Call, or call and the parameter that varies → further arguments with which it runs.
VALID_IN: dict[str, Callable[[], dict[str, Any]]] = {
    "Edit": lambda: {"site": "z"},
    "Edit.attend_to": lambda: {"site": "pattern", "kind": "pattern"},
    "Edit.factor": lambda: {"kind": "scale"},
    "Edit.vector": lambda: {"kind": "add"},
    "Edit.u": lambda: {"site": "pattern", "kind": "identity"},
    "Head": lambda: {"layer": 0, "index": 1},
    "Head.parse": lambda: {"text": "9.6"},
    "HeadScores.figure": lambda: {"score": "locality"},
    "HeadScores.chance_level": lambda: {"score": "locality"},
    "HeadScores.interval": lambda: {"score": "locality"},
    "HeadScores.ranking": lambda: {"score": "locality"},
    "HeadScores.without_value": lambda: {"score": "locality"},
    "HeadScores.load": lambda: {"path": saved(INSTANCES["HeadScores"](), "scores.safetensors")},
    "HeadScores.picture": lambda: {"score": "locality"},
    "HeadScores.save": lambda: {"path": "scores.safetensors"},
    "HeadScores.top": lambda: {"score": "locality"},
    "HookedLM": lambda: {"hf": model().hf},
    "Sizes": lambda: {"n_layers": 2, "n_heads": 4, "n_kv_heads": 4, "d_head": 8, "d_model": 32},
    "HookedLM.hook_name": lambda: {"site": "z"},
    "HookedLM.forward": lambda: {"input": "So Mary met John"},
    "HookedLM.to_tokens": lambda: {"input": "So Mary met John"},
    "HookedLM.to_str_tokens": lambda: {"input": "So Mary met John"},
    "HookedLM.to_single_token": lambda: {"string": "Mary"},
    "HookedLM.tokens_to_residual_directions": lambda: {"tokens": 3},
    "MemoryCurve.capacity": lambda: {"limit": 0.5},
    "MemoryCurve.load": lambda: {"path": saved(INSTANCES["MemoryCurve"](), "curve.safetensors")},
    "MemoryCurve.save": lambda: {"path": "curve.safetensors"},
    "memory": lambda: {"d": 4, "n": 4, "trials": 3},
    "ModelView.of": lambda: {"heads": [wb.Head(0, 1)]},
    "Pair": lambda: {"clean": "a", "corrupt": "b", "answer": ("c",), "wrong": ("d",)},
    "Pairs": lambda: {"items": (PAIR,), "where": ("pair 1",)},
    "PairedInputs": lambda: {field.name: getattr(inputs(), field.name) for field in dataclasses.fields(inputs())},
    "PairedInputs.place": lambda: {"example": 0},
    "PositionAttention.over_heads": lambda: {"over": "mean"},
    "PositionAttention.strongest_head": lambda: {"position": 1},
    "attention_between": lambda: {"dest": -1, "src": 0},
    "check_pairs": lambda: {"pairs": INSTANCES["Pairs"]()},
    "prompt_pair": lambda: {"clean": "Then, Mary and John", "corrupt": "Then, Paul and John"},
    "PairedInputs.of": lambda: {"examples": [0]},
    "Sweep": lambda: {"values": np.zeros((1, 1, 2)), "base": np.zeros(2), "source": None, "axes": ("layer", "head")},
    "Sweep.load": lambda: {"path": saved(sweep(), "sweep.safetensors")},
    "Sweep.name": lambda: {"index": (0, 0)},
    "Sweep.of": lambda: {"examples": [0]},
    "Sweep.save": lambda: {"path": "sweep.safetensors"},
    "Sweep.top": lambda: {"k": 1},
    "Sweep.top.percent": lambda: {"k": None},
    "Screen.top": lambda: {"k": 1},
    "Screen.top.percent": lambda: {"k": None},
    "load": lambda: {"name": "tiny"},
    "swap": lambda: {"operators": {0: "softmax"}},
    "pairs": lambda: {"clean": ["a"], "corrupt": ["b"], "answer": [" c"], "wrong": [" d"]},
    "path_patch": lambda: {"receivers": [wb.Head(1, 0)]},
    "read_pairs": lambda: {"path": pairs_file()},
    "sweep.attend_to": lambda: {"edit": "pattern", "site": "pattern"},
    "sweep.factor": lambda: {"edit": "scale"},
    "sweep.vector": lambda: {"edit": "add"},
    "sweep_sets.factor": lambda: {"edit": "scale"},
    "sweep_sets.vector": lambda: {"edit": "add"},
    "sweep.u": lambda: {"edit": "identity", "site": "pattern"},
    "sweep.mean_over": lambda: {"edit": "mean"},
    "sweep.positions": lambda: {"by": ["head", "position"]},
    "screen.attend_to": lambda: {"edit": "pattern", "site": "pattern"},
    "screen.factor": lambda: {"edit": "scale"},
    "screen.vector": lambda: {"edit": "add"},
    "screen.u": lambda: {"edit": "identity", "site": "pattern"},
    "screen.mean_over": lambda: {"edit": "mean"},
    "task": lambda: {"name": "ioi"},
}
